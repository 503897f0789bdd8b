"""Figure 5 in short: variants of GA-GRPO, their scores and their curves (notebook 05).

The longer runs, with differences and intervals, are the study `figure5` (notebook 08, `study`).
"""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medscope.evaluation.benchmark import Scores, score
from medscope.evaluation.predictions import Prediction, aligned, by_set

COLUMNS = ("tg_r50", "tg_r70", "tg_miou", "vqa_acc", "evidence_miou", "accuracy", "calls")
Runs = Mapping[str, Sequence[Sequence[Prediction]]]  # variant -> the predictions of every seed


def ablations(runs: Runs, sft: Sequence[Prediction]) -> dict[str, Any]:
    """`runs`: variant -> scores per eval set of every seed; `sft`: scores of the start on the same tasks; `table`.

    The table holds per variant the mean over seeds of `set metric`. All are scored on the tasks of the first run;
    ValueError where another one lacks a task of these.
    """
    asked = next(iter(runs.values()))[0]
    scores = {variant: [_scores(aligned(run, asked)) for run in seeds] for variant, seeds in runs.items()}
    return {
        "runs": scores,
        "sft": _scores(aligned(sft, asked)),
        "table": {variant: _means(seeds) for variant, seeds in scores.items()},
    }


def _scores(predictions: Sequence[Prediction]) -> dict[str, Scores]:
    return {name: score(some) for name, some in by_set(predictions).items()}


def _means(seeds: Sequence[Mapping[str, Scores]]) -> dict[str, float]:
    """Means over seeds; a metric for which no task of a set counts is left out."""
    row = {}
    for name, first in seeds[0].items():
        for metric in COLUMNS:
            if first[metric] is not None:
                row[f"{name} {metric}"] = float(np.mean([seed[name][metric] for seed in seeds]))
    return row


def read_curves(file: Path) -> list[dict[str, float]]:
    """What a training logged at every step, from its CSV file. FileNotFoundError names a run that is missing."""
    with file.open() as lines:
        rows = [{name: value for name, value in row.items() if value} for row in csv.DictReader(lines)]
    return [{name: float(value) for name, value in row.items()} for row in rows]
