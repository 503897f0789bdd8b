"""Where a system is right and how it searches: accuracy by kind of task, calls by the number that a task needs."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from medscope.evaluation.predictions import Prediction, by_set
from medscope.evaluation.statistics import bootstrap_interval

Rows = dict[str, dict[str, dict[str, Any]]]  # eval set -> row -> values


def kinds_table(systems: Mapping[str, Sequence[Prediction]], blind: str = "blind") -> Rows:
    """metrics/kinds.json: {eval set: {`kind system`: tasks, accuracy, accuracy_ci, above_blind}}.

    `above_blind` is (a - b) / (1 - b): 0 is as good as the system `blind` on the same tasks, 1 always right, below 0
    worse than blind; None where blind was not asked or is always right.
    """
    priors = {(name, kind): float(np.mean(a)) for name, kind, a, _ in _kinds(systems.get(blind, ()))}
    table: Rows = {}
    for system, predictions in systems.items():
        for name, kind, accuracies, videos in _kinds(predictions):
            mean, prior = float(np.mean(accuracies)), priors.get((name, kind), 1.0)
            table.setdefault(name, {})[f"{kind} {system}"] = {
                "tasks": len(accuracies),
                "accuracy": mean,
                "accuracy_ci": list(bootstrap_interval(accuracies, videos)),
                "above_blind": (mean - prior) / (1 - prior) if prior < 1 else None,
            }
    return table


def _kinds(predictions: Sequence[Prediction]) -> list[tuple[str, str, list[float], list[str]]]:
    """Eval set, kind, accuracies and videos."""
    found = []
    for name, some in by_set(predictions).items():
        for kind in dict.fromkeys(p.task.kind for p in some):
            own = [p for p in some if p.task.kind == kind]
            found.append((name, kind, [p.accuracy for p in own], [p.task.video for p in own]))
    return found


def search_table(systems: Mapping[str, Sequence[Prediction]]) -> Rows:
    """metrics/search.json: {eval set: {`n system`: tasks, calls, two_looks, accuracy}} of tasks that need n calls."""
    table: Rows = {}
    for system, predictions in systems.items():
        for name, some in by_set(predictions).items():
            for least in sorted({p.task.least_calls for p in some}):
                own = [p for p in some if p.task.least_calls == least]
                table.setdefault(name, {})[f"{least} {system}"] = {
                    "tasks": len(own),
                    "calls": float(np.mean([len(p.calls) for p in own])),
                    "two_looks": float(np.mean([len(p.looks) >= 2 for p in own])),
                    "accuracy": float(np.mean([p.accuracy for p in own])),
                }
    return table
