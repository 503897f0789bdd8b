"""The functions that the tasks name: what is shown and asked, the scores of a reply, their means.

A metric that does not count for a document is None there, and no mean counts it.
"""

from collections.abc import Sequence
from typing import Any

from medscope.evaluation.benchmark import per_question
from medscope.exports.lmms_eval.replies import prediction_of, task_of

METRICS = ("tg_r30", "tg_r50", "tg_r70", "tg_miou", "vqa_acc", "vqa_miou", "evidence_miou", "accuracy")


def video(doc: dict[str, Any]) -> list[str]:
    """The path of the video."""
    return [task_of(doc).path]


def question(doc: dict[str, Any], lmms_eval_specific_kwargs: dict[str, str] | None = None) -> str:
    """The question, between what a model is told before and behind it."""
    told = lmms_eval_specific_kwargs or {}
    return told.get("pre_prompt", "") + task_of(doc).question + told.get("post_prompt", "")


def scores(doc: dict[str, Any], results: Sequence[str]) -> dict[str, float | None]:
    """Every metric of the benchmark for one reply, by the benchmark's own function; `quarantined` is 0 or 1."""
    prediction = prediction_of(task_of(doc), results[0])
    if prediction is None:
        return {**dict.fromkeys(METRICS), "quarantined": 1.0}
    columns = per_question([prediction])
    values = {name: columns[name][0] for name in METRICS}
    return {**{name: some[0] if some else None for name, some in values.items()}, "quarantined": 0.0}


def mean(values: Sequence[float | None]) -> float:
    """The mean of those that count; NaN where none does."""
    counted = [value for value in values if value is not None]
    return sum(counted) / len(counted) if counted else float("nan")
