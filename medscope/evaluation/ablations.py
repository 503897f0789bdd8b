"""Collect the runs of the ablation matrix: one row per variant over its seeds, and the curves of their rollouts."""

import csv
import json
from typing import Any

import numpy as np

from medscope.pipeline.layout import Layout

COLUMNS = ("tg_r50", "tg_r70", "tg_miou", "vqa_acc", "evidence_miou", "accuracy", "tool_calls")
SHOWN_SPLITS = ("cataract", "laparoscopy")


def run_name(variant: str, seed: int) -> str:
    """The `variant` parameter of notebook 04 for one cell of the matrix."""
    return f"ablation/{variant}_{seed}"


def compare(place: Layout, variants: list[str], seeds: list[int]) -> dict[str, Any]:
    """`table`: variant -> "split metric" -> mean over seeds; `runs`: variant -> metrics of every seed; `curves`.

    Raises FileNotFoundError naming the run that is missing.
    """
    runs = {v: [json.loads(place.metrics(run_name(v, s)).read_text()) for s in seeds] for v in variants}
    sft = json.loads(place.metrics("sft").read_text())
    table = {}
    for variant, found in runs.items():
        row: dict[str, float] = {}
        for split in SHOWN_SPLITS:
            for name in COLUMNS:
                values = [run[split][name] for run in found if run[split][name] is not None]
                row[f"{split} {name}"] = float(np.mean(values)) if values else float("nan")
        table[variant] = row
    curves = {v: [read_curves(place, run_name(v, s)) for s in seeds] for v in variants}
    return {"table": table, "runs": runs, "sft": sft, "curves": curves}


def read_curves(place: Layout, name: str) -> list[dict[str, float]]:
    """What notebook 04 logged at every step of the run `name`."""
    with place.curves(name).open() as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
