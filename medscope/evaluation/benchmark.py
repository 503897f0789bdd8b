"""The benchmark's tables, as pure functions of predictions: scores with intervals, and on which sets claims hold.

metrics/evaluate.json is `benchmark_table`: {system: {eval set: {metric, metric_ci}}}. Intervals are 95 % bootstrap
intervals that resample videos. `comparison` has the differences of systems.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from medscope.environment.grammar import parse_window
from medscope.evaluation.predictions import Prediction, by_set
from medscope.evaluation.statistics import bootstrap_interval
from medscope.metrics import evidence_precision, evidence_recall, evidence_window, recall_at, temporal_iou
from medscope.records import Evidence, Timestamp, Window
from medscope.rewards import H0, turns_format_reward

Scores = dict[str, float | list[float] | None]  # metric -> value, metric_ci -> [low, high]
Table = Mapping[str, Mapping[str, Mapping[str, Any]]]  # system -> eval set -> metric -> value (and metric_ci)
MISSED = 0.3  # a crop with less IoU that does not contain the evidence is at the wrong window
LEAST_ORACLE, MOST_BLIND = 0.7, 0.25  # VQA accuracy: an eval set on which claims hold can be answered, and not blindly


def answer_iou(prediction: Prediction) -> float:
    """IoU of the window that the answer names with the reference window; 0 where it names none."""
    window = parse_window(prediction.answer)
    return temporal_iou(window, prediction.task.reference) if window else 0.0


def look_iou(prediction: Prediction) -> float:
    """IoU of the last executed crop with the evidence; 0 without a crop."""
    window = prediction.window
    return temporal_iou(window, evidence_window(prediction.task.evidence)) if window else 0.0


def missed(window: Window, evidence: Evidence) -> bool:
    """Whether a crop is at the wrong window: IoU with the evidence below .3, and it does not contain it."""
    if isinstance(evidence, Timestamp):
        return not window.contains(evidence.time)
    contains = window.start <= evidence.start and evidence.end <= window.end
    return temporal_iou(window, evidence) < MISSED and not contains


def good(window: Window, evidence: Evidence) -> bool:
    """Whether a crop earns R_crop: IoU of .5 with the evidence, or the evidence's instant is in it."""
    if isinstance(evidence, Timestamp):
        return window.contains(evidence.time)
    return temporal_iou(window, evidence) >= H0 - 1e-9


def revised(prediction: Prediction) -> bool:
    """Whether the first executed crop was at the wrong window and the last one is good."""
    crops = [call.looked for call in prediction.calls if isinstance(call.looked, Window)]
    evidence = prediction.task.evidence
    return bool(crops) and missed(crops[0], evidence) and good(crops[-1], evidence)


def per_question(predictions: Sequence[Prediction]) -> dict[str, tuple[list[float], list[str]]]:
    """Every metric's values, of the tasks that count for it, and the videos of these.

    tg_*: temporal grounding (the reference is a window), from the answer. vqa_*: the other tasks, from the answer and
    the last crop. evidence_*: all tasks, from the last crop (miou) or the last look (recall, precision). `calls`:
    executed and refused ones. `two_looks`: two calls or more were executed. `calls_over_minimum`: calls less those that
    the task needs, of tasks that say so. `recovery`: well formed to the end with an answer, of tasks with a refused
    call. `revision`: `revised`.
    """
    grounding = [p for p in predictions if isinstance(p.task.reference, Window)]
    vqa = [p for p in predictions if not isinstance(p.task.reference, Window)]
    counted = [p for p in predictions if p.task.least_calls]
    refused = [p for p in predictions if len(p.looks) < len(p.calls)]
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
        "calls": (predictions, [float(len(p.calls)) for p in predictions]),
        "two_looks": (predictions, [float(len(p.looks) >= 2) for p in predictions]),
        "calls_over_minimum": (counted, [float(len(p.calls) - p.task.least_calls) for p in counted]),
        "recovery": (refused, [turns_format_reward(list(p.turns)) for p in refused]),
        "revision": (predictions, [float(revised(p)) for p in predictions]),
    }
    return {name: (values, [p.task.video for p in some]) for name, (some, values) in columns.items()}


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


def valid_sets(table: Table, oracle: str = "oracle", blind: str = "blind") -> dict[str, str | None]:
    """Per eval set of `table` why no claim is made on it; None where claims hold.

    They hold where the VQA accuracy of the system `oracle`, which is given the teacher's looks, is .7 or more, so that
    questions can be answered from these, and that of `blind`, which sees no video, at most .25.
    """
    names = dict.fromkeys(name for sets in table.values() for name in sets)
    return {name: _reason(table, name, oracle, blind) for name in names}


def _reason(table: Table, name: str, oracle: str, blind: str) -> str | None:
    reasons = []
    for system, bound, least in ((oracle, LEAST_ORACLE, True), (blind, MOST_BLIND, False)):
        value = table.get(system, {}).get(name, {}).get("vqa_acc")
        if value is None:
            reasons.append(f"VQA of {system} was not measured")
        elif (value < bound) if least else (value > bound):
            reasons.append(f"VQA of {system} is {value:.2f}, {'less' if least else 'more'} than {bound:g}")
    return "; ".join(reasons) or None
