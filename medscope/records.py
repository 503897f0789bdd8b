"""The nouns of the project, validated. All times are seconds from the start of the video.

A source delivers `Recording`s with `Interval`s. ClinVideoSuite makes `Caption`s, `Task`s, `WarmUpExample`s and
`Trajectory`s of them. The environment remembers every call that an agent makes as a `ToolCall`. `medscope.files` writes
and reads them as JSON lines.
"""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass

Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Split = Literal["warm_up", "sft", "rl", "eval"]
Domain = Literal["in", "out"]


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
class Timestamp:
    """One instant in seconds: the evidence of short clips, or the answer to "when exactly?"."""

    time: Seconds


@dataclass(frozen=True)
class Text:
    """A reference answer in words. Digits in it are words too: `10-0 nylon suture` is no window."""

    text: str


Evidence = Window | Timestamp
Reference = Text | Window | Timestamp


@dataclass(frozen=True)
class Interval:
    """A labelled stretch of a recording's annotation: a phase, a step, an event. Intervals may nest and overlap.

    `attributes` are open: what else the annotation says (`{"instrument": "hook"}`). `timestamp` is the instant that
    stands for the interval where a source annotates frames, not windows.
    """

    window: Window
    label: str
    attributes: dict[str, str] = Field(default_factory=dict)
    timestamp: Seconds | None = None

    @property
    def evidence(self) -> Evidence:
        return self.window if self.timestamp is None else Timestamp(self.timestamp)


@dataclass(frozen=True)
class Recording:
    """A video file and what is known to happen in it.

    `collection` names the data set that it belongs to, `domain` whether that data set is out of domain. `group` is the
    patient or procedure: a split never separates a group ("" means the video stands alone). `split` is the published
    one; `suite.splits` assigns the rest.
    """

    video: str
    path: str
    duration: Seconds
    intervals: tuple[Interval, ...]
    collection: str
    domain: Domain = "in"
    split: Split | None = None
    group: str = ""


@dataclass(frozen=True)
class Caption:
    """ClinVideo-Cap: what is seen in a window."""

    video: str
    window: Window
    text: str


@dataclass(frozen=True)
class Task:
    """ClinVideo-QA: one self-contained question. What an agent answers, a judge grades and a reward reads.

    `reference` is typed, so that a judge never guesses from digits. `kind` is the open vocabulary of the suite,
    `subject` the label that the question asks about, `within` that of the interval in which it lies where the question
    names one, `options` the answers among which it chooses. `challenging` tasks need a dense look; `free_text` tasks
    are scored by n-grams and ratings, not by the benchmark's accuracy. `least_calls` is how many calls the question
    needs from a skim (0 also where the suite does not say).
    """

    id: str
    video: str
    path: str
    question: str
    reference: Reference
    evidence: Evidence
    kind: str
    split: Split
    collection: str
    domain: Domain = "in"
    subject: str = ""
    within: str = ""
    options: tuple[str, ...] = ()
    challenging: bool = True
    free_text: bool = False
    least_calls: Annotated[int, Field(ge=0)] = 0


@dataclass(frozen=True)
class WarmUpExample:
    """A warm-up dialogue without tools: frames of `video` at `seconds` and a question, then one turn of the teacher.

    Labels, `end` and turn count on a clock that is `time_offset` seconds ahead of the video's. With `captions` there is
    no video: they stand in the place of square frames of `max_pixels` (0: as text of their own length).
    """

    video: str
    path: str
    question: str
    seconds: tuple[Seconds, ...]
    max_pixels: int
    end: Seconds
    turn: str
    time_offset: float = 0.0
    captions: tuple[str, ...] = ()
    collection: str = ""
    given: str = ""


@dataclass(frozen=True)
class ToolCall:
    """One call as the environment saw it.

    `looked` is what it looked at, the window of a crop or the timestamp of a frame; None for a call that was refused,
    which earns nothing and has the reason in `message`. `seconds` are the times of the frames that it showed.
    """

    name: str
    arguments: dict[str, Any]
    looked: Evidence | None = None
    seconds: tuple[Seconds, ...] = ()
    message: str = ""

    @property
    def executed(self) -> bool:
        return self.looked is not None


@dataclass(frozen=True)
class Trajectory:
    """The assistant's turns for one task, in order, with the calls that were executed or refused between them.

    It carries its task, so that training needs no second file. `tools` is false where none were offered.
    """

    task: Task
    turns: tuple[str, ...]
    calls: tuple[ToolCall, ...] = ()
    tools: bool = True
