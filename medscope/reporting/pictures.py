"""Pictures and tables for the notebooks: curves, suite statistics, contact sheets and filmstrips of trajectories.

Charts that compare systems are in `charts`.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from IPython.display import HTML, Image, display
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from medscope.evaluation.benchmark import Outcome
from medscope.metrics import evidence_window
from medscope.records import Recording, Window
from medscope.suite.build import Suite
from medscope.suite.tasks import CHALLENGING
from medscope.environment.tools import ToolBudget, crop_seconds, frame_seconds, skim_seconds
from medscope.environment.video import FrameStore

PHASE_COLOURS = plt.get_cmap("tab10").colors
EVIDENCE, LOOKED = "#2a9d5c", "#d1495b"
NATIVE_PIXELS = 112 * 112


def table(rows: dict[str, dict[str, Any]], title: str = "") -> None:
    """Show a dict of rows as an HTML table; numbers with three digits."""
    names = list(dict.fromkeys(name for row in rows.values() for name in row))
    head = "".join(f"<th>{name}</th>" for name in ["", *names])
    body = "".join(
        f"<tr><th style='text-align:left'>{label}</th>"
        + "".join(f"<td>{_cell(row.get(n))}</td>" for n in names)
        + "</tr>"
        for label, row in rows.items()
    )
    display(HTML(f"<b>{title}</b><table><tr>{head}</tr>{body}</table>"))


def settings(values: dict[str, Any]) -> None:
    """How the numbers above were made, in one small line."""
    told = " · ".join(f"{name} {value}" for name, value in values.items())
    display(HTML(f"<p class='settings'>{told}</p>"))


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.3f}"
    return str(value)


def short(scores: dict[str, Any]) -> dict[str, str]:
    """Scores as text, the interval behind the value."""
    texts = {}
    for name, value in scores.items():
        if not name.endswith("_ci"):
            low_high = scores.get(f"{name}_ci")
            interval = f" [{low_high[0]:.2f}, {low_high[1]:.2f}]" if low_high else ""
            texts[name] = "–" if value is None else str(value) if isinstance(value, int) else f"{value:.2f}{interval}"
    return texts


def save(path: Path) -> None:
    """Write the current figure as PNG and show it."""
    plt.savefig(path, dpi=110, bbox_inches="tight")
    plt.show()
    plt.close()


def show_saved(path: Path) -> None:
    """Show a picture that another command has written, or say that it is missing."""
    display(Image(filename=str(path)) if path.exists() else HTML(f"<p>{path} has not been made yet</p>"))


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
    """The skim of a recording at full size, above its phases."""
    seconds = skim_seconds(recording.duration, budget.skim_frames)[:: max(1, budget.skim_frames // 10)]
    figure = plt.figure(figsize=(1.25 * len(seconds), 1.9))
    grid = figure.add_gridspec(2, len(seconds), height_ratios=[4, 1], wspace=0.04, hspace=0.25)
    _frames(figure, grid, 0, recording, store, seconds)
    time_line(figure.add_subplot(grid[1, :]), recording)
    figure.suptitle(f"{recording.video}, {recording.duration:g} s (drawn by a program)", fontsize=9)
    save(path)


def _frames(
    figure: Any, grid: Any, row: int, recording: Recording, store: FrameStore, seconds: Sequence[float]
) -> None:
    images, times = store.frames(recording.path, seconds, NATIVE_PIXELS)
    for column, (image, time) in enumerate(zip(images, times, strict=True)):
        axis = figure.add_subplot(grid[row, column])
        axis.imshow(image)
        axis.axis("off")
        axis.set_title(f"{time:g} s", fontsize=7, pad=1)


def time_line(axis: Axes, recording: Recording, evidence: Window | None = None, looked: Window | None = None) -> None:
    """Phases of a recording; the evidence window above them in green, the window looked at below them in red."""
    names = sorted({segment.phase for segment in recording.segments})
    for segment in recording.segments:
        colour = PHASE_COLOURS[names.index(segment.phase) % 10]
        axis.barh(0, segment.window.length, left=segment.window.start, color=colour, height=0.8, alpha=0.55)
        if segment.window.length > 0.08 * recording.duration:
            middle = (segment.window.start + segment.window.end) / 2
            axis.text(middle, 0, segment.phase[:12], fontsize=6, ha="center", va="center")
    for window, height, colour in ((evidence, 0.65, EVIDENCE), (looked, -0.65, LOOKED)):
        if window:
            axis.barh(height, window.length, left=window.start, height=0.3, color=colour)
    axis.set_xlim(0, recording.duration)
    axis.set_ylim(-0.9, 0.9)
    axis.set_yticks([])
    axis.tick_params(labelsize=6, length=2)
    for side in ("top", "left", "right"):
        axis.spines[side].set_visible(False)


def suite_statistics(suite: Suite, path: Path) -> None:
    """Durations, evidence lengths, where evidence lies, and how often each answer is right."""
    _, axes = plt.subplots(1, 4, figsize=(15, 2.8))
    for family in dict.fromkeys(r.family for r in suite.recordings):
        axes[0].hist([r.duration for r in suite.recordings if r.family == family], bins=20, alpha=0.6, label=family)
    axes[0].set_title("duration (s)", fontsize=9)
    axes[0].legend(fontsize=7)
    windows = [(q, evidence_window(q.evidence)) for q in suite.question_list if q.kind in CHALLENGING]
    axes[1].hist([w.length for q, w in windows if q.family != "clips"], bins=30)
    axes[1].set_title("evidence window (s), long videos", fontsize=9)
    centres = [(w.start + w.end) / 2 / suite.recordings_by_video[q.video].duration for q, w in windows]
    axes[2].hist(centres, bins=20)
    axes[2].set_title("evidence centre / duration", fontsize=9)
    answers = Counter(q.answer for q in suite.question_list if q.kind in ("instrument", "complication"))
    axes[3].barh([a for a, _ in answers.most_common()], [n for _, n in answers.most_common()])
    axes[3].tick_params(axis="y", labelsize=5)
    axes[3].set_title("answers", fontsize=9)
    plt.tight_layout()
    save(path)


def filmstrip(found: Outcome, recording: Recording, store: FrameStore, budget: ToolBudget, path: Path) -> None:
    """Write and show the filmstrip of one trajectory."""
    filmstrip_figure(found, recording, store, budget)
    save(path)


def filmstrip_figure(found: Outcome, recording: Recording, store: FrameStore, budget: ToolBudget) -> Figure:
    """One trajectory: the skim, what every executed call showed, the time line, the thoughts and the answer."""
    looks = [call for call in found.calls if call.executed]
    rows = [skim_seconds(recording.duration, budget.skim_frames)[:: max(1, budget.skim_frames // 8)]]
    fps = store.video(recording.path).fps
    window = None
    for call in looks:
        if call.name == "crop_video":
            window = Window(call.arguments["start_time"], min(call.arguments["end_time"], recording.duration))
            rows.append(crop_seconds(window, fps, budget))
        else:
            rows.append(frame_seconds(call.arguments["timestamp"], recording.duration, fps))
    columns = max(len(row) for row in rows)
    figure = plt.figure(figsize=(1.15 * columns, 1.3 * len(rows) + 1.5))
    grid = figure.add_gridspec(len(rows) + 1, columns, height_ratios=[3] * len(rows) + [1], wspace=0.04, hspace=0.3)
    for number, seconds in enumerate(rows):
        _frames(figure, grid, number, recording, store, seconds)
        label = "skim" if number == 0 else looks[number - 1].name
        figure.axes[-len(seconds)].text(-0.12, 0.5, label, rotation=90, fontsize=8, ha="right", va="center",
                                        transform=figure.axes[-len(seconds)].transAxes)  # fmt: skip
    time_line(figure.add_subplot(grid[-1, :]), recording, evidence_window(found.question.evidence), window)
    verdict = "right" if found.accuracy == 1 else "half right" if found.accuracy else "wrong"
    figure.suptitle(f"{found.question.text}\nreference: {found.question.answer} · {verdict}", fontsize=9, y=1.0)
    said = "\n".join(turn.replace("$", "") for turn in found.turns)
    figure.text(0.13, 0.02, said, fontsize=6, family="monospace", va="top", wrap=True)
    return figure


def examples_of(splits: dict[str, list[Outcome]], each: int = 2) -> dict[str, Outcome]:
    """Filmstrips to show: of every split successes (right and looked there) and failures, each on another video."""
    shown = {}
    for split, outcomes in splits.items():
        right = [o for o in outcomes if o.accuracy == 1 and o.hit and o.question.kind != "grounding"]
        wrong = [o for o in outcomes if o.accuracy == 0]
        for name, some in (("success", right), ("failure", wrong)):
            first = {o.question.video: o for o in reversed(some)}  # the first question of every video
            for number, video in enumerate(list(dict.fromkeys(o.question.video for o in some))[:each]):
                shown[f"{split}_{name}_{number}"] = first[video]
    return shown
