"""The reading room of explore.ipynb: ask any video, see what one or two models looked at, correct their windows."""

import io
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stderr
from html import escape
from pathlib import Path
from tempfile import TemporaryDirectory

import ipywidgets as widgets

from medscope.environment import FrameStore, ToolBudget
from medscope.models import TINY, EndpointSettings, Model, open_model
from medscope.remote import EndpointError
from medscope.reporting.reading_room.reading import STYLE, Failure, Reading, error_text, html
from medscope.reporting.reading_room.videos import Choice, choices_of, keep_upload, own_choice, suite_choices
from medscope.session import open_session
from medscope.suite.suite import Suite

MOST_READINGS = 12  # questions that stay on the page, each with its frames and films
TITLE = 300  # characters of a question above its readings
UPLOAD_LIMIT = "10 MB"  # of Jupyter's connection to its kernel; a larger upload cuts it


class ModelField(widgets.VBox):
    """Which model answers: a folder, a Hub name or an endpoint; empty for none."""

    def __init__(self, title: str, model: str):
        wide, room = {"width": "98%"}, {"description_width": "4.5rem"}
        hint = "a folder, http://127.0.0.1:8000/v1, or nothing"
        self.model = widgets.Text(model, description=title, placeholder=hint, layout=wide, style=room)
        self.served = widgets.Text(placeholder="an endpoint's model", layout={"width": "60%"})
        self.calls = widgets.Dropdown(
            options=("native", "tags"), tooltip="how an endpoint calls tools", layout={"width": "35%"}
        )
        super().__init__(
            [self.model, widgets.HBox([self.served, self.calls])], layout={"flex": "1 1 0", "min_width": "0"}
        )

    @property
    def key(self) -> tuple[str, str, str]:
        """What decides which model it is."""
        return self.model.value.strip(), self.served.value.strip(), self.calls.value


class ReadingRoom(widgets.VBox):
    """A video, a question, one or two models, and below them the readings, the newest first.

    The videos are those of `folder` (which holds the models that come with the project), those of a `suite`, and
    whatever the reader names or uploads. `budget` is that of checkpoints that hold none. Corrected windows are saved in
    `corrections`. An error of a question is shown in its place and leaves the room as it was.
    """

    def __init__(
        self,
        store: FrameStore,
        budget: ToolBudget,
        models: Sequence[str] = (str(TINY),),
        folder: Path = TINY.parent,
        suite: Suite | None = None,
        corrections: Path = Path("corrections"),
        question: str = "",
    ):
        self.store, self.budget, self.corrections = store, budget, corrections
        self.opened: dict[tuple, Model] = {}
        self.uploads = TemporaryDirectory(prefix="medscope-uploads-")  # deleted with the kernel
        offered = [*choices_of(folder), *(suite_choices(suite) if suite else ())]
        wide, room = {"width": "98%"}, {"description_width": "4.5rem"}
        self.video = widgets.Dropdown(
            options=[(choice.label, choice) for choice in offered], description="video", layout=wide, style=room
        )
        self.path = widgets.Text(
            placeholder="or the path of a file, then Enter", continuous_update=False, layout={"width": "60%"}
        )
        self.upload = widgets.FileUpload(
            accept="video/*", description=f"upload (to {UPLOAD_LIMIT})", layout={"width": "38%"}
        )
        self.question = widgets.Combobox(
            value=question, placeholder="type a question, or pick one of the suite's", description="question",
            layout=wide, style=room,
        )  # fmt: skip
        first, second = (*models, "", "")[:2]
        self.fields = (ModelField("model", first), ModelField("and", second))
        self.remote = widgets.Checkbox(False, description="frames may leave this machine", indent=False)
        self.ask = widgets.Button(description="ask", button_style="primary", icon="search")
        self.message, self.readings = html(_missing(offered, folder, first)), widgets.VBox()
        self._offer_questions({"new": self.video.value})
        self.video.observe(self._offer_questions, names="value")
        self.path.observe(lambda change: change["new"] and self._add(lambda: own_choice(change["new"])), names="value")
        self.upload.observe(self._take_upload, names="value")
        self.ask.on_click(lambda _: self._answer())
        super().__init__(
            [
                html(STYLE), self.video, widgets.HBox([self.path, self.upload]), self.question,
                widgets.HBox(self.fields), widgets.HBox([self.ask, self.remote]), self.message, self.readings,
            ]
        )  # fmt: skip

    def _offer_questions(self, change: Mapping) -> None:
        choice: Choice | None = change["new"]
        self.question.options = tuple(choice.tasks) if choice else ()

    def _add(self, make: Callable[[], Choice]) -> None:
        """Offer another video and choose it, if it can be read."""
        try:
            choice = make()
            self.store.video(choice.path)
        except (ValueError, OSError) as error:
            self._say(error_text(error), "error")
            return
        options = [option for option in self.video.options if option[0] != choice.label]
        self.video.options = [*options, (choice.label, choice)]
        self.video.value = choice
        self._say(f"the video is {choice.label}")

    def _take_upload(self, change: Mapping) -> None:
        for file in change["new"]:
            self._add(lambda file=file: keep_upload(file["name"], bytes(file["content"]), Path(self.uploads.name)))
        self.upload.value = ()

    def _say(self, text: str, kind: str = "facts") -> None:
        self.message.value = f'<div class="medscope"><p class="{kind}">{escape(text)}</p></div>'

    def _answer(self) -> None:
        """Let every model answer in turn; each answer stands on the page as soon as it is there."""
        choice, question = self.video.value, self.question.value
        fields = [field for field in self.fields if field.key[0]]
        if choice is None or not fields:
            self._say("choose a video" if choice is None else "name a model", "error")
            return
        self.ask.disabled = True
        columns = widgets.HBox(layout={"align_items": "flex-start"})
        title = html(f"<hr><h3>{escape(_short(question))}</h3><p class='facts'>{escape(choice.label)}</p>")
        dropped = self.readings.children[MOST_READINGS - 1 :]
        self.readings.children = (widgets.VBox([title, columns]), *self.readings.children[: MOST_READINGS - 1])
        for old in dropped:
            _close(old)
        try:
            for field in fields:
                self._say(f"{field.key[0]} is looking at the video")
                columns.children = (*columns.children, self._ask_one(field, choice, question))
        finally:
            self.ask.disabled = False
            self._say("")

    def _ask_one(self, field: ModelField, choice: Choice, question: str) -> Reading | Failure:
        """One answer; whatever goes wrong, also Ctrl-C, is shown with what was done before it."""
        session, problem, warning = None, None, ""
        name, served, _ = field.key
        try:
            model = self._open(field)
            warning = model.warning(choice.path)
            session = open_session(choice.path, question, self.store, model.budget)
            with redirect_stderr(io.StringIO()):  # turns and bars of a terminal
                model.answer(session)
        except (Exception, KeyboardInterrupt) as error:  # the page is the only place where the reader looks
            problem = error
            if isinstance(error, EndpointError):
                self.opened.pop(self._key(field), None)  # a server that comes back is tried anew
        try:
            if session is None:
                return Failure(name, problem)
            label = f"{name}: {served}" if served else name
            return Reading(label, session, choice, self.store, self.corrections, problem, warning)
        except (ValueError, OSError) as error:
            return Failure(name, problem or error)

    def _key(self, field: ModelField) -> tuple:
        return *field.key, self.remote.value

    def _open(self, field: ModelField) -> Model:
        """The model of a field, opened once."""
        key = self._key(field)
        if key not in self.opened:
            name, served, calls = field.key
            endpoint = EndpointSettings(served or None, calls, self.remote.value)
            self.opened[key] = open_model(os.path.expanduser(name), None, endpoint, self.budget)
        return self.opened[key]


def _short(question: str) -> str:
    """A question as the title of its reading, whatever was typed."""
    text = question.encode("utf-8", "replace").decode()
    return text if len(text) <= TITLE else text[:TITLE] + " ..."


def _close(widget: widgets.Widget) -> None:
    """Forget a widget with all that it holds: ipywidgets keeps every open one."""
    for child in getattr(widget, "children", ()):
        _close(child)
    widget.close()


def _missing(offered: Sequence[Choice], folder: Path, model: str) -> str:
    """What is not there yet, and what to do about it."""
    parts = []
    if not offered:
        parts.append(f"{folder} holds no video: name a file or upload one.")
    if model and Path(model).resolve() == TINY and not TINY.is_dir():
        parts.append(f"There is no {TINY}: name a folder of weights or the URL of an endpoint.")
    return "".join(f'<p class="error">{escape(part)}</p>' for part in parts)
