"""The benchmark's tables, as pure functions of predictions: scores with intervals, and on which sets claims hold.

metrics/evaluate.json is `benchmark_table`: {system: {eval set: {metric, metric_ci}}}. Intervals are 95 % bootstrap
intervals that resample videos. `comparison` has the differences of systems.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from medscope.environment.grammar import parse_window
from medscope.evaluation.predictions import Prediction, by_set
from medscope.evaluation.statistics import bootstrap_interval
from medscope.metrics import evidence_precision, evidence_recall, evidence_window, recall_at, temporal_iou
from medscope.records import Evidence, Task, Timestamp, Window
from medscope.rewards import H0, turns_format_reward

Scores = dict[str, float | list[float] | None]  # metric -> value, metric_ci -> [low, high]
Table = Mapping[str, Mapping[str, Mapping[str, Any]]]  # system -> eval set -> metric -> value (and metric_ci)
PLACES = ("set", "video")
METRICS = (
    "tg_r30", "tg_r50", "tg_r70", "tg_miou", "vqa_miou", "vqa_acc", "evidence_miou", "evidence_recall",
    "evidence_precision", "accuracy", "format", "calls", "two_looks", "calls_over_minimum", "recovery", "revision",
)  # fmt: skip
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


def question_metrics(prediction: Prediction) -> dict[str, float]:
    """The metrics that a task counts for, with their values.

    tg_*: temporal grounding (the reference is a window), from the answer. vqa_*: the other tasks, from the answer and
    the last crop. evidence_*: all tasks, from the last crop (miou) or the last look (recall, precision). `calls`:
    executed and refused ones. `two_looks`: two calls or more were executed. `calls_over_minimum`: calls less those that
    the task needs, of tasks that say so. `recovery`: well formed to the end with an answer, of tasks with a refused
    call. `revision`: `revised`.
    """
    task, calls, looks = prediction.task, len(prediction.calls), len(prediction.looks)
    look, well_formed = look_iou(prediction), turns_format_reward(list(prediction.turns))
    found = {
        "evidence_miou": look,
        "evidence_recall": evidence_recall(prediction.last_look, task.evidence),
        "evidence_precision": evidence_precision(prediction.last_look, task.evidence),
        "accuracy": prediction.accuracy,
        "format": well_formed,
        "calls": float(calls),
        "two_looks": float(looks >= 2),
        "revision": float(revised(prediction)),
    }
    if isinstance(task.reference, Window):
        iou = answer_iou(prediction)
        found |= {f"tg_r{k}": recall_at([iou], k / 100)[0] for k in (30, 50, 70)} | {"tg_miou": iou}
    else:
        found |= {"vqa_miou": look, "vqa_acc": prediction.accuracy}
    if task.least_calls:
        found["calls_over_minimum"] = float(calls - task.least_calls)
    if looks < calls:
        found["recovery"] = well_formed
    return found


def per_question(predictions: Sequence[Prediction]) -> pd.DataFrame:
    """Every task a row: its eval set and video (`PLACES`) and METRICS, NaN where the task does not count for one.

    Its index is the id of the task. metrics/scores/<system>.csv is this table, `numbered`.
    """
    rows = [{"set": p.task.collection, "video": p.task.video} | question_metrics(p) for p in predictions]
    tasks = pd.Index([p.task.id for p in predictions], name="task", dtype=str)
    return pd.DataFrame(rows, tasks, [*PLACES, *METRICS])


def numbered(scores: pd.DataFrame, tasks: Iterable[Task]) -> pd.DataFrame:
    """Scores with the numbers that tasks and videos have in the suite, in the place of their ids, which may hold names.

    Git keeps metrics/, and what is in git stays.
    """
    task_numbers: dict[str, int] = {}
    video_numbers: dict[str, int] = {}
    for task in tasks:
        task_numbers.setdefault(task.id, len(task_numbers))
        video_numbers.setdefault(task.video, len(video_numbers))
    return scores.rename(index=task_numbers).assign(video=scores["video"].map(video_numbers).to_numpy())


def sets_of(scores: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The rows of every eval set, in order of first appearance."""
    return {str(name): rows for name, rows in scores.groupby("set", sort=False)}


def score(predictions: Sequence[Prediction]) -> Scores:
    """All metrics of one system on one eval set, each with its interval; None where no task counts."""
    questions, table = per_question(predictions), Scores()
    for name in METRICS:
        counted = questions[questions[name].notna()]
        values = counted[name].tolist()
        table[name] = float(np.mean(values)) if values else None
        table[f"{name}_ci"] = list(bootstrap_interval(values, counted["video"].tolist())) if values else None
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
