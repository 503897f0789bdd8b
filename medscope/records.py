"""The nouns of the project, validated, and their JSON lines on disk. All times are seconds from the video's start.

`Recording` is what a source delivers, `Caption`, `Question` and `Trajectory` are what ClinVideoSuite makes of it,
`ToolCall` is what the environment remembers of a call that a model made.
"""

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field, TypeAdapter, ValidationError, model_validator
from pydantic.dataclasses import dataclass

Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Split = Literal["warm_up", "sft", "rl", "eval"]


@dataclass(frozen=True)
class Window:
    """A stretch of video [start, end] in seconds. `end < start`, NaN, infinity and negative times are refused."""

    start: Seconds
    end: Seconds

    @model_validator(mode="after")
    def _ordered(self) -> "Window":
        if self.end < self.start:
            raise ValueError(f"window ends at {self.end:g} s before it starts at {self.start:g} s")
        return self

    @property
    def length(self) -> float:
        return self.end - self.start

    def contains(self, time: float) -> bool:
        return self.start <= time <= self.end


@dataclass(frozen=True)
class Moment:
    """One instant in seconds: the evidence of short clips."""

    time: Seconds


Evidence = Window | Moment


@dataclass(frozen=True)
class Segment:
    """One scene of the ground-truth timeline: a phase (or, in clips, an event around `moment`) and its details.

    `shown` lists the stretches in which instrument tip and complication can be seen; a skim falls between them.
    """

    window: Window
    phase: str
    instrument: str
    complication: str | None = None
    shown: tuple[Window, ...] = ()
    moment: Seconds | None = None

    @property
    def evidence(self) -> Evidence:
        return self.window if self.moment is None else Moment(self.moment)


@dataclass(frozen=True)
class Recording:
    """A video file and what is known to happen in it."""

    video: str
    path: str
    family: str
    split: Split
    duration: Seconds
    segments: tuple[Segment, ...]


@dataclass(frozen=True)
class Caption:
    """ClinVideo-Cap: what is seen in a window."""

    video: str
    window: Window
    text: str


@dataclass(frozen=True)
class Question:
    """ClinVideo-QA: a question, its reference answer and the evidence that supports it."""

    id: str
    video: str
    family: str
    split: Split
    kind: str
    phase: str
    text: str
    answer: str
    evidence: Evidence


@dataclass(frozen=True)
class Lesson:
    """A warm-up dialogue without tools: frames of `video` at `seconds` and a question, then one turn of the teacher.

    Labels, `end` and turn count on a clock that is `clock` seconds ahead of the video's. With `captions` there is no
    video: they stand in the place of the frames.
    """

    video: str
    text: str
    seconds: tuple[Seconds, ...]
    max_pixels: int
    end: Seconds
    turn: str
    clock: float = 0.0
    captions: tuple[str, ...] = ()


@dataclass(frozen=True)
class ToolCall:
    """One call as the environment saw it. `executed` is false for calls it refused; those earn nothing."""

    name: str
    arguments: dict[str, Any]
    executed: bool
    message: str = ""


@dataclass(frozen=True)
class Trajectory:
    """The model's turns for one question, in order, with the calls that were really executed between them."""

    question: str
    turns: tuple[str, ...]
    calls: tuple[ToolCall, ...] = ()
    tools: bool = True


Record = TypeVar("Record")


def write_jsonl(path: str | Path, records: Iterable[Any]) -> int:
    """Write records as JSON lines, return how many. A kill half-way leaves the old file, never half of a new one."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".part")
    count = 0
    with temporary.open("w") as file:
        for record in records:
            file.write(TypeAdapter(type(record)).dump_json(record).decode() + "\n")
            count += 1
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    return count


def read_jsonl(path: str | Path, kind: type[Record]) -> list[Record]:
    """Read JSON lines as records of one kind. A bad line is an error that names file, line and field."""
    return list(_parse_lines(Path(path), TypeAdapter(kind)))


def _parse_lines(path: Path, adapter: TypeAdapter) -> Iterator[Any]:
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist; the stage that writes it has not run (dvc repro)")
    with path.open() as file:
        for number, line in enumerate(file, start=1):
            try:
                yield adapter.validate_json(line)
            except ValidationError as error:
                raise ValueError(f"{path}, line {number}: {error}") from None


def write_json(path: str | Path, value: Any) -> None:
    """Write one JSON document whole or not at all (metrics, summaries)."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".part")
    temporary.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n")
    temporary.replace(path)
