"""The evidence audit's tables, from predictions and their replays: is an answer right because of what was looked at?

`replay` makes the replays. Here also stands what a task costs, and whether the model's own probability says how far its
answer can be trusted.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from medscope.evaluation.benchmark import MISSED, look_iou
from medscope.evaluation.predictions import Prediction, aligned, by_set
from medscope.evaluation.statistics import bootstrap_interval
from medscope.metrics import evidence_precision, evidence_recall

Swap = Literal["elsewhere", "other_video", "blank", "labels"]
SWAPS: tuple[Swap, ...] = ("elsewhere", "other_video", "blank", "labels")


def replay_name(system: str, swap: Swap) -> str:
    """The `system` of the predictions that replay a system with swapped frames."""
    return f"{system}/{swap}"


def audit_table(
    systems: Mapping[str, Sequence[Prediction]], replays: Mapping[str, Sequence[Prediction]]
) -> dict[str, dict[str, Any]]:
    """metrics/audit.json: {`system set`: audit, economy and calibration error} of every system that was replayed."""
    table = {}
    for system, replayed in replays.items():
        again = by_set(replayed)
        for name, some in by_set(systems[system]).items():
            audited = audit(system, some, again.get(name, []))
            table[f"{system} {name}"] = {**audited, **economy(some), "calibration_error": calibration_error(some)}
    return table


def audit(system: str, predictions: Sequence[Prediction], replays: Sequence[Prediction]) -> dict[str, Any]:
    """Of the right answers that were replayed, on one eval set: shares with 95 % intervals (None if there are none).

    `contains_evidence`: the last call looked at the evidence, by `evidence_recall`; a crop of the whole video does.
    `evidence_precision`: the share of the last look that is evidence. `wrong_window`: the last call did not look at the
    evidence, and its IoU with it is less than .3. `flip_<swap>`: the answer is not right when the tools show other
    frames, or other seconds under them (`labels`); swaps that were not replayed are left out.
    """
    swapped, right = _replayed(system, predictions, replays)
    contains = [evidence_recall(p.last_look, p.task.evidence) for p in right]
    columns = {
        "contains_evidence": contains,
        "evidence_precision": [evidence_precision(p.last_look, p.task.evidence) for p in right],
        "wrong_window": [float(not c and look_iou(p) < MISSED) for p, c in zip(right, contains, strict=True)],
        **{f"flip_{swap}": [float(p.accuracy < 1) for p in some] for swap, some in swapped.items()},
    }
    videos = [p.task.video for p in right]
    table: dict[str, Any] = {"right": len(right)}
    for name, values in columns.items():
        table[name] = float(np.mean(values)) if values else None
        table[f"{name}_ci"] = list(bootstrap_interval(values, videos)) if values else None
    return table


def _replayed(
    system: str, predictions: Sequence[Prediction], replays: Sequence[Prediction]
) -> tuple[dict[Swap, list[Prediction]], list[Prediction]]:
    """The replays by swap and the right answers that they repeat, in the same order of tasks."""
    swapped = {swap: [p for p in replays if p.system == replay_name(system, swap)] for swap in SWAPS}
    swapped = {swap: some for swap, some in swapped.items() if some or not replays}
    right = aligned(predictions, next(iter(swapped.values())))
    return {swap: aligned(some, right) for swap, some in swapped.items()}, right


def flips_table(
    systems: Mapping[str, Sequence[Prediction]], replays: Mapping[str, Sequence[Prediction]]
) -> dict[str, dict[str, Any]]:
    """metrics/flips.json: {`system set kind`: right, flip_<swap>}. What a kind asks for says which swap must flip it.

    An answer in seconds rests on the labels, the name of what was seen on the frames.
    """
    table: dict[str, dict[str, Any]] = {}
    for system, replayed in replays.items():
        again = by_set(replayed)
        for name, some in by_set(systems[system]).items():
            swapped, right = _replayed(system, some, again.get(name, []))
            for kind in dict.fromkeys(p.task.kind for p in right):
                row: dict[str, Any] = {"right": sum(p.task.kind == kind for p in right)}
                for swap, found in swapped.items():
                    row[f"flip_{swap}"] = float(np.mean([p.accuracy < 1 for p in found if p.task.kind == kind]))
                table[f"{system} {name} {kind}"] = row
    return table


def economy(predictions: Sequence[Prediction]) -> dict[str, float]:
    """Means per task: calls, frames that tools showed, and tokens that the model wrote."""
    return {
        "calls": float(np.mean([len(p.calls) for p in predictions])),
        "tool_frames": float(np.mean([p.tool_frames for p in predictions])),
        "tokens": float(np.mean([p.tokens for p in predictions])),
    }


def reliability(predictions: Sequence[Prediction], bins: int = 10) -> list[dict[str, float]]:
    """Mean confidence, accuracy and number of answers of every tenth of the confidences, the least sure first."""
    ordered = sorted(predictions, key=lambda p: p.confidence)
    parts = [part for part in np.array_split(np.arange(len(ordered)), bins) if len(part)]
    return [
        {
            "confidence": float(np.mean([ordered[i].confidence for i in part])),
            "accuracy": float(np.mean([ordered[i].accuracy for i in part])),
            "answers": len(part),
        }
        for part in parts
    ]


def calibration_error(predictions: Sequence[Prediction], bins: int = 10) -> float:
    """Expected calibration error: the mean distance of confidence and accuracy over tenths of the answers."""
    rows = reliability(predictions, bins)
    return sum(r["answers"] * abs(r["confidence"] - r["accuracy"]) for r in rows) / sum(r["answers"] for r in rows)


def risk_coverage(predictions: Sequence[Prediction]) -> tuple[np.ndarray, np.ndarray]:
    """Coverage and risk (1 - accuracy) if only the surest answers are given, one point per answer."""
    ordered = sorted(predictions, key=lambda p: -p.confidence)
    given = np.arange(1, len(ordered) + 1)
    return given / len(ordered), np.cumsum([1 - p.accuracy for p in ordered]) / given
