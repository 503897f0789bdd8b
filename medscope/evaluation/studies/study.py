"""The table of a study: arms trained alike over seeds, and the contrasts of them that the study was made for.

An arm is what one variant did: one table of scores per seed (metrics/scores/). All tests of a study are one family:
every contrast on every metric and eval set is corrected for the number of all of them (Holm). "No effect" is said where
the interval lies within +-`delta`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from medscope.evaluation.benchmark import METRICS, sets_of
from medscope.evaluation.comparison import Contrast, Runs, contrast, row, same_tasks
from medscope.evaluation.statistics import hierarchical, holm, pass_at_k

FROM_LOOKS = ("vqa_miou", "evidence_miou", "evidence_recall", "evidence_precision", "two_looks", "revision")
Arms = Mapping[str, Runs]  # arm -> the scores of every seed, on all eval sets


def run_names(given: Sequence[str], seeds: Sequence[int]) -> list[str]:
    """The runs of an arm in order: `studies/x_{seed}` stands for one of every seed, another name for itself."""
    return [name.format(seed=seed) for name in given for seed in (seeds if "{seed}" in name else seeds[:1])]


def read_scores(file: Path) -> pd.DataFrame:
    """The scores of one run (`per_question`) from metrics/scores/.

    FileNotFoundError names a run that is missing, ValueError one whose scores are of an older benchmark.
    """
    if not file.exists():
        raise FileNotFoundError(f"{file} does not exist; the evaluation that writes it has not run (dvc repro)")
    texts, numbers = {"task": str, "set": str, "video": str}, {metric: [""] for metric in METRICS}
    scores = pd.read_csv(file, index_col="task", dtype=texts, keep_default_na=False, na_values=numbers)
    if missing := set(METRICS) - set(scores):
        raise ValueError(f"{file} has no {min(missing)}: it is of an older benchmark; run that evaluation again")
    return scores


def study_table(
    arms: Arms,
    contrasts: Mapping[str, Contrast],
    metrics: Sequence[str],
    delta: float,
    valid: Mapping[str, str | None] | None = None,
) -> dict[str, Any]:
    """metrics/studies/<name>.json: `arms`: {eval set: {arm: {metric: mean and per_seed}}}; `contrasts`: {eval set:
    {contrast: {metric: row, p_holm, equivalent}}} on the eval sets that all its arms answered, without metrics of looks
    where an arm never looks (they are 0 by definition); `withheld`: why the set has none (`valid_sets`); `delta`;
    `tests`: the size of the family."""
    split = {arm: [sets_of(run) for run in runs] for arm, runs in arms.items()}
    names = dict.fromkeys(name for runs in split.values() for name in runs[0])
    withheld = {name: reason for name in names if (reason := (valid or {}).get(name))}
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for name in names:
        present = {arm: [run[name] for run in runs] for arm, runs in split.items() if all(name in run for run in runs)}
        for label, weights in contrasts.items():
            if name not in withheld and set(weights) <= set(present):
                runs = {arm: present[arm] for arm in weights}
                rows = contrast(runs, weights, _measured(runs, metrics))
                found.setdefault(name, {})[label] = {metric: row(estimate) for metric, estimate in rows.items()}
    tests = corrected(found, delta)
    scores = {name: {arm: _means(runs, name) for arm, runs in split.items() if name in runs[0]} for name in names}
    return {"arms": scores, "contrasts": found, "withheld": withheld, "delta": delta, "tests": tests}


def _measured(runs: Arms, metrics: Sequence[str]) -> list[str]:
    """The metrics that say something about all of these arms."""
    looks = all(any(run["calls"].any() for run in some) for some in runs.values())
    return [metric for metric in metrics if looks or metric not in FROM_LOOKS]


def _means(runs: Sequence[Mapping[str, pd.DataFrame]], name: str) -> dict[str, dict[str, Any]]:
    """metric -> mean over seeds and value of every seed; None where no task counts."""
    table = {}
    for metric in METRICS:
        columns = [run[name][metric].dropna() for run in runs if name in run]
        per_seed = [float(np.mean(column.tolist())) if len(column) else None for column in columns]
        known = [value for value in per_seed if value is not None]
        table[metric] = {"mean": float(np.mean(known)) if known else None, "per_seed": per_seed}
    return table


def corrected(table: Mapping[str, Mapping[str, Mapping[str, dict[str, Any]]]], delta: float) -> int:
    """Add `p_holm` and `equivalent` to every cell of {eval set: {contrast: {metric: row}}}, one family; its size."""
    cells = [cell for rows in table.values() for metrics in rows.values() for cell in metrics.values()]
    for cell, p in zip(cells, holm([cell["p"] for cell in cells]), strict=True):
        cell["p_holm"] = p
        cell["equivalent"] = cell["no_larger_than"] is not None and cell["no_larger_than"] <= delta
    return sum(cell["p"] is not None for cell in cells)


def samples_table(
    arms: Arms, contrasts: Mapping[str, Contrast], delta: float, valid: Mapping[str, str | None] | None = None
) -> dict[str, Any]:
    """The same form for arms whose runs are sampled answers of one policy: `avg@n`, and `pass@k` for k = 1, 2, 4, .. n.

    A greedy arm has one run. The values of a task are means over its samples, so the intervals are over videos only.
    Arms of a contrast are compared at the numbers k that all of them have; `avg` is the mean of all samples.
    """
    names = dict.fromkeys(name for runs in arms.values() for name in sets_of(runs[0]))
    withheld = {name: reason for name in names if (reason := (valid or {}).get(name))}
    scores: dict[str, dict[str, Any]] = {}
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for name in names:
        split = {arm: [run[run["set"] == name] for run in runs] for arm, runs in arms.items()}
        like = next(runs[0] for runs in split.values() if len(runs[0]))
        asked = {arm: [same_tasks(run, like, arm) for run in runs] for arm, runs in split.items() if len(runs[0])}
        columns = {arm: _per_task(runs) for arm, runs in asked.items()}
        videos = like["video"].tolist()
        scores[name] = {arm: {m: row(hierarchical([v], videos)) for m, v in c.items()} for arm, c in columns.items()}
        for label, weights in contrasts.items():
            if name in withheld or not set(weights) <= set(columns):
                continue
            shared = [metric for metric in columns[next(iter(weights))] if all(metric in columns[a] for a in weights)]
            found.setdefault(name, {})[label] = {
                m: row(hierarchical([sum(w * columns[arm][m] for arm, w in weights.items())], videos)) for m in shared
            }
    tests = corrected(found, delta)
    return {"arms": scores, "contrasts": found, "withheld": withheld, "delta": delta, "tests": tests}


def _per_task(samples: Runs) -> dict[str, np.ndarray]:
    """`avg` and `pass@k` [tasks] from samples in the same order of tasks."""
    verdicts = np.array([run["accuracy"] for run in samples])
    number, right = len(samples), (verdicts == 1).sum(axis=0).tolist()
    ks = [k for k in (1, 2, 4, 8, 16, 32, 64) if k <= number]
    ks += [number] if number not in ks else []
    return {"avg": verdicts.mean(axis=0)} | {
        f"pass@{k}": np.array([pass_at_k(number, r, k) for r in right]) for k in ks
    }
