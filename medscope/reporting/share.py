"""The one picture of a report to pass on: what the systems score, and one answer with what was looked at for it."""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from medscope.environment import FrameStore, ToolBudget
from medscope.environment.tools import skim_seconds
from medscope.evaluation.judge import text_of
from medscope.evaluation.predictions import Prediction
from medscope.metrics import evidence_recall, evidence_window
from medscope.records import Recording, Text
from medscope.reporting.pictures import frame_row, time_line
from medscope.suite.suite import Suite

SIZE, DPI = (12.0, 6.3), 100  # 1200 x 630 px, the shape in which links are previewed
METRICS = {"accuracy": "right answers", "evidence_miou": "looked at the evidence (mIoU)"}
MOST_FRAMES, MOST_LOOKS = 8, 2
COLOURS = ("#4477aa", "#ee7733")


def share_example(predictions: Sequence[Prediction]) -> Prediction | None:
    """A right answer in words after a look at the evidence, of those the one with the most looks; None without one."""
    right = [
        p for p in predictions
        if p.accuracy == 1 and isinstance(p.task.reference, Text) and evidence_recall(p.last_look, p.task.evidence)
    ]  # fmt: skip
    return max(right, key=lambda found: len(found.looks), default=None)


def share_picture(
    table: Mapping[str, Mapping[str, Mapping[str, Any]]],
    name: str,
    found: Prediction | None,
    suite: Suite,
    store: FrameStore,
    budget: ToolBudget,
    note: str,
    path: Path,
) -> None:
    """Write and show the picture: scores of every system on the eval set `name`, and the prediction `found`.

    `table` is that of metrics/evaluate.json, `note` what a reader must know of the numbers. Without a prediction the
    scores stand alone. Raises VideoError where a frame cannot be read.
    """
    figure = plt.figure(figsize=SIZE, facecolor="white")
    figure.text(0.03, 0.93, "MedScope: answers with the evidence that was looked at", fontsize=17, weight="bold")
    figure.text(0.03, 0.035, textwrap.fill(note, 150), fontsize=9, color="#555")
    _scores(figure.add_axes((0.1, 0.16, 0.24 if found else 0.8, 0.64)), table, name)
    if found is not None:
        _example(figure, found, suite.recording(found.task.video), store, budget)
    figure.savefig(path, dpi=DPI)
    plt.show()
    plt.close(figure)


def _scores(axis: Axes, table: Mapping[str, Mapping[str, Mapping[str, Any]]], name: str) -> None:
    """A pair of bars for every system, with 95 % intervals; the legend above them."""
    height = 0.8 / len(METRICS)
    for number, (metric, label) in enumerate(METRICS.items()):
        for place, sets in enumerate(table.values()):
            value, interval = sets[name][metric] or 0.0, sets[name].get(f"{metric}_ci")
            low, high = interval or (value, value)
            y = place + (number - (len(METRICS) - 1) / 2) * height
            bar = {"color": COLOURS[number], "label": label if place == 0 else None, "error_kw": {"lw": 0.9}}
            axis.barh(y, value, 0.92 * height, xerr=[[value - low], [high - value]], **bar)
            axis.text(max(value, high) + 0.02, y, f"{value:.2f}", va="center", fontsize=9)
    axis.set_yticks(range(len(table)), table, fontsize=11)
    axis.invert_yaxis()
    axis.set_xlim(0, 1.16)
    axis.set_xticks([0, 0.5, 1])
    axis.set_xlabel(f"{name}, held-out videos", fontsize=10)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
    axis.legend(loc="lower left", bbox_to_anchor=(-0.35, 1.0), fontsize=10, frameon=False)


def _example(figure: Figure, found: Prediction, recording: Recording, store: FrameStore, budget: ToolBudget) -> None:
    """The question, the skim, the last looks, the time line, and the answer beside the reference."""
    skim = skim_seconds(recording.duration, budget.skim_frames)
    looks = list(enumerate(found.looks, start=1))[-MOST_LOOKS:]
    rows = {"skim": skim, **{f"look {number}": call.seconds for number, call in looks}}
    rows = {label: _some(seconds) for label, seconds in rows.items()}
    columns = max(len(seconds) for seconds in rows.values())
    grid = figure.add_gridspec(
        len(rows) + 1, columns, height_ratios=[3] * len(rows) + [1.2], wspace=0.05, hspace=0.3,
        left=0.43, right=0.98, top=0.8, bottom=0.2,
    )  # fmt: skip
    for number, (label, seconds) in enumerate(rows.items()):
        frame_row(figure, grid, number, recording.path, store, seconds)
        first = figure.axes[-len(seconds)]
        first.text(-0.12, 0.5, label, fontsize=10, rotation=90, ha="right", va="center", transform=first.transAxes)
    time_line(figure.add_subplot(grid[-1, :]), recording, evidence_window(found.task.evidence), found.window)
    figure.text(0.43, 0.855, textwrap.shorten(found.task.question, 75, placeholder=" .."), fontsize=13)
    answer = textwrap.shorten(
        f"answer: {found.answer} (reference: {text_of(found.task.reference)})", 80, placeholder=".."
    )
    figure.text(0.43, 0.115, answer, fontsize=12, weight="bold")
    figure.text(0.98, 0.115, "green: the evidence, red: the last look", fontsize=9, ha="right", color="#555")


def _some(seconds: Sequence[float]) -> list[float]:
    """At most `MOST_FRAMES` of them, evenly spread."""
    if len(seconds) <= MOST_FRAMES:
        return list(seconds)
    return [seconds[i * len(seconds) // MOST_FRAMES] for i in range(MOST_FRAMES)]
