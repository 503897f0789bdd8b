"""What a scripted teacher sees in frames, and how it says it: runs of equal labels with their seconds.

A thought is plain, so that a tiny model can learn it: `incision 0s incision 20s dissection 40s dissection 60s suturing
80s end 100s | side dissection bleeding | look | dissection 20 40 80`. It tells every frame, with its second
written as frames show it: each word of it then depends on one frame alone. Where a thought told each run of like frames
once, the model had to find where the next run begins, and learned it far more slowly. All times are seconds.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from medscope.records import Interval, Recording, Window

HIDES = "camera"  # level of an interval in which the camera shows nothing else: smoke, glare, out of the body
NOTHING = "nothing"  # what a frame shows where the annotation says nothing


@dataclass(frozen=True)
class Run:
    """Neighbouring frames that show the same label, by their seconds."""

    label: str
    seconds: tuple[float, ...]

    @property
    def first(self) -> float:
        return self.seconds[0]

    @property
    def last(self) -> float:
        return self.seconds[-1]

    def __str__(self) -> str:
        return " ".join(f"{self.label} {second:g}s" for second in self.seconds)


def going_on(recording: Recording, second: float) -> list[Interval]:
    """The intervals at `second`, the outermost first. An interval ends before its end; a video's last frame counts."""
    at = min(second, recording.duration - 1e-3)
    return sorted(
        (i for i in recording.intervals if i.window.start <= at < i.window.end), key=lambda i: -i.window.length
    )


def seen(recording: Recording, second: float, innermost: bool) -> str | None:
    """The label that a frame shows: of the outermost interval as a skim tells it, or of the innermost as a look does.

    Where something hides all else, it is what the innermost label says; None for the outermost.
    """
    found = going_on(recording, second)
    hiding = [interval for interval in found if interval.attributes.get("level") == HIDES]
    if hiding:
        return hiding[0].label if innermost else None
    return found[-1 if innermost else 0].label if found else NOTHING


def runs(recording: Recording, seconds: Sequence[float], innermost: bool) -> list[Run]:
    """What frames at `seconds` show, in order. An outer interval goes on where the camera hides it for a while."""
    told = [(label, second) for second in seconds if (label := seen(recording, second, innermost)) is not None]
    return [Run(label, tuple(second for _, second in some)) for label, some in groupby(told, key=lambda x: x[0])]


@dataclass(frozen=True)
class Place:
    """Where frames show a label: the last second before it, its first second, the first second behind it."""

    label: str
    before: float
    first: float
    after: float

    @property
    def inner(self) -> Window:
        """From the first second at which it is seen to the first of what follows."""
        return Window(self.first, self.after)

    @property
    def outer(self) -> Window:
        """Both of its edges lie within."""
        return Window(self.before, self.after)

    def __str__(self) -> str:
        return f"{self.label} {self.before:g} {self.first:g} {self.after:g}"


def place(found: Sequence[Run], number: int, end: float | None = None, last: int | None = None) -> Place:
    """The place of run `number`, or of the runs from it to `last`. What nothing follows goes on until `end`, if given,
    or its own last second; what nothing precedes begins with its first."""
    last = number if last is None else last
    follower = found[last + 1 : last + 2]
    over = follower[0].first if follower else found[last].last if end is None else end
    run = found[number]
    return Place(run.label, found[number - 1].last if number else run.first, run.first, over)


def wider(at: Place, seconds: Sequence[float], left: bool, right: bool) -> Place:
    """A place with one more frame on the sides that are named, of those at `seconds`, where there is one."""
    before = max((second for second in seconds if second < at.before), default=at.before) if left else at.before
    after = min((second for second in seconds if second > at.after), default=at.after) if right else at.after
    return replace(at, before=before, after=after)


def numbers(found: Sequence[Run], labels: Sequence[str]) -> Iterator[int]:
    """The numbers of the runs that show one of the labels."""
    return (number for number, run in enumerate(found) if run.label in labels)


def story(found: Sequence[Run], end: float) -> str:
    """A skim in words: every frame's label with its second, and where the video ends."""
    return f"{told(found)} end {end:g}s"


def told(found: Sequence[Run]) -> str:
    """A look in words: every frame's label with its second."""
    return " ".join(map(str, found))


def think(*parts: str) -> str:
    """A thought of several parts."""
    return f"<think>{' | '.join(parts)}</think>"
