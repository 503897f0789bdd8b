"""Systems compared on the same tasks: paired differences, gains, and contrasts of several systems with p values.

A comparison is a *contrast*: weights of systems that add up to 0, `{"rl": 1, "sft": -1}`. Its terms are paired by seed
and question. Systems that were asked about other videos (another world) are independent of each other. All is computed
from the scores of every question (`benchmark.per_question`). Intervals: `statistics.hierarchical`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from medscope.evaluation.benchmark import per_question, sets_of
from medscope.evaluation.predictions import Prediction
from medscope.evaluation.statistics import Estimate, combined, equivalence_bound, hierarchical

GAINS = ("evidence_miou", "tg_r70", "accuracy", "evidence_recall", "evidence_precision", "calls", "two_looks")
Runs = Sequence[pd.DataFrame]  # the scores of one system on one eval set (`per_question`), one table per seed
Contrast = Mapping[str, float]


def contrast(runs: Mapping[str, Runs], weights: Contrast, metrics: Sequence[str]) -> dict[str, Estimate]:
    """metric -> the weighted sum of systems on one eval set; metrics for which no task counts are left out.

    A system with one run is paired with every seed of the others. The tasks are those of the first system's first run.
    ValueError: weights that do not add up to 0, numbers of seeds that do not fit, a run that lacks a task, a metric
    (such as `recovery`) that counts other tasks in every run.
    """
    if abs(sum(weights.values())) > 1e-9:
        raise ValueError(f"the weights of a contrast add up to 0, not to {sum(weights.values()):g}: {dict(weights)}")
    worlds: dict[tuple[str, ...], dict[str, Runs]] = {}
    for system in weights:
        asked = _asked({system: runs[system]})
        same = (key for key, some in worlds.items() if not asked or asked & _asked(some))
        worlds.setdefault(next(same, (system,)), {})[system] = runs[system]
    parts = [_within(some, weights, metrics) for some in worlds.values()]
    shared = [metric for metric in metrics if all(metric in part for part in parts)]
    return {metric: combined([(1.0, part[metric]) for part in parts]) for metric in shared}


def _asked(systems: Mapping[str, Runs]) -> set[tuple[str, str]]:
    return {asked for runs in systems.values() for asked in runs[0]["video"].items()}


def _within(systems: Mapping[str, Runs], weights: Contrast, metrics: Sequence[str]) -> dict[str, Estimate]:
    """The part of a contrast whose systems were asked about the same videos."""
    like = next(iter(systems.values()))[0]
    seeds = {len(runs) for runs in systems.values()} - {1}
    if len(seeds) > 1:
        counts = {system: len(runs) for system, runs in systems.items()}
        raise ValueError(f"systems that are paired by seed need as many seeds, or one: {counts}")
    columns = {system: [same_tasks(run, like, system) for run in runs] for system, runs in systems.items()}
    found = {}
    for metric in metrics:
        counts = like[metric].notna()
        if not counts.any():
            continue
        if any((run[metric].notna() != counts).any() for runs in columns.values() for run in runs):
            raise ValueError(f"{metric} counts other tasks in every run, so that it cannot be paired")
        terms = [weights[system] * np.array([run[metric][counts] for run in runs]) for system, runs in columns.items()]
        found[metric] = hierarchical(sum(terms), like["video"][counts].tolist())
    return found


def same_tasks(run: pd.DataFrame, like: pd.DataFrame, system: str) -> pd.DataFrame:
    """The rows of a run for the tasks of `like`, in its order. ValueError: one is missing, or comes twice."""
    if run.index.has_duplicates:
        raise ValueError(f"{system} has two predictions for {run.index[run.index.duplicated()][0]}")
    for task in like.index:
        if task not in run.index:
            raise ValueError(f"{system} has no prediction for {task}, which another system has")
    return run.loc[like.index]


def row(estimate: Estimate) -> dict[str, Any]:
    """An estimate as it stands in metrics/. `no_larger_than`: effects beyond it are excluded (`equivalence_bound`)."""
    return {
        "mean": estimate.mean,
        "ci": list(estimate.ci) if estimate.ci else None,
        "per_seed": list(estimate.per_seed),
        "p": estimate.p,
        "no_larger_than": equivalence_bound(estimate.ci) if estimate.ci else None,
    }


def difference_text(difference: float, interval: Sequence[float] | None) -> str:
    """A difference with its interval: `+0.074 [+0.052, +0.097]`; without one where it is not known."""
    return f"{difference:+.3f}" + (f" [{interval[0]:+.3f}, {interval[1]:+.3f}]" if interval else "")


def gains_table(
    before: Sequence[Prediction], after: Sequence[Prediction], valid: Mapping[str, str | None] | None = None
) -> dict[str, dict[str, str]]:
    """metrics/gains.json: {eval set: {metric: difference and interval}} of two systems, such as RL minus SFT.

    `valid` are the `valid_sets`: of a set on which no claim is made the reason stands in the place of the gains.
    """
    old, table = sets_of(per_question(before)), {}
    for name, some in sets_of(per_question(after)).items():
        if reason := (valid or {}).get(name):
            table[name] = {"withheld": reason}
            continue
        runs = {"after": [some], "before": [old[name] if name in old else per_question([])]}
        found = contrast(runs, {"after": 1.0, "before": -1.0}, GAINS)
        table[name] = {metric: difference_text(e.mean, e.ci) for metric, e in found.items()}
    return table
