"""One answer of one model: what it saw and thought, playback of its windows, and the window as the reader corrects it.

Everything that comes from outside (questions, turns, names, messages of errors) is escaped.
"""

from collections.abc import Mapping
from html import escape
from pathlib import Path

import ipywidgets as widgets

from medscope.agents.frames import data_uri, jpeg
from medscope.environment import FrameStore
from medscope.environment.grammar import parse_window
from medscope.environment.tools import skim_seconds
from medscope.evaluation.judge import text_of
from medscope.metrics import evidence_window
from medscope.records import Task, Window
from medscope.reporting.ask_page import CLIP_BYTES, clip_player, steps, thumbnails, time_line
from medscope.reporting.reading_room.corrections import correction, save_correction
from medscope.reporting.reading_room.videos import Choice
from medscope.session import Session, cost_facts

EDGE_PIXELS, EDGE_BYTES = 100_000, 65_536  # of the frames at both ends of the window
STEP = 0.1  # s that a slider moves; its number can be typed more finely
YOURS = "your window"
COLUMN = {"flex": "1 1 0", "min_width": "0", "padding": "0 10px 0 0"}
STYLE = """<style>
.medscope { color: var(--jp-ui-font-color1, #222); --look: #c8414f; --named: #2a8a5a; --soft: rgba(128,128,128,.14);
  line-height: 1.45; overflow-wrap: anywhere }
.medscope .answer { font-size: 1.15rem; border-left: .3rem solid var(--named); padding: .3rem .8rem;
  background: var(--soft); margin: .3rem 0 }
.medscope .error { border-left: .3rem solid var(--look); padding: .3rem .8rem; background: var(--soft);
  margin: .3rem 0 }
.medscope .facts { font-size: .8rem; opacity: .8 } .medscope .thought { white-space: pre-wrap; margin: .3rem 0 }
.medscope .frames { display: flex; flex-wrap: wrap; gap: .25rem } .medscope figure { margin: 0; font-size: .7rem;
  text-align: center } .medscope .frames img { height: 5rem; display: block }
.medscope .edges { display: flex; gap: .5rem } .medscope .edges img { height: 9rem; display: block }
.medscope video { width: 100%; max-height: 20rem; background: #000 }
.medscope pre { white-space: pre-wrap; font-size: .8rem; background: var(--soft); padding: .4rem }
.medscope h2 { font-size: 1rem; margin: .8rem 0 0 }
.medscope svg { width: 100%; height: auto } .medscope svg text { fill: currentColor; font: 18px system-ui, sans-serif }
.medscope .track { fill: var(--soft) } .medscope .skim { stroke: currentColor; opacity: .5 }
.medscope .look { fill: var(--look) } .medscope .named { fill: var(--named) } .medscope .marked { fill: #5577cc }
</style>"""


def html(body: str) -> widgets.HTML:
    """A widget of HTML whose text is escaped already."""
    return widgets.HTML(f'<div class="medscope">{body}</div>', layout={"width": "100%"})


def error_text(error: BaseException) -> str:
    """An error as one line; its kind where it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__


class Failure(widgets.VBox):
    """In the place of an answer where there is no session: why."""

    def __init__(self, model: str, error: BaseException):
        super().__init__([html(f"<b>{escape(model)}</b>{_error(error)}")], layout=COLUMN)


class Reading(widgets.VBox):
    """A session that was answered, or cut off by `error`. `task` is the suite's, which knows the evidence.

    Sliders `start` and `end` (s), `label` and the button `save` correct the window; `player` plays what `play` names.
    Raises VideoError where a frame cannot be read.
    """

    def __init__(
        self,
        model: str,
        session: Session,
        choice: Choice,
        store: FrameStore,
        corrections: Path,
        error: BaseException | None = None,
        warning: str = "",
    ):
        self.session, self.choice, self.store, self.folder = session, choice, store, corrections
        self.budget, self.path = session.environment.budget, session.task.path
        self.duration = store.video(self.path).duration
        self.task: Task | None = choice.tasks.get(session.task.question)
        self.saved = None
        self.windows = self._windows()
        self.line, self.edges, self.player, self.note = (html("") for _ in range(4))
        self._make_controls()
        self._show_window()
        self._show_clip()
        head = f"<b>{escape(model)}</b>{_head(session, error, warning, self.task)}"
        super().__init__(
            [
                html(head), self.line, self.play, self.player,
                html("<b>Correct the window</b>"), self.start, self.end, self.edges,
                widgets.HBox([self.label, self.save]), self.note, html(self._steps()),
            ],
            layout=COLUMN,
        )  # fmt: skip

    def _windows(self) -> dict[str, Window]:
        """What can be played, the answer's window first; each within the video."""
        found = {}
        if (named := parse_window(self.session.answer)) is not None:
            found["answer"] = named
        calls = list(enumerate(self.session.environment.trace.calls, start=1))
        for number, call in reversed(calls):
            if call.looked is not None:
                found[f"{number} {call.name}"] = evidence_window(call.looked)
        if self.task is not None:
            found["evidence of the suite"] = evidence_window(self.task.evidence)
        ends = {name: (min(w.start, self.duration), min(w.end, self.duration)) for name, w in found.items()}
        return {name: Window(*end) for name, end in ends.items()} or {"whole video": Window(0, self.duration)}

    def _make_controls(self) -> None:
        first = next(iter(self.windows.values()))
        wide, room = {"width": "98%"}, {"description_width": "3.5rem"}
        bounds = {"min": 0.0, "max": self.duration, "step": STEP, "readout_format": ".2f", "continuous_update": False}
        self.start = widgets.FloatSlider(value=first.start, description="from (s)", layout=wide, style=room, **bounds)
        self.end = widgets.FloatSlider(value=first.end, description="to (s)", layout=wide, style=room, **bounds)
        self.label = widgets.Text(self.session.task.question, description="label", layout=wide, style=room)
        self.save = widgets.Button(description="save", icon="check", tooltip=f"to {self.folder}")
        self.play = widgets.Dropdown(options=[*self.windows, YOURS], description="play", style=room)
        self.start.observe(self._moved, names="value")
        self.end.observe(self._moved, names="value")
        self.play.observe(lambda _: self._show_clip(), names="value")
        self.save.on_click(lambda _: self._save())

    def _moved(self, change: Mapping) -> None:
        """A slider takes the other one with it where they would cross."""
        if self.start.value > self.end.value:
            other = self.end if change["owner"] is self.start else self.start
            other.value = change["new"]  # comes back here
            return
        self._show_window()
        if self.play.value == YOURS:
            self._show_clip()

    def _show_window(self) -> None:
        """The time line, and the frames at both ends of the window."""
        window = Window(self.start.value, self.end.value)
        marked = {YOURS: window}
        if self.task is not None:
            marked["evidence"] = evidence_window(self.task.evidence)
        skim = skim_seconds(self.duration, self.budget.skim_frames)
        calls = self.session.environment.trace.calls
        line = time_line(self.duration, skim, calls, parse_window(self.session.answer), marked)
        images, times = self.store.frames(self.path, [window.start, window.end], EDGE_PIXELS)
        figures = "".join(
            f'<figure><img alt="{where} of the window" src="{data_uri(jpeg(image, EDGE_BYTES))}">{time:g} s</figure>'
            for where, image, time in zip(("start", "end"), images, times, strict=True)
        )
        _set(self.line, line)
        _set(self.edges, f'<div class="edges">{figures}</div>')

    def _show_clip(self) -> None:
        window = self.windows.get(self.play.value) or Window(self.start.value, self.end.value)
        _set(self.player, clip_player(self.path, window, CLIP_BYTES)[0])

    def _save(self) -> None:
        """Write the window to the files of annotations; saving again moves what was saved before."""
        try:
            made = correction(
                self.choice.name, self.start.value, self.end.value, self.label.value, self.task.id if self.task else ""
            )
            files = save_correction(self.folder, made, self.saved)
        except (ValueError, OSError) as error:
            _set(self.note, _error(error))
            return
        self.saved = made
        places = ", ".join(escape(str(file)) for file in files)
        _set(self.note, f'<p class="facts">saved {made.start:g} to {made.end:g} s to {places}</p>')

    def _steps(self) -> str:
        """Every turn with its thought and what its call showed; then the skim."""
        parts = steps(self.session.trajectory, self.store, self.budget, clip_bytes=0)
        skim = skim_seconds(self.duration, self.budget.skim_frames)
        frames = thumbnails(self.store, self.path, skim, self.budget.skim_pixels)
        return f"{''.join(parts)}<details><summary>the skim</summary>{frames}</details>"


def _set(widget: widgets.HTML, body: str) -> None:
    widget.value = f'<div class="medscope">{body}</div>'


def _error(error: BaseException) -> str:
    return f'<p class="error">{escape(error_text(error))}</p>'


def _head(session: Session, error: BaseException | None, warning: str, task: Task | None) -> str:
    answer = "There is no answer." if session.answer is None else session.answer
    parts = [f'<p class="answer">{escape(answer)}</p>']
    if error is not None:
        parts.append(_error(error))
    if task is not None:
        parts.append(f'<p class="facts">reference of the suite: {escape(text_of(task.reference))}</p>')
    if warning:
        parts.append(f'<p class="error">{escape(warning)}</p>')
    facts = " · ".join(f"{escape(name)} {escape(value)}" for name, value in cost_facts(session).items())
    return "".join(parts) + f'<p class="facts">{facts}</p>'
