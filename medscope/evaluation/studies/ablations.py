"""Figure 5: variants of GA-GRPO over seeds, their scores, their curves, and their differences from the variant `full`.

Notebook 05 shows the short runs of the pipeline, notebook 08 the longer ones of the study, by the same functions.
"""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medscope.evaluation.benchmark import Scores, paired, score
from medscope.evaluation.predictions import Prediction, aligned, by_set

FULL = "full"  # the variant that the others are compared with
COLUMNS = ("tg_r50", "tg_r70", "tg_miou", "vqa_acc", "evidence_miou", "accuracy", "tool_calls")
COMPARED = ("evidence_miou", "tg_r70", "accuracy")
Runs = Mapping[str, Sequence[Sequence[Prediction]]]  # variant -> the predictions of every seed
Row = dict[str, dict[str, Any]]


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


def differences_table(runs: Runs) -> dict[str, dict[str, Row]]:
    """eval set -> variant -> metric -> mean and std over seeds, difference from `full` with its 95 % interval."""
    split = {variant: [by_set(run) for run in seeds] for variant, seeds in runs.items()}
    return {
        name: {
            variant: against_full([run[name] for run in split[FULL]], [run[name] for run in seeds])
            for variant, seeds in split.items()
        }
        for name in split[FULL][0]
    }


def against_full(full: Sequence[Sequence[Prediction]], runs: Sequence[Sequence[Prediction]]) -> Row:
    """The numbers of one variant on one eval set, given as its seeds, beside those of `full`.

    A task's value is its mean over seeds; the interval resamples videos.
    """
    return {
        metric: {
            "mean": float(np.mean(row["after"])),
            "std": float(np.std(row["after"], ddof=1)) if len(runs) > 1 else 0.0,
            "minus_full": row["mean"],
            "minus_full_ci": row["ci"],
        }
        for metric, row in paired(runs, full, COMPARED).items()
    }


def read_curves(file: Path) -> list[dict[str, float]]:
    """What a training logged at every step, from its CSV file. FileNotFoundError names a run that is missing."""
    with file.open() as lines:
        rows = [{name: value for name, value in row.items() if value} for row in csv.DictReader(lines)]
    return [{name: float(value) for name, value in row.items()} for row in rows]
