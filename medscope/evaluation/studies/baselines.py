"""Baselines trained alike: what do the tools, the evidence reward and the modulation each add?

Every baseline is notebook 03 or 04 with a few values changed (sections `sft_baselines` and `grpo_baselines` of
params.yaml), so that data, steps and model are those of SFT and GA-GRPO. One training each: the intervals resample
videos, not trainings.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from medscope.evaluation.benchmark import benchmark_table, paired
from medscope.evaluation.predictions import Prediction, by_set

ADDED = {  # what the first system has and the second lacks
    "tools": ("sft", "text_cot"),
    "the right window": ("sft", "random_window"),
    "RL on answer and format": ("plain_grpo", "sft"),
    "the evidence reward": ("evidence_grpo", "plain_grpo"),
    "the modulation": ("rl", "evidence_grpo"),
}
COMPARED = ("evidence_miou", "tg_r70", "accuracy")


def baselines_table(systems: Mapping[str, Sequence[Prediction]]) -> dict[str, Any]:
    """metrics/baselines.json: `systems`, the benchmark of all, and `added`, the paired differences of `ADDED`."""
    return {"systems": benchmark_table(systems), "added": added(systems)}


def added(systems: Mapping[str, Sequence[Prediction]]) -> dict[str, dict[str, dict[str, Any]]]:
    """part of ADDED -> eval set -> metric -> mean difference on the same tasks with its 95 % interval."""
    table: dict[str, dict[str, dict[str, Any]]] = {}
    for part, (with_it, without) in ADDED.items():
        table[part] = {}
        old = by_set(systems[without])
        for name, some in by_set(systems[with_it]).items():
            rows = paired([some], [old.get(name, [])], COMPARED)
            table[part][name] = {metric: {"mean": row["mean"], "ci": row["ci"]} for metric, row in rows.items()}
    return table
