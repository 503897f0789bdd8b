"""Free text after SVU-31K's protocol: descriptions and reasoning, scored against the words of the reference.

Four kinds of free-text tasks: `full` and `fine` (clip) descriptions, `temporal` and `perception` reasoning. N-gram
scores for all four; CI, DO, CU and TU of the descriptions where a judge rated them (`rated` does, before the
predictions are written).
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from medscope.evaluation.endpoint import Endpoint
from medscope.evaluation.judge import text_of
from medscope.evaluation.predictions import Prediction, by_set
from medscope.evaluation.statistics import bootstrap_interval
from medscope.evaluation.text_metrics import RATINGS, ngram_scores, rate
from medscope.records import Task
from medscope.suite.free_text import FROM_THE_SKIM
from medscope.suite.suite import evenly

DESCRIBED = ("full", "fine")  # the kinds that the judge rates


def free_text_groups(tasks: Sequence[Task], most: int | None, tools: bool) -> list[list[Task]]:
    """Free-text tasks per eval set and kind, at most `most` of each (None: all); without tools those of the skim."""
    groups: dict[tuple[str, str], list[Task]] = {}
    for task in tasks:
        if tools or task.kind in FROM_THE_SKIM:
            groups.setdefault((task.collection, task.kind), []).append(task)
    return [evenly(group, most) for group in groups.values()]


def rated(predictions: Sequence[Prediction], endpoint: Endpoint) -> list[Prediction]:
    """The predictions, those of descriptions with the judge's ratings. Raises `JudgeError`."""
    described = [i for i, p in enumerate(predictions) if p.task.kind in DESCRIBED]
    texts = [predictions[i].answer or "" for i in described]
    references = [text_of(predictions[i].task.reference) for i in described]
    found = dict(zip(described, rate(endpoint, texts, references), strict=True))
    return [replace(p, ratings=found[i]) if i in found else p for i, p in enumerate(predictions)]


def text_scores(predictions: Sequence[Prediction]) -> dict[str, Any]:
    """Scores of one system on one kind: `exact` match with its 95 % interval, n-grams, mean ratings if there are any.

    `looked` is the share of answers after an executed tool call.
    """
    texts = [p.answer or "" for p in predictions]
    exact, videos = [p.accuracy for p in predictions], [p.task.video for p in predictions]
    scores: dict[str, Any] = {"exact": float(np.mean(exact)), "exact_ci": list(bootstrap_interval(exact, videos))}
    scores |= ngram_scores(texts, [text_of(p.task.reference) for p in predictions])
    if all(p.ratings for p in predictions):
        scores |= {name: float(np.mean([p.ratings[name] for p in predictions])) for name in RATINGS}
    return {
        **scores,
        "looked": float(np.mean([bool(p.looks) for p in predictions])),
        "questions": len(predictions),
    }


def descriptions_table(systems: Mapping[str, Sequence[Prediction]]) -> dict[str, dict[str, dict[str, Any]]]:
    """metrics/descriptions.json: {eval set: {`kind system`: scores}} from the free-text predictions of each system."""
    table: dict[str, dict[str, dict[str, Any]]] = {}
    for system, predictions in systems.items():
        for name, some in by_set(predictions).items():
            for kind in dict.fromkeys(p.task.kind for p in some):
                scores = text_scores([p for p in some if p.task.kind == kind])
                table.setdefault(name, {})[f"{kind} {system}"] = scores
    return table
