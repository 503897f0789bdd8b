"""Tables, curves, contact sheets and filmstrips for the notebooks. Charts that compare systems are in `charts`.

Everything that is shown may come from data (questions, labels, turns of a model). Text in tables is escaped; text in
pictures is drawn as it is, without matplotlib's mathematics.
"""

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import HTML, Image, display
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec

from medscope.environment import FrameStore, ToolBudget
from medscope.environment.tools import skim_seconds
from medscope.evaluation.judge import text_of
from medscope.evaluation.predictions import Prediction
from medscope.metrics import evidence_recall, evidence_window
from medscope.records import Recording, Text, Window
from medscope.suite.suite import Suite

plt.rcParams["text.parse_math"] = False  # a $ in a question or a label is a dollar

LABEL_COLOURS = plt.get_cmap("tab10").colors
EVIDENCE_COLOUR, CROP_COLOUR = "#2a9d5c", "#d1495b"
NATIVE_PIXELS = 112 * 112  # of a frame in a picture
MOST_ANSWERS = 30  # in the chart of answers
MOST_COLUMNS = 10  # of a table


def table(rows: Mapping[str, Mapping[str, Any]], title: str = "") -> None:
    """Show a dict of rows as an HTML table, everything in it escaped. Floats have three digits; None is a dash.

    A column without any value is left out. Long names and the interval behind a value may take a line of their own, and
    more than `MOST_COLUMNS` become several tables below each other: each fits on its page.
    """
    text = {label: {name: _cell(value) for name, value in row.items()} for label, row in rows.items()}
    names = list(dict.fromkeys(name for row in text.values() for name in row))
    names = [name for name in names if any(row.get(name, "–") != "–" for row in text.values())]
    frame = pd.DataFrame.from_dict(text, orient="index", columns=names or None).fillna("–")
    frame = frame.rename(index=_markup, columns=_markup).map(_markup)
    parts = np.array_split(np.arange(frame.shape[1]), max(1, math.ceil(frame.shape[1] / MOST_COLUMNS)))
    with pd.option_context("display.max_colwidth", None):
        tables = "".join(frame.iloc[:, part].to_html(border=0, escape=False) for part in parts)
    display(HTML(f"<b>{escape(title)}</b>{tables}"))


def _markup(text: Any) -> str:
    """Escaped text that may be broken behind `_` and `/`, an interval behind a value in small letters."""
    breakable = re.sub(r"([_/])", r"\1<wbr>", escape(str(text)))
    return re.sub(r"^(\S+) (\[[^\[\]]*\])$", r"\1 <small>\2</small>", breakable)


def settings(values: Mapping[str, Any]) -> None:
    """How the numbers above were made, in one small line."""
    line = " · ".join(f"{name} {value}" for name, value in values.items())
    display(HTML(f"<p class='settings'>{escape(line)}</p>"))


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def short(scores: Mapping[str, Any]) -> dict[str, str]:
    """Scores as text, the interval behind the value."""
    texts = {}
    for name, value in scores.items():
        if not name.endswith("_ci"):
            low_high = scores.get(f"{name}_ci")
            interval = f" [{low_high[0]:.2f}, {low_high[1]:.2f}]" if low_high else ""
            texts[name] = f"{value:.2f}{interval}" if isinstance(value, float) else _cell(value)
    return texts


def save(path: Path) -> None:
    """Write the current figure as PNG and show it."""
    plt.savefig(path, dpi=110, bbox_inches="tight")
    plt.show()
    plt.close()


def show_saved(path: Path) -> None:
    """Show a picture that another command has written, or say that it is missing."""
    missing = HTML(f"<p>{escape(str(path))} has not been made yet</p>")
    display(Image(filename=str(path)) if path.exists() else missing)


def curves(history: Sequence[dict[str, float]], names: Sequence[str], path: Path, smooth: int = 1) -> None:
    """One small plot per logged quantity over optimiser steps, with a running mean over `smooth` logs."""
    rows = int(np.ceil(len(names) / 4))
    _, axes = plt.subplots(rows, min(4, len(names)), figsize=(3.4 * min(4, len(names)), 2.4 * rows), squeeze=False)
    for axis, name in zip(axes.flat, names, strict=False):
        points = [(row["step"], row[name]) for row in history if name in row]
        if points:
            steps, values = np.array(points).T
            window = min(smooth, len(values))
            axis.plot(steps, values, alpha=0.3 if window > 1 else 1.0)
            if window > 1:
                axis.plot(steps[window - 1 :], np.convolve(values, np.ones(window) / window, "valid"), color="C0")
        axis.set_title(name, fontsize=9)
    for axis in axes.flat[len(names) :]:
        axis.axis("off")
    plt.tight_layout()
    save(path)


def contact_sheet(recording: Recording, store: FrameStore, budget: ToolBudget, path: Path) -> None:
    """The skim of a recording at full size, above its intervals."""
    seconds = skim_seconds(recording.duration, budget.skim_frames)[:: max(1, budget.skim_frames // 10)]
    figure = plt.figure(figsize=(1.25 * len(seconds), 1.9))
    grid = figure.add_gridspec(2, len(seconds), height_ratios=[4, 1], wspace=0.04, hspace=0.25)
    frame_row(figure, grid, 0, recording.path, store, seconds)
    time_line(figure.add_subplot(grid[1, :]), recording)
    figure.suptitle(f"{recording.video}, {recording.duration:g} s", fontsize=9)
    save(path)


def frame_row(figure: Figure, grid: GridSpec, row: int, path: str, store: FrameStore, seconds: Sequence[float]) -> None:
    """Frames side by side in a row of a grid, each under its second."""
    images, times = store.frames(path, seconds, NATIVE_PIXELS)
    for column, (image, time) in enumerate(zip(images, times, strict=True)):
        axis = figure.add_subplot(grid[row, column])
        axis.imshow(image)
        axis.axis("off")
        axis.set_title(f"{time:g} s", fontsize=7, pad=1)


def time_line(axis: Axes, recording: Recording, evidence: Window | None = None, crop: Window | None = None) -> None:
    """The intervals of a recording; the evidence above them in green, the last crop below them in red."""
    labels = sorted({interval.label for interval in recording.intervals})
    for interval in recording.intervals:
        window, colour = interval.window, LABEL_COLOURS[labels.index(interval.label) % len(LABEL_COLOURS)]
        axis.barh(0, window.length, left=window.start, color=colour, height=0.8, alpha=0.55)
        if window.length > 0.08 * recording.duration:
            axis.text((window.start + window.end) / 2, 0, interval.label[:12], fontsize=6, ha="center", va="center")
    for window, height, colour in ((evidence, 0.65, EVIDENCE_COLOUR), (crop, -0.65, CROP_COLOUR)):
        if window:
            axis.barh(height, window.length, left=window.start, height=0.3, color=colour)
    axis.set_xlim(0, recording.duration)
    axis.set_ylim(-0.9, 0.9)
    axis.set_yticks([])
    axis.tick_params(labelsize=6, length=2)
    for side in ("top", "left", "right"):
        axis.spines[side].set_visible(False)


def suite_statistics(suite: Suite, path: Path) -> None:
    """Durations, lengths and places of the evidence, and how often each answer in words is right."""
    _, axes = plt.subplots(1, 4, figsize=(15, 2.8))
    for collection in dict.fromkeys(r.collection for r in suite.recordings):
        durations = [r.duration for r in suite.recordings if r.collection == collection]
        axes[0].hist(durations, bins=20, alpha=0.6, label=collection)
    axes[0].set_title("duration (s)", fontsize=9)
    axes[0].legend(fontsize=7, loc="lower center", bbox_to_anchor=(0.5, 1.1), ncols=2)  # above, where it covers nothing
    asked = [task for task in suite.tasks if task.challenging and not task.free_text]
    axes[1].hist([task.evidence.length for task in asked if isinstance(task.evidence, Window)], bins=30)
    axes[1].set_title("length of window evidence (s)", fontsize=9)
    windows = [(evidence_window(task.evidence), suite.recording(task.video).duration) for task in asked]
    axes[2].hist([(window.start + window.end) / 2 / duration for window, duration in windows], bins=20)
    axes[2].set_title("evidence centre / duration", fontsize=9)
    answers = Counter(task.reference.text for task in asked if isinstance(task.reference, Text))
    common = answers.most_common(MOST_ANSWERS)
    axes[3].barh([answer for answer, _ in common], [count for _, count in common])
    axes[3].tick_params(axis="y", labelsize=5)
    axes[3].set_title("answers in words", fontsize=9)
    plt.tight_layout()
    save(path)


def filmstrip(found: Prediction, recording: Recording, store: FrameStore, budget: ToolBudget, path: Path) -> None:
    """Write and show the filmstrip of one prediction."""
    filmstrip_figure(found, recording, store, budget)
    save(path)


def filmstrip_figure(found: Prediction, recording: Recording, store: FrameStore, budget: ToolBudget) -> Figure:
    """One prediction: the skim, what every executed call showed, the time line, the turns and the verdict."""
    skim = skim_seconds(recording.duration, budget.skim_frames)[:: max(1, budget.skim_frames // 8)]
    rows = {"skim": skim, **{f"{n} {call.name}": call.seconds for n, call in enumerate(found.looks, start=1)}}
    columns = max(len(seconds) for seconds in rows.values())
    figure = plt.figure(figsize=(1.15 * columns, 1.3 * len(rows) + 1.5))
    grid = figure.add_gridspec(len(rows) + 1, columns, height_ratios=[3] * len(rows) + [1], wspace=0.04, hspace=0.3)
    for number, (label, seconds) in enumerate(rows.items()):
        frame_row(figure, grid, number, recording.path, store, seconds)
        first = figure.axes[-len(seconds)]
        place = {"rotation": 90, "ha": "right", "va": "center", "transform": first.transAxes}
        first.text(-0.12, 0.5, label, fontsize=8, **place)
    time_line(figure.add_subplot(grid[-1, :]), recording, evidence_window(found.task.evidence), found.window)
    verdict = "right" if found.accuracy == 1 else "half right" if found.accuracy else "wrong"
    title = f"{found.task.question}\nreference: {text_of(found.task.reference)} · {verdict}"
    figure.suptitle(title, fontsize=9, y=1.0)
    figure.text(0.13, 0.02, "\n".join(found.turns), fontsize=8, family="monospace", va="top", wrap=True)
    return figure


def filmstrip_examples(predictions: Mapping[str, Sequence[Prediction]], each: int = 2) -> dict[str, Prediction]:
    """Filmstrips to show, of every eval set: right answers in words after a look at the evidence, and wrong answers.

    At most `each` of both, each of another video (the first task of the video that fits).
    """
    shown = {}
    for name, some in predictions.items():
        right = [p for p in some if p.accuracy == 1 and isinstance(p.task.reference, Text)]
        successes = [p for p in right if evidence_recall(p.last_look, p.task.evidence)]
        failures = [p for p in some if p.accuracy == 0]
        for verdict, fitting in (("success", successes), ("failure", failures)):
            first = {p.task.video: p for p in reversed(fitting)}
            for number, video in enumerate(list(dict.fromkeys(p.task.video for p in fitting))[:each]):
                shown[f"{name}_{verdict}_{number}"] = first[video]
    return shown
