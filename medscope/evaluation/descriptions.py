"""SVU-31K's protocol on our splits: descriptions and reasoning in free text, scored against the reference's words.

Four tasks (`suite.open_questions`): full and fine (clip) description, temporal and perception reasoning. N-gram scores
of the field's packages for all four; CI, DO, CU and TU of the descriptions where a judge is at hand.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from medscope.evaluation.benchmark import Outcome, run_policy
from medscope.environment.dialogue import parse_answer
from medscope.evaluation.endpoint import Endpoint
from medscope.metrics import bootstrap_interval
from medscope.agents.policy import Policy
from medscope.records import Task
from medscope.suite.build import Suite
from medscope.suite.free_text import OPEN_FAMILIES, OPEN_KINDS
from medscope.evaluation.text_metrics import ngram_scores, rated
from medscope.environment.tools import ToolBudget
from medscope.environment.video import FrameStore

DESCRIBED = ("full", "fine")  # the tasks that the judge rates
FROM_THE_SKIM = ("full", "temporal")  # nobody is taught to answer the others without tools


def asked_openly(suite: Suite, family: str, kind: str, most: int | None = None) -> list[Task]:
    """The open questions of a kind on the held-out videos of a family, at most `most`."""
    found = [q for q in suite.question_list if q.split == "eval" and q.family == family and q.kind == kind]
    return found[:most]


def text_scores(outcomes: Sequence[Outcome], endpoint: Endpoint | None = None) -> dict[str, Any]:
    """Scores of one system on one task: `exact` match with its 95 % interval, n-grams, the judge's ratings if asked."""
    texts = [parse_answer(o.turns[-1]) or "" for o in outcomes]
    references = [o.question.answer for o in outcomes]
    exact, videos = [o.accuracy for o in outcomes], [o.question.video for o in outcomes]
    scores = {"exact": float(np.mean(exact)), "exact_ci": list(bootstrap_interval(exact, videos))}
    scores |= ngram_scores(texts, references)
    if endpoint and outcomes[0].question.kind in DESCRIBED:
        scores |= rated(endpoint, texts, references)
    return {
        **scores,
        "looked": float(np.mean([any(c.executed for c in o.calls) for o in outcomes])),
        "questions": len(outcomes),
    }


def describe_systems(
    suite: Suite,
    policies: dict[str, Policy],
    store: FrameStore,
    budget: ToolBudget,
    most: int | None = None,
    judge: str = "exact",
) -> dict[str, dict[str, dict[str, Any]]]:
    """split -> `task system` -> scores. Systems: those of `policies`, and `uniform` (the SFT policy without tools)
    for the tasks that the skim can answer."""
    endpoint = Endpoint() if judge == "llm" else None
    systems = {"uniform": (policies["sft"], False), **{name: (policy, True) for name, policy in policies.items()}}
    table: dict[str, dict[str, dict[str, Any]]] = {}
    for family in OPEN_FAMILIES:
        rows = table[family] = {}
        for kind in OPEN_KINDS:
            questions = asked_openly(suite, family, kind, most)
            for name, (policy, tools) in systems.items():
                if not tools and kind not in FROM_THE_SKIM:
                    continue
                label = f"{family} {kind} {name}"
                found = run_policy(policy, questions, suite.recordings_by_video, store, budget, tools, label=label)
                rows[f"{kind} {name}"] = text_scores(found, endpoint)
    return table
