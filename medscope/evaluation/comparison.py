"""Systems compared on the same tasks: paired differences, gains, and contrasts of several systems with p values.

A comparison is a *contrast*: weights of systems that add up to 0, `{"rl": 1, "sft": -1}`. Its terms are paired by seed
and question. Systems that were asked about other videos (another world) are independent of each other. Intervals:
`statistics.hierarchical`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from medscope.evaluation.benchmark import per_question
from medscope.evaluation.predictions import Prediction, aligned, by_set
from medscope.evaluation.statistics import Estimate, combined, equivalence_bound, hierarchical

GAINS = ("evidence_miou", "tg_r70", "accuracy", "evidence_recall", "evidence_precision", "calls", "two_looks")
Runs = Sequence[Sequence[Prediction]]  # the predictions of one system, one sequence per seed, on one eval set
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
    return {(p.task.id, p.task.path) for runs in systems.values() for p in runs[0]}


def _within(systems: Mapping[str, Runs], weights: Contrast, metrics: Sequence[str]) -> dict[str, Estimate]:
    """The part of a contrast whose systems were asked about the same videos."""
    like = next(iter(systems.values()))[0]
    seeds = {len(runs) for runs in systems.values()} - {1}
    if len(seeds) > 1:
        counts = {system: len(runs) for system, runs in systems.items()}
        raise ValueError(f"systems that are paired by seed need as many seeds, or one: {counts}")
    columns = {system: [per_question(aligned(run, like)) for run in runs] for system, runs in systems.items()}
    videos = {metric: first[1] for metric, first in next(iter(columns.values()))[0].items()}
    found = {}
    for metric in metrics:
        if not videos[metric]:
            continue
        if any(run[metric][1] != videos[metric] for runs in columns.values() for run in runs):
            raise ValueError(f"{metric} counts other tasks in every run, so that it cannot be paired")
        terms = [weights[system] * np.array([run[metric][0] for run in runs]) for system, runs in columns.items()]
        found[metric] = hierarchical(sum(terms), videos[metric])
    return found


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
    old, table = by_set(before), {}
    for name, some in by_set(after).items():
        if reason := (valid or {}).get(name):
            table[name] = {"withheld": reason}
            continue
        found = contrast({"after": [some], "before": [old.get(name, [])]}, {"after": 1.0, "before": -1.0}, GAINS)
        table[name] = {metric: difference_text(e.mean, e.ci) for metric, e in found.items()}
    return table
