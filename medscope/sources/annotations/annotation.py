"""What a reader of an annotation format yields, and the small parts that all readers share.

A reader is a pure function of a file's text and its name without suffixes. It yields an `Annotation` for every labelled
stretch as the file states it, and `Unreadable` for an entry with a bad value. It raises `AnnotationError` for a file
that is not of its format at all. Nothing is checked against the videos here: `check` does that.
"""

import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any


class AnnotationError(ValueError):
    """A file that is not of the format that it is read as."""


class BadValueError(ValueError):
    """A field of one entry that is missing or of the wrong kind; names field and value."""


@dataclass(frozen=True)
class Annotation:
    """A labelled stretch as its file states it: seconds from the start of the video, not checked.

    `end` None is the end of the video. `frames`: start and end count frames of the video from 0. `place` is where it
    stands in the file. `level` tells layers of one format apart (phases, steps). `duration` (s) is what the file itself
    says of the video. `split` is the published one, in the words of the data set. `id` is that of an exported task.
    """

    video: str
    start: float
    end: float | None
    label: str
    place: str
    level: str = ""
    attributes: Mapping[str, str] = field(default_factory=dict)
    split: str = ""
    duration: float | None = None
    frames: bool = False
    id: str = ""


@dataclass(frozen=True)
class Unreadable:
    """An entry that cannot be read: where it stands, and which field holds what."""

    place: str
    reason: str


Entry = Annotation | Unreadable
Reader = Callable[[str, str], Iterator[Entry]]


def guarded(place: str, read: Callable[..., Iterable[Annotation]], *arguments: Any) -> Iterator[Entry]:
    """What `read(*arguments)` yields; a bad value becomes an `Unreadable` at `place`."""
    try:
        yield from read(*arguments)
    except BadValueError as error:
        yield Unreadable(place, str(error))


def document(text: str, kind: type) -> Any:
    """A JSON document whose outermost value is of `kind` (dict or list)."""
    try:
        value = json.loads(text)
    except (json.JSONDecodeError, RecursionError, ValueError) as error:
        raise AnnotationError(f"not a JSON document ({error})") from None
    if not isinstance(value, kind):
        raise AnnotationError(f"the JSON document is a {type(value).__name__}, not a {kind.__name__}")
    return value


def get(record: Any, key: str, kind: type | tuple[type, ...], default: Any = ...) -> Any:
    """`record[key]`, of the kind asked for. Raises `BadValueError` for another; `default` stands for a missing key."""
    if not isinstance(record, Mapping):
        raise BadValueError(f"{shown(record)} stands where a record with {key} is expected")
    value = record.get(key, default)
    if value is ...:
        raise BadValueError(f"{key} is missing")
    if value is not default and not isinstance(value, kind):
        kinds = kind if isinstance(kind, tuple) else (kind,)
        raise BadValueError(f"{key} is {shown(value)}, not {' or '.join(k.__name__ for k in kinds)}")
    return value


def text_of(record: Any, key: str) -> str:
    """A text or number as text, without space around it. Raises `BadValueError` where it is empty."""
    value = get(record, key, (str, int, float))
    if isinstance(value, bool) or not (text := str(value).strip()):
        raise BadValueError(f"{key} is {shown(value)}, not a text")
    return text


def number(value: Any, key: str) -> float:
    """A number, or text that is one. NaN and infinity pass: `check` refuses them."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value) if abs(value) < 1e300 or isinstance(value, float) else math.inf
    if isinstance(value, str) and "_" not in value:
        with suppress(ValueError):
            return float(value)
    raise BadValueError(f"{key} is {shown(value)}, not a number")


def whole(value: Any, key: str) -> int:
    """A whole number of at least 0, such as a frame."""
    found = number(value, key)
    if not found.is_integer() or found < 0:
        raise BadValueError(f"{key} is {shown(value)}, not a whole number of at least 0")
    return int(found)


_CLOCK = re.compile(r"(?:(\d{1,3}):)?(\d{1,3}):(\d{1,2}(?:[.,]\d+)?)")


def seconds(value: Any, key: str) -> float:
    """Seconds from a number, a text of one (decimal comma allowed), or a clock time [H:]MM:SS[.mmm]."""
    if isinstance(value, str):
        if match := _CLOCK.fullmatch(value.strip()):
            hours, minutes, rest = match.groups()
            return int(hours or 0) * 3600 + int(minutes) * 60 + float(rest.replace(",", "."))
        value = re.sub(r"^\s*(\d+),(\d+)\s*$", r"\1.\2", value)
    try:
        return number(value, key)
    except BadValueError:
        raise BadValueError(f"{key} is {shown(value)}, neither seconds nor a clock time") from None


def pair(record: Any, key: str) -> tuple[float, float]:
    """Two times (s) in a list, as `segment: [start, end]`."""
    value = get(record, key, list)
    if len(value) != 2:
        raise BadValueError(f"{key} is {shown(value)}, not [start, end]")
    return seconds(value[0], f"{key}[0]"), seconds(value[1], f"{key}[1]")


def runs(frames: Iterable[tuple[int, str]], step: int = 1) -> Iterator[tuple[int, int, str]]:
    """First frame, frame after the last, label: stretches of one label in (frame, label), sorted by frame.

    A stretch ends where the label changes, or where the next frame is more than `step` frames away. It lasts until the
    frame that follows it, `step` frames after its own last one at most.
    """
    start = last = None
    label = ""
    for frame, now in frames:
        if start is not None and (now != label or frame - last > step):
            yield start, min(frame, last + step), label
            start = None
        if start is None:
            start, label = frame, now
        last = frame
    if start is not None:
        yield start, last + step, label


def shown(value: Any) -> str:
    """A value in an error message, cut to one short line."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
