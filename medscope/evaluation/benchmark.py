"""The benchmark's tables, as pure functions of predictions: scores with intervals, paired differences, gains.

metrics/evaluate.json is `benchmark_table`: {system: {eval set: {metric, metric_ci}}}. Intervals are 95 % bootstrap
intervals that resample videos.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from medscope.environment.grammar import parse_window
from medscope.evaluation.predictions import Prediction, aligned, by_set
from medscope.metrics import (
    bootstrap_interval,
    evidence_precision,
    evidence_recall,
    evidence_window,
    paired_difference,
    recall_at,
    temporal_iou,
)
from medscope.records import Window
from medscope.rewards import turns_format_reward

Scores = dict[str, float | list[float] | None]
GAINS = ("evidence_miou", "tg_r70", "accuracy", "evidence_recall", "evidence_precision")


def answer_iou(prediction: Prediction) -> float:
    """IoU of the window that the answer names with the reference window; 0 where it names none."""
    window = parse_window(prediction.answer)
    return temporal_iou(window, prediction.task.reference) if window else 0.0


def look_iou(prediction: Prediction) -> float:
    """IoU of the last executed crop with the evidence; 0 without a crop."""
    window = prediction.window
    return temporal_iou(window, evidence_window(prediction.task.evidence)) if window else 0.0


def per_question(predictions: Sequence[Prediction]) -> dict[str, tuple[list[float], list[str]]]:
    """Every metric's values, of the tasks that count for it, and the videos of these.

    tg_*: temporal grounding (the reference is a window), from the answer. vqa_*: the other tasks, from the answer and
    the last crop. evidence_*: all tasks, from the last crop (miou) or the last look (recall, precision).
    """
    grounding = [p for p in predictions if isinstance(p.task.reference, Window)]
    vqa = [p for p in predictions if not isinstance(p.task.reference, Window)]
    ious = [answer_iou(p) for p in grounding]
    columns = {
        **{f"tg_r{k}": (grounding, recall_at(ious, k / 100)) for k in (30, 50, 70)},
        "tg_miou": (grounding, ious),
        "vqa_miou": (vqa, [look_iou(p) for p in vqa]),
        "vqa_acc": (vqa, [p.accuracy for p in vqa]),
        "evidence_miou": (predictions, [look_iou(p) for p in predictions]),
        "evidence_recall": (predictions, [evidence_recall(p.last_look, p.task.evidence) for p in predictions]),
        "evidence_precision": (predictions, [evidence_precision(p.last_look, p.task.evidence) for p in predictions]),
        "accuracy": (predictions, [p.accuracy for p in predictions]),
        "format": (predictions, [turns_format_reward(list(p.turns)) for p in predictions]),
        "tool_calls": (predictions, [float(len(p.calls)) for p in predictions]),
    }
    return {name: (values, [p.task.video for p in counted]) for name, (counted, values) in columns.items()}


def score(predictions: Sequence[Prediction]) -> Scores:
    """All metrics of one system on one eval set, each with its interval; None where no task counts."""
    table: Scores = {}
    for name, (values, videos) in per_question(predictions).items():
        table[name] = float(np.mean(values)) if values else None
        table[f"{name}_ci"] = list(bootstrap_interval(values, videos)) if values else None
    return table


def benchmark_table(systems: Mapping[str, Sequence[Prediction]]) -> dict[str, dict[str, Scores]]:
    """metrics/evaluate.json: {system: {eval set: {metric, metric_ci}}}."""
    return {name: {found: score(some) for found, some in by_set(p).items()} for name, p in systems.items()}


def paired(
    after: Sequence[Sequence[Prediction]], before: Sequence[Sequence[Prediction]], metrics: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """One system minus another on the same tasks, each given as its runs (seeds), all on one eval set.

    Per metric: `mean`, its interval `ci`, and the mean of every run `after` and `before`. A task's value is its mean
    over runs. Metrics for which no task counts are left out. The tasks are those of the first run of `after`;
    ValueError where another run lacks one.
    """
    new, old = ([per_question(aligned(run, after[0])) for run in runs] for runs in (after, before))
    rows = {}
    for metric in [name for name in metrics if new[0][name][0]]:
        ours, theirs = (np.array([run[metric][0] for run in runs]) for runs in (new, old))
        means = (ours.mean(axis=0).tolist(), theirs.mean(axis=0).tolist())
        difference, interval = paired_difference(*means, new[0][metric][1])
        rows[metric] = {
            "mean": difference, "ci": list(interval),
            "after": ours.mean(axis=1).tolist(), "before": theirs.mean(axis=1).tolist(),
        }  # fmt: skip
    return rows


def gain(before: Sequence[Prediction], after: Sequence[Prediction]) -> dict[str, str]:
    """Paired differences of one eval set as text."""
    rows = paired([after], [before], GAINS)
    return {name: difference_text(row["mean"], row["ci"]) for name, row in rows.items()}


def difference_text(difference: float, interval: Sequence[float]) -> str:
    """A difference with its interval: `+0.074 [+0.052, +0.097]`."""
    return f"{difference:+.3f} [{interval[0]:+.3f}, {interval[1]:+.3f}]"


def gains_table(before: Sequence[Prediction], after: Sequence[Prediction]) -> dict[str, dict[str, str]]:
    """metrics/gains.json: {eval set: {metric: difference and interval}} of two systems, such as RL minus SFT."""
    old = by_set(before)
    return {name: gain(old.get(name, []), some) for name, some in by_set(after).items()}
