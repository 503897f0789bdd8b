"""Steps 2 and 3: a timestamped dense caption of every segment, then the summary of the whole video."""

import asyncio
import re
from itertools import pairwise
from typing import Annotated, Any

from pydantic import AfterValidator, ValidationInfo, field_validator
from pydantic.dataclasses import dataclass

from medscope.environment import FrameStore, ToolBudget, VideoError
from medscope.environment.environment import Blocks, show_frames
from medscope.environment.tools import crop_seconds
from medscope.records import Caption, Window
from medscope.suite.bulk import Rejected
from medscope.suite.teachers.endpoint.prompts import load_prompt
from medscope.suite.teachers.endpoint.scenes import Film, Segment
from medscope.suite.teachers.endpoint.structured import BadReply, Reply, StructuredModel, content_key

MOST_MOMENTS = 8
SUMMARY_CHARACTERS = 60_000  # of the captions that one request summarises; a longer video is summarised in parts
OUTSIDE = 0.5  # s by which a moment may lie outside of its segment, since the frames' seconds are rounded

_TAGS = re.compile(r"</?(?:think|tool_call|tool_response|answer)>")


def _plain(text: str) -> str:
    """A text without the tags of the grammar, which would break a turn that quotes it."""
    text = " ".join(_TAGS.sub(" ", text).split())
    if not text:
        raise ValueError("is empty")
    return text


Words = Annotated[str, AfterValidator(_plain)]


class Moment(Reply):
    second: float
    text: Words


class CaptionReply(Reply):
    moments: list[Moment]

    @field_validator("moments")
    @classmethod
    def _fit(cls, moments: list[Moment], info: ValidationInfo) -> list[Moment]:
        window = (info.context or {})["window"]
        if not 1 <= len(moments) <= MOST_MOMENTS:
            raise ValueError(f"has {len(moments)} entries, not 1 to {MOST_MOMENTS}")
        if any(not window.start - OUTSIDE <= m.second <= window.end + OUTSIDE for m in moments):
            raise ValueError(f"has a second outside of the segment from {window.start:g} to {window.end:g} s")
        if any(a.second > b.second for a, b in pairwise(moments)):
            raise ValueError("is not in the order of time")
        return moments


class SummaryReply(Reply):
    text: Words


class CaptionStep:
    """Segment -> Caption. The text holds the second of every moment: `at 12 s: the hook ...`.

    `look` says how many frames (`crop_frames`) of which size are sent.
    """

    name = "captions"

    def __init__(self, model: StructuredModel, store: FrameStore, look: ToolBudget):
        self.model, self.store, self.look, self.prompt = model, store, look, load_prompt("caption")

    def key(self, segment: Segment) -> str:
        window, look = segment.window, (self.look.crop_frames, self.look.crop_pixels)
        about = (segment.film.sha256, segment.film.recording.video, window.start, window.end, segment.label)
        return content_key(self.name, *about, look, self.prompt.hash, self.model.identity)

    async def __call__(self, segment: Segment) -> Caption | Rejected:
        recording, window = segment.film.recording, segment.window
        data = {"start": window.start, "end": window.end, "label": segment.label}
        try:
            blocks = await asyncio.to_thread(window_frames, self.store, recording.path, window, self.look)
            reply = await self.model.ask(self.prompt, CaptionReply, data, blocks, {"window": window})
        except VideoError as error:
            return Rejected(f"the video cannot be read: {error}")
        except BadReply as error:
            return Rejected(str(error))
        return Caption(recording.video, window, " ".join(f"at {m.second:g} s: {m.text}" for m in reply.moments))


def window_frames(store: FrameStore, path: str, window: Window, look: ToolBudget) -> Blocks:
    """The frames of a window, dense as a crop shows it, each followed by its second. Raises `VideoError`."""
    video = store.video(path)
    inside = Window(window.start, max(window.start, min(window.end, video.duration)))
    return show_frames(store, path, crop_seconds(inside, video.fps, look), look.crop_pixels)


@dataclass(frozen=True)
class CaptionedFilm:
    """A film with the captions of its segments, in order."""

    film: Film
    captions: tuple[Caption, ...]


class SummaryStep:
    """CaptionedFilm -> Caption of the whole video, from the captions alone."""

    name = "summaries"

    def __init__(self, model: StructuredModel):
        self.model, self.prompt = model, load_prompt("summary")

    def key(self, captioned: CaptionedFilm) -> str:
        return content_key(
            self.name,
            captioned.film.sha256,
            captioned.film.recording.video,
            as_data(captioned.captions),
            self.prompt.hash,
            self.model.identity,
        )

    async def __call__(self, captioned: CaptionedFilm) -> Caption | Rejected:
        recording, captions = captioned.film.recording, list(captioned.captions)
        if not captions:
            return Rejected("no segment has a caption")
        try:
            while len(parts := in_parts(captions, SUMMARY_CHARACTERS)) > 1:
                captions = [await self._summarise(recording.video, recording.duration, part) for part in parts]
            whole = await self._summarise(recording.video, recording.duration, captions)
        except BadReply as error:
            return Rejected(str(error))
        return Caption(recording.video, Window(0, recording.duration), whole.text)

    async def _summarise(self, video: str, duration: float, captions: list[Caption]) -> Caption:
        data = {"duration": duration, "captions": as_data(captions)}
        reply = await self.model.ask(self.prompt, SummaryReply, data)
        return Caption(video, Window(captions[0].window.start, captions[-1].window.end), reply.text)


def as_data(captions: tuple[Caption, ...] | list[Caption]) -> list[dict[str, Any]]:
    """Captions as JSON data of a prompt."""
    return [{"start": c.window.start, "end": c.window.end, "text": c.text} for c in captions]


def in_parts(captions: list[Caption], most: int) -> list[list[Caption]]:
    """Runs of captions of at most `most` characters together; at least two captions a part, so that parts get fewer."""
    parts: list[list[Caption]] = []
    used = 0
    for caption in captions:
        used += len(caption.text)
        if not parts or (used > most and len(parts[-1]) > 1):
            parts.append([])
            used = len(caption.text)
        parts[-1].append(caption)
    return parts
