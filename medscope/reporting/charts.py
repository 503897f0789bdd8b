"""Charts that compare systems: bars and radar as in the paper's figure 1, ablations as in its figure 5, trust.

`Table` is the form of metrics/evaluate.json. Charts of one eval set take its name, by default the table's first.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from medscope.evaluation.audit import reliability, risk_coverage
from medscope.evaluation.benchmark import Table
from medscope.evaluation.predictions import Prediction
from medscope.reporting.pictures import save

SHOWN = ("evidence_miou", "tg_r70", "vqa_acc", "accuracy")
BLUE = "#4477aa"
RADAR = {
    "R@.3": "tg_r30", "R@.5": "tg_r50", "R@.7": "tg_r70", "grounding mIoU": "tg_miou", "evidence mIoU": "evidence_miou",
    "VQA accuracy": "vqa_acc", "accuracy": "accuracy",
}  # fmt: skip


def eval_sets(table: Table) -> list[str]:
    """The names of the eval sets of a table."""
    return list(next(iter(table.values())))


def legend_beside(axis: Axes) -> None:
    """The legend right of the axis, where it covers nothing."""
    axis.legend(fontsize=9, loc="upper left", bbox_to_anchor=(1.02, 1.0), borderaxespad=0)


def system_bars(table: Table, path: Path) -> None:
    """Evidence mIoU, grounding R@.7, VQA and overall accuracy of every system on every eval set, with intervals."""
    systems, names = list(table), eval_sets(table)
    figure, axes = plt.subplots(2, len(SHOWN) // 2, figsize=(11, 5.6), sharey=True, layout="constrained")
    for axis, metric in zip(axes.flat, SHOWN, strict=True):
        for number, system in enumerate(systems):
            scores = [table[system][name] for name in names]
            values = [s[metric] or 0.0 for s in scores]
            bounds = [s[f"{metric}_ci"] or [v, v] for s, v in zip(scores, values, strict=True)]
            errors = [[v - b[0] for v, b in zip(values, bounds, strict=True)],
                      [b[1] - v for v, b in zip(values, bounds, strict=True)]]  # fmt: skip
            width = 0.8 / len(systems)
            places = np.arange(len(names)) + (number - (len(systems) - 1) / 2) * width
            axis.bar(places, values, 0.94 * width, yerr=errors, label=system, error_kw={"lw": 0.8})
        axis.set_xticks(range(len(names)), names, fontsize=10)
        axis.set_title(metric, fontsize=11)
    handles, labels = axes.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=min(len(labels), 6), fontsize=10)
    save(path)


def radar(table: Table, path: Path, name: str | None = None) -> None:
    """Every metric of an eval set as a ray from 0 to 1, a closed line per system."""
    name = name or eval_sets(table)[0]
    angles = np.linspace(0, 2 * np.pi, len(RADAR) + 1)
    _, axis = plt.subplots(figsize=(4.6, 4.2), subplot_kw={"polar": True})
    for system, sets in table.items():
        values = [sets[name][metric] or 0.0 for metric in RADAR.values()]
        axis.plot(angles, [*values, values[0]], label=system, linewidth=1.5)
        axis.fill(angles, [*values, values[0]], alpha=0.06)
    axis.set_xticks(angles[:-1], RADAR, fontsize=9)
    for label, angle in zip(axis.get_xticklabels(), angles, strict=False):
        label.set_horizontalalignment("left" if np.cos(angle) > 0.1 else "right" if np.cos(angle) < -0.1 else "center")
    axis.set_ylim(0, 1)
    axis.tick_params(axis="y", labelsize=7)
    axis.tick_params(axis="x", pad=4)
    axis.set_title(name, fontsize=11, pad=18)
    axis.legend(fontsize=9, loc="upper left", bbox_to_anchor=(1.35, 1.05))
    save(path)


def contrasts(rows: Mapping[str, Mapping[str, Mapping[str, Any]]], path: Path, name: str = "") -> None:
    """The contrasts of a study on the eval set `name`, with 95 % intervals and a dot per seed, a panel per metric."""
    metrics = list(dict.fromkeys(metric for row in rows.values() for metric in row))
    _, axes = plt.subplots(1, len(metrics), figsize=(11, 0.4 * len(rows) + 1.2), sharey=True, squeeze=False)
    for axis, metric in zip(axes[0], metrics, strict=True):
        for height, row in enumerate(rows.values()):
            if metric in row:
                axis.plot(row[metric]["per_seed"], [height] * len(row[metric]["per_seed"]), ".", color="#bbbbbb", ms=4)
                axis.plot(row[metric]["ci"] or [], [height] * 2 if row[metric]["ci"] else [], color=BLUE)
                axis.plot(row[metric]["mean"], height, "o", color=BLUE)
        axis.axvline(0, color="grey", linewidth=0.8)
        axis.set_yticks(range(len(rows)), rows)
        axis.set_title(f"{name} {metric}".strip(), fontsize=9)
        axis.locator_params(axis="x", nbins=5)
    axes[0][0].invert_yaxis()
    plt.tight_layout()
    save(path)


def pass_at_k(arms: Mapping[str, Mapping[str, Mapping[str, Any]]], path: Path) -> None:
    """pass@k over k, a line per arm and a panel per eval set: {eval set: {arm: {`pass@k`: mean and ci}}}."""
    _, axes = plt.subplots(1, len(arms), figsize=(3.6 * len(arms), 3), sharey=True, squeeze=False)
    for axis, (name, rows) in zip(axes[0], arms.items(), strict=True):
        for arm, row in rows.items():
            cells = {int(metric.removeprefix("pass@")): cell for metric, cell in row.items() if metric != "avg"}
            (line,) = axis.plot(list(cells), [cell["mean"] for cell in cells.values()], marker="o", label=arm)
            bounds = [cell["ci"] or [cell["mean"]] * 2 for cell in cells.values()]
            axis.fill_between(list(cells), *zip(*bounds, strict=True), color=line.get_color(), alpha=0.15, lw=0)
        axis.set_xscale("log", base=2)
        axis.set(title=name, xlabel="k", ylabel="pass@k")
    legend_beside(axes[0][-1])
    plt.tight_layout()
    save(path)


def ablation_bars(results: Mapping[str, Any], path: Path, name: str | None = None) -> None:
    """Held-out scores per variant on one eval set: bars are means over seeds, dots are seeds, the dashed line is SFT.

    `results`: `runs`, variant -> one {eval set: scores} per seed, and `sft`, {eval set: scores}.
    """
    metrics = ("evidence_miou", "tg_r70", "accuracy")
    name = name or next(iter(results["sft"]))
    _, axes = plt.subplots(1, len(metrics), figsize=(4.4 * len(metrics), 2.8))
    variants = list(results["runs"])
    for axis, metric in zip(axes, metrics, strict=True):
        values = [[run[name][metric] or 0.0 for run in results["runs"][variant]] for variant in variants]
        axis.bar(range(len(variants)), [np.mean(v) for v in values], color="#8fb8de")
        for place, seeds in enumerate(values):
            axis.plot([place] * len(seeds), seeds, "k.", ms=4)
        axis.axhline(results["sft"][name][metric] or 0.0, ls="--", color="grey", lw=1)
        axis.set_xticks(range(len(variants)), variants, fontsize=7, rotation=20)
        axis.set_title(f"{name} {metric}", fontsize=9)
    plt.tight_layout()
    save(path)


def ablation_curves(results: Mapping[str, Any], path: Path, smooth: int = 15) -> None:
    """Figure 5's curves: IoU, answer reward and tool-call rate of the rollouts over updates, one line per variant.

    `results["curves"]`: variant -> one logged history per seed.
    """
    names = ("iou", "reward_accuracy", "tool_call_rate")
    _, axes = plt.subplots(1, len(names), figsize=(4.4 * len(names), 2.8))
    for axis, name in zip(axes, names, strict=True):
        for variant, histories in results["curves"].items():
            runs = np.array([[row[name] for row in history if name in row] for history in histories])
            window = min(smooth, runs.shape[1])
            axis.plot(np.convolve(runs.mean(axis=0), np.ones(window) / window, "valid"), label=variant)
        axis.set_title(f"rollouts: {name}", fontsize=9)
    legend_beside(axes[-1])
    plt.tight_layout()
    save(path)


def trust(predictions: Mapping[str, Sequence[Prediction]], path: Path) -> None:
    """Reliability diagram and risk-coverage curve of one system, a line per eval set."""
    _, (left, right) = plt.subplots(1, 2, figsize=(9, 3))
    left.plot([0, 1], [0, 1], color="grey", linewidth=0.8)
    for name, some in predictions.items():
        rows = reliability(some)
        left.plot([r["confidence"] for r in rows], [r["accuracy"] for r in rows], marker="o", label=name)
        right.plot(*risk_coverage(some), label=name)
    left.set(title="reliability", xlabel="probability of the answer", ylabel="accuracy")
    right.set(title="risk if only the surest answer", xlabel="coverage", ylabel="1 - accuracy", ylim=(0, 1))
    legend_beside(right)
    plt.tight_layout()
    save(path)
