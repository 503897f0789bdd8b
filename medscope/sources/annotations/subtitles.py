"""WebVTT and SubRip: cues with times, one file per video, named as the video. WebVTT is written too."""

import html
import re
from collections.abc import Iterable, Iterator

from medscope.sources.annotations.annotation import (
    Annotation,
    AnnotationError,
    BadValueError,
    Entry,
    guarded,
    seconds,
    shown,
)

_ARROW = "-->"
_TAG = re.compile(r"</?[^>]*>")


def read_webvtt(text: str, name: str) -> Iterator[Entry]:
    """WebVTT. The text of a cue is the label, without its tags; notes and styles are left out."""
    if not re.match(r"WEBVTT(?:[ \t\n\r]|\Z)", text):
        raise AnnotationError(f"line 1: {shown(text.split(chr(10), 1)[0])} is not WEBVTT")
    yield from _cues(text, name)


def read_srt(text: str, name: str) -> Iterator[Entry]:
    """SubRip. The text of a cue is the label, without its tags."""
    if text.strip() and _ARROW not in text:
        raise AnnotationError(f"no line holds {_ARROW}; a cue of SubRip has one")
    yield from _cues(text, name)


def _cues(text: str, name: str) -> Iterator[Entry]:
    lines = [*re.split(r"\r\n|\r|\n", text), ""]
    block: list[str] = []
    for number, line in enumerate(lines, start=1):
        if line.strip():
            block.append(line)
            continue
        times = next((i for i, part in enumerate(block[:2]) if _ARROW in part), None)
        if times is not None:
            place = f"line {number - len(block) + times}"
            known = block[0].strip() if times == 1 else ""
            yield from guarded(place, _cue, name, block[times], block[times + 1 :], place, known)
        block = []


def _cue(video: str, times: str, lines: list[str], place: str, known: str) -> Iterator[Annotation]:
    start, _, rest = times.partition(_ARROW)
    end = rest.split()[0] if rest.split() else ""
    label = html.unescape(_TAG.sub("", " ".join(line.strip() for line in lines))).strip()
    if not label:
        raise BadValueError("the cue has no text")
    yield Annotation(video, seconds(start.strip(), "start"), seconds(end, "end"), label, place, id=known)


def write_webvtt(annotations: Iterable[Annotation]) -> str:
    """WebVTT of the stretches of one video, to the millisecond. Each needs an end; an `id` names its cue."""
    cues = ["WEBVTT"]
    for annotation in annotations:
        if annotation.end is None or annotation.frames:
            raise ValueError(f"{annotation.label!r} has no end in seconds; WebVTT needs one")
        known = [" ".join(annotation.id.replace(_ARROW, "->").split())] if annotation.id else []
        text = html.escape(" ".join(annotation.label.split()), quote=False)
        cues.append("\n".join([*known, f"{_clock(annotation.start)} {_ARROW} {_clock(annotation.end)}", text]))
    return "\n\n".join(cues) + "\n"


def _clock(time: float) -> str:
    milliseconds = round(time * 1000)
    hours, rest = divmod(milliseconds, 3_600_000)
    return f"{hours:02d}:{rest // 60_000:02d}:{rest // 1000 % 60:02d}.{rest % 1000:03d}"
