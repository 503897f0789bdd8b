"""ClinVideoSuite from a source: splits, captions, tasks, warm-up examples and trajectories, written as JSON lines.

`build_suite` writes what `suite.Suite` reads; `summarise` counts it. All is made in memory and written at the end.
"""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from medscope.environment import ClinicalVideoEnvironment, FrameStore, ToolBudget
from medscope.files import write_jsonl
from medscope.ranks import gathered, is_first_process
from medscope.records import Split
from medscope.sources.source import Source
from medscope.suite.captioned_frames import captioned_frames
from medscope.suite.captions import captions
from medscope.suite.free_text import free_text_tasks
from medscope.suite.nested_tasks import is_nested, nested_tasks, outline
from medscope.suite.recall import recall_examples, told_words
from medscope.suite.sampling import sample_tasks
from medscope.suite.search_warm_up import LATEST_SECOND, search_examples
from medscope.suite.splits import SHARES, assign_splits
from medscope.suite.suite import Suite
from medscope.suite.tasks import GROUNDING, closed_tasks
from medscope.suite.trajectories import make_trajectories
from medscope.suite.warm_up import captioned_examples, framed_examples, vocabulary

ENOUGH = 500  # tasks of a collection; the share of one answer among fewer is noise


def build_suite(
    folder: str | Path,
    source: Source,
    store: FrameStore,
    budget: ToolBudget,
    *,
    skims_per_question: int = 2,
    captioned: int = 0,
    recalled: int = 0,
    captioned_frames_per_video: int = 0,
    looks_per_question: int = 1,
    questions_per_video: int = 8,
    free_text_per_video: int = 2,
    boundary_slack: float = 0.6,
    direct_share: float = 0.2,
    seed: int = 0,
    shares: Mapping[Split, float] = SHARES,
) -> Counter[str]:
    """Caption, ask, verify and teach; write the suite to `folder`. Returns why how many trajectories were rejected.

    Closed tasks: all of warm-up and eval, at most `questions_per_video` per video of sft and rl. Free-text tasks: all
    of eval, at most `free_text_per_video` of sft. Trajectories are made for sft; warm-up examples for warm-up: of
    frames, `captioned` of captions, `recalled` of recall; and `captioned_frames_per_video` of all splits but eval.
    Videos without a published split are assigned one by `shares`. Several processes share what needs frames, and the
    first one writes; the suite is the same.
    """
    drawn = gathered(list(source.recordings()) if is_first_process() else None)[0]
    recordings = assign_splits(drawn, shares, seed)
    by_video, language = {recording.video: recording for recording in recordings}, source.language

    nested = any(map(is_nested, recordings))
    ask = nested_tasks if nested else closed_tasks
    closed = [t for i, r in enumerate(recordings) for t in ask(r, language, np.random.default_rng([seed, 2, i]))]
    described = [
        t
        for i, r in enumerate(map(outline, recordings))
        for t in free_text_tasks(r, language, np.random.default_rng([seed, 8, i]))
    ]
    sft = sample_tasks(closed, "sft", questions_per_video, seed)
    sft_free_text = sample_tasks(described, "sft", free_text_per_video, seed)
    tasks = [
        *(task for task in closed if task.split in ("warm_up", "eval")),
        *sft,
        *sample_tasks(closed, "rl", questions_per_video, seed),
        *sft_free_text,
        *(task for task in described if task.split == "eval"),
    ]

    first = [task for task in closed if task.split == "warm_up"]
    if nested:
        told, shown = (
            search_examples(first, by_video, store, budget, words, skims_per_question, looks_per_question, seed)
            for words in (True, False)
        )
        examples = [told[i] for i in sorted(np.random.default_rng([seed, 11]).permutation(len(told))[:captioned])]
        shown_first = [recording for recording in recordings if recording.split == "warm_up"]
        examples += recall_examples(recalled, told_words(shown_first), LATEST_SECOND, seed)
        trained = [recording for recording in recordings if recording.split != "eval"]
        examples += captioned_frames(trained, captioned_frames_per_video, budget, seed)
        examples += shown
    else:
        words = vocabulary(recording for recording in recordings if recording.split == "warm_up")
        templates = language.templates.get(GROUNDING, ())
        examples = captioned_examples(captioned, words, templates, budget.skim_frames, boundary_slack, seed)
        examples += framed_examples(
            first,
            by_video,
            store,
            budget,
            language.describe,
            skims_per_question,
            looks_per_question,
            boundary_slack,
            seed,
        )
    environment = ClinicalVideoEnvironment(store, budget)
    trajectories, rejected = make_trajectories(
        [*sft, *sft_free_text], by_video, environment, language.describe, boundary_slack, direct_share, seed
    )
    for name, records in {
        "recordings": recordings,
        "captions": [caption for recording in recordings for caption in captions(recording, language)],
        "tasks": tasks,
        "warm_up_examples": examples,
        "trajectories": trajectories,
    }.items():
        if is_first_process():
            write_jsonl(Path(folder) / f"{name}.jsonl", records)
    gathered(None)  # the suite is there before any process goes on
    return rejected


def summarise(suite: Suite, rejected: Mapping[str, int]) -> dict[str, Any]:
    """Counts per split, rejections, and the chance level.

    It is the share of a collection's tasks that are right where every question of a kind gets the most frequent answer
    of its kind: the largest share of all collections with ENOUGH tasks.
    """
    closed = [task for task in suite.tasks if not task.free_text and task.challenging]
    tasks = Counter(task.collection for task in closed)
    answers = Counter((t.collection, t.kind, t.reference) for t in closed)
    best: dict[tuple[str, str], int] = {}
    for (collection, kind, _), count in answers.items():
        best[collection, kind] = max(best.get((collection, kind), 0), count)
    shares = [
        sum(count for (collection, _), count in best.items() if collection == name) / number
        for name, number in tasks.items()
        if number >= ENOUGH
    ]
    splits = {split: _counts(suite, split) for split in sorted({r.split for r in suite.recordings})}
    return {"splits": splits, "rejected": dict(rejected), "chance": round(max(shares, default=0.0), 3)}


def _counts(suite: Suite, split: Split) -> dict[str, float]:
    """Videos, hours, tasks and what is made of them; only what the split has."""
    recordings = [recording for recording in suite.recordings if recording.split == split]
    counts = {
        "videos": len(recordings),
        "hours": round(sum(recording.duration for recording in recordings) / 3600, 2),
        "tasks": len(suite.select(split)),
        "free_text_tasks": len(suite.select(split, free_text=True)),
        "warm_up_examples": len(suite.warm_up_examples) if split == "warm_up" else 0,
        "trajectories": sum(trajectory.task.split == split for trajectory in suite.trajectories),
    }
    return {name: count for name, count in counts.items() if count}
