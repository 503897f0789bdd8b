"""Charts that compare systems: the paper's figure 1 (bars and radar) and figure 5 (ablations), of our runs."""

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from medscope.reporting.pictures import save

Table = dict[str, dict[str, dict[str, Any]]]  # system -> split -> metric -> value (and metric_ci)


def system_bars(table: Table, path: Path) -> None:
    """Evidence mIoU, grounding R@.7, VQA and overall accuracy of every system on every split, with intervals."""
    names = ("evidence_miou", "tg_r70", "vqa_acc", "accuracy")
    systems, splits = list(table), list(next(iter(table.values())))
    _, axes = plt.subplots(1, len(names), figsize=(4 * len(names), 2.8), sharey=True)
    for axis, name in zip(axes, names, strict=True):
        for number, system in enumerate(systems):
            scores = [table[system][split] for split in splits]
            values = [s[name] or 0.0 for s in scores]
            bounds = [s[f"{name}_ci"] or [v, v] for s, v in zip(scores, values, strict=True)]
            errors = [[v - b[0] for v, b in zip(values, bounds, strict=True)],
                      [b[1] - v for v, b in zip(values, bounds, strict=True)]]  # fmt: skip
            width = 0.8 / len(systems)
            places = np.arange(len(splits)) + (number - (len(systems) - 1) / 2) * width
            axis.bar(places, values, 0.94 * width, yerr=errors, label=system, error_kw={"lw": 0.8})
        axis.set_xticks(range(len(splits)), splits, fontsize=8)
        axis.set_title(name, fontsize=9)
    axes[0].legend(fontsize=7)
    plt.tight_layout()
    save(path)


RADAR = {
    "R@.3": "tg_r30", "R@.5": "tg_r50", "R@.7": "tg_r70", "grounding mIoU": "tg_miou", "evidence mIoU": "evidence_miou",
    "VQA accuracy": "vqa_acc", "accuracy": "accuracy",
}  # fmt: skip


def radar(table: Table, path: Path, split: str = "cataract") -> None:
    """Every metric of a split as a ray from 0 to 1, a closed line per system."""
    angles = np.linspace(0, 2 * np.pi, len(RADAR) + 1)
    _, axis = plt.subplots(figsize=(4.6, 4.2), subplot_kw={"polar": True})
    for system, splits in table.items():
        values = [splits[split][name] or 0.0 for name in RADAR.values()]
        axis.plot(angles, [*values, values[0]], label=system, linewidth=1.5)
        axis.fill(angles, [*values, values[0]], alpha=0.06)
    axis.set_xticks(angles[:-1], RADAR, fontsize=8)
    axis.set_ylim(0, 1)
    axis.tick_params(axis="y", labelsize=6)
    axis.tick_params(axis="x", pad=14)
    axis.set_title(split, fontsize=9, pad=22)
    axis.legend(fontsize=7, loc="upper left", bbox_to_anchor=(1.25, 1.05))
    save(path)


def ladder(table: Table, path: Path, split: str = "cataract") -> None:
    """Systems from top to bottom, a panel per metric: value and 95 % interval."""
    names = ("evidence_miou", "tg_r70", "vqa_acc", "accuracy")
    _, axes = plt.subplots(1, len(names), figsize=(3 * len(names), 0.3 * len(table) + 1.0), sharey=True)
    for axis, name in zip(axes, names, strict=True):
        for height, splits in enumerate(table.values()):
            axis.plot(splits[split][f"{name}_ci"], [height, height], color="#4477aa")
            axis.plot(splits[split][name], height, "o", color="#4477aa", ms=5)
        axis.set_yticks(range(len(table)), table, fontsize=8)
        axis.set_xlim(-0.03, 1.03)
        axis.grid(axis="x", alpha=0.3)
        axis.set_title(f"{split} {name}", fontsize=9)
    axes[0].invert_yaxis()
    plt.tight_layout()
    save(path)


def differences(rows: dict[str, dict[str, dict[str, Any]]], path: Path) -> None:
    """Difference of every ablation variant from `full`, with 95 % intervals, a panel per metric."""
    variants, metrics = [variant for variant in rows if variant != "full"], list(rows["full"])
    _, axes = plt.subplots(1, len(metrics), figsize=(11, 0.4 * len(variants) + 1.2), sharey=True, squeeze=False)
    for axis, metric in zip(axes[0], metrics, strict=True):
        for height, variant in enumerate(variants):
            cell = rows[variant][metric]
            axis.plot(cell["minus_full_ci"], [height, height], color="#4477aa")
            axis.plot(cell["minus_full"], height, "o", color="#4477aa")
        axis.axvline(0, color="grey", linewidth=0.8)
        axis.set_yticks(range(len(variants)), variants)
        axis.set_title(f"cataract {metric}, minus full", fontsize=9)
        axis.locator_params(axis="x", nbins=5)
    plt.tight_layout()
    save(path)


def ablation_bars(results: dict[str, Any], path: Path) -> None:
    """Held-out scores per variant: bars are means over seeds, dots are seeds, the dashed line is SFT."""
    names = ("evidence_miou", "tg_r70", "accuracy")
    _, axes = plt.subplots(1, len(names), figsize=(4.4 * len(names), 2.8))
    variants = list(results["runs"])
    for axis, name in zip(axes, names, strict=True):
        values = [[run["cataract"][name] for run in results["runs"][v]] for v in variants]
        axis.bar(range(len(variants)), [np.mean(v) for v in values], color="#8fb8de")
        for place, seeds in enumerate(values):
            axis.plot([place] * len(seeds), seeds, "k.", ms=4)
        axis.axhline(results["sft"]["cataract"][name], ls="--", color="grey", lw=1)
        axis.set_xticks(range(len(variants)), variants, fontsize=7, rotation=20)
        axis.set_title(f"cataract {name}", fontsize=9)
    plt.tight_layout()
    save(path)


def ablation_curves(results: dict[str, Any], path: Path, smooth: int = 15) -> None:
    """Figure 5's curves: IoU, answer reward and tool-call rate of the rollouts over updates, one line per variant."""
    names = ("iou", "reward_accuracy", "tool_call_rate")
    _, axes = plt.subplots(1, len(names), figsize=(4.4 * len(names), 2.8))
    for axis, name in zip(axes, names, strict=True):
        for variant, histories in results["curves"].items():
            runs = np.array([[row[name] for row in history if name in row] for history in histories])
            window = min(smooth, runs.shape[1])
            axis.plot(np.convolve(runs.mean(axis=0), np.ones(window) / window, "valid"), label=variant)
        axis.set_title(f"rollouts: {name}", fontsize=9)
    axes[0].legend(fontsize=7)
    plt.tight_layout()
    save(path)
