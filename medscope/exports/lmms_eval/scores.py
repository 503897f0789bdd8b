"""The functions that the tasks name: what is shown and asked, the scores of a reply, their means.

A document in quarantine has None for every other metric, and no mean counts it.
"""

from collections.abc import Sequence
from typing import Any

from medscope.evaluation.benchmark import question_metrics
from medscope.exports.lmms_eval.replies import prediction_of, task_of
from medscope.records import Task, Window

SHARED = ("evidence_miou", "accuracy")
GROUNDING = ("tg_r30", "tg_r50", "tg_r70", "tg_miou", *SHARED)  # of a task whose reference is a window
VQA = ("vqa_acc", "vqa_miou", *SHARED)  # of the others


def metrics_of(task: Task) -> tuple[str, ...]:
    """The metrics of the benchmark that a task counts for."""
    return GROUNDING if isinstance(task.reference, Window) else VQA


def video(doc: dict[str, Any]) -> list[str]:
    """The path of the video."""
    return [task_of(doc).path]


def question(doc: dict[str, Any], lmms_eval_specific_kwargs: dict[str, str] | None = None) -> str:
    """The question, between what a model is told before and behind it."""
    told = lmms_eval_specific_kwargs or {}
    return told.get("pre_prompt", "") + task_of(doc).question + told.get("post_prompt", "")


def scores(doc: dict[str, Any], results: Sequence[str]) -> dict[str, float | None]:
    """The metrics of one reply, by the benchmark's own function; `quarantined` is 0 or 1."""
    task = task_of(doc)
    prediction = prediction_of(task, results[0])
    if prediction is None:
        return {**dict.fromkeys(metrics_of(task)), "quarantined": 1.0}
    found = question_metrics(prediction)
    return {**{name: found[name] for name in metrics_of(task)}, "quarantined": 0.0}


def mean(values: Sequence[float | None]) -> float:
    """The mean of those that count; NaN where none does."""
    counted = [value for value in values if value is not None]
    return sum(counted) / len(counted) if counted else float("nan")
