"""GA-GRPO over several seeds from one SFT policy, paired with it on the same held-out tasks."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from medscope.evaluation.benchmark import paired, score
from medscope.evaluation.predictions import Prediction, by_set

METRICS = ("evidence_miou", "evidence_recall", "evidence_precision", "accuracy", "tg_r70", "tg_miou")


def seeds_table(sft: Sequence[Prediction], seeds: Mapping[int, Sequence[Prediction]]) -> dict[str, dict[str, Any]]:
    """metrics/seeds.json: eval set -> `sft`, `seed 0`, ..: scores; `gain`: metric -> paired gain over SFT.

    A task's gain is its mean over seeds; the intervals resample videos. Two seeds or more.
    """
    runs = {seed: by_set(predictions) for seed, predictions in seeds.items()}
    table: dict[str, dict[str, Any]] = {}
    for name, before in by_set(sft).items():
        table[name] = {"sft": _values(before), **{f"seed {seed}": _values(run[name]) for seed, run in runs.items()}}
        rows = paired([run[name] for run in runs.values()], [before], METRICS)
        table[name]["gain"] = {metric: over_seeds(row) for metric, row in rows.items()}
    return table


def over_seeds(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of `paired` with the gain of every seed and their standard deviation."""
    per_seed = [after - row["before"][0] for after in row["after"]]
    return {"mean": row["mean"], "ci": row["ci"], "per_seed": per_seed, "std": float(np.std(per_seed, ddof=1))}


def _values(predictions: Sequence[Prediction]) -> dict[str, Any]:
    return {name: value for name, value in score(predictions).items() if not name.endswith("_ci")}
