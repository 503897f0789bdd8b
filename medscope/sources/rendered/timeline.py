"""Nested timelines: phases tile a video, steps tile a phase, events and camera intervals lie inside a step.

All times are whole seconds, and every interval is [start, end): the frame at its end no longer shows it. Events lie
between the frames of the skim, so that only a denser look finds them.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypedDict

import numpy as np

from medscope.records import Interval, Recording, Window
from medscope.sources.rendered.words import (
    CAMERA,
    COUNTS,
    EVENTS,
    INSTRUMENTS,
    PHASES,
    PREFERRED,
    SIDES,
    STEPS,
    WITHHELD_EVENTS,
    WITHHELD_PHASES,
)

LEVELS = ("phase", "step", "event", "camera")
EVENT_SECONDS = (6, 12)
CAMERA_SECONDS = (3, 8)
CAMERA_EVERY = 120  # seconds from one camera interval to the next, on average
HIDDEN_SHARE = 0.4  # of an event, at most, by smoke or glare
CROP_FRAMES = 8  # a crop of a whole step with so many frames meets its event: it is in sight long enough
EVENTS_PER_PHASE = (0.2, 0.5, 0.3)  # chances of none, one, two


@dataclass(frozen=True)
class Rules:
    """What the timelines of one collection and view may contain. Lengths are least and most, in seconds."""

    view: str
    withheld: bool  # True: only events that training never shows; False: none of them
    rho: float  # P(the preferred instrument of a phase | phase)
    phases: tuple[int, int]
    phase_seconds: tuple[int, int]
    steps: int  # per phase, at most
    step_seconds: tuple[int, int]
    repeats: float = 0.4  # chance that a phase comes twice; more phases than words repeat in any case

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(p for p in PHASES if self.withheld or (self.view, p) not in WITHHELD_PHASES)

    def events(self, phase: str) -> tuple[str, ...]:
        """The events that may occur in `phase`: in a phase withheld from the view, each of them."""
        if (self.view, phase) in WITHHELD_PHASES:
            return EVENTS
        return tuple(event for event in EVENTS if ((phase, event) in WITHHELD_EVENTS) == self.withheld)


class Seen(TypedDict):
    """What a frame shows: words, and the interval of the event, which has attributes."""

    phase: str | None
    step: str | None
    event: Interval | None
    camera: str | None


def visible(recording: Recording, second: float) -> Seen:
    """What the frame at `second` shows. A camera interval hides everything else; at the very end, the last frame.

    Frames are whole seconds: ask with the actual time of a frame, not with the time that a look asked for. Raises
    ValueError for a second outside of the recording.
    """
    found = going_on(recording, second)
    if "camera" in found:
        return Seen(phase=None, step=None, event=None, camera=found["camera"].label)
    return Seen(phase=found["phase"].label, step=found["step"].label, event=found.get("event"), camera=None)


def going_on(recording: Recording, second: float) -> dict[str, Interval]:
    """Level -> its interval at `second`, also where the camera hides it."""
    if not 0 <= second <= recording.duration:
        raise ValueError(f"{second:g} s is outside of {recording.video}, which lasts {recording.duration:g} s")
    at = min(second, recording.duration - 1)
    return {i.attributes["level"]: i for i in recording.intervals if i.window.start <= at < i.window.end}


def nested(duration: int, skim: Sequence[int], rules: Rules, rng: np.random.Generator) -> tuple[Interval, ...]:
    """A timeline of `duration` seconds whose events and camera intervals the frames at `skim` do not show.

    Raises ValueError where no number of phases fits into the duration.
    """
    repeated = rng.random() < rules.repeats
    counts = [n for n in range(rules.phases[0], rules.phases[1] + 1) if repeated or n <= len(rules.labels)]
    counts = [n for n in counts if rules.phase_seconds[0] * n <= duration <= rules.phase_seconds[1] * n]
    if not counts:
        raise ValueError(
            f"{rules.phases[0]} to {rules.phases[1]} phases of {rules.phase_seconds} s: not in {duration} s"
        )
    windows = tiles(0, duration, int(rng.choice(counts)), rules.phase_seconds, rng)
    intervals: list[Interval] = []
    for window, label in zip(windows, _phase_labels(rules.labels, len(windows), repeated, rng), strict=True):
        intervals.append(Interval(window, label, {"level": "phase", "view": rules.view}))
        steps = _steps(window, rules, rng)
        wanted = int(rng.choice(len(EVENTS_PER_PHASE), p=EVENTS_PER_PHASE))
        intervals += steps + events_in(steps, label, wanted, skim, rules, rng)
    return in_order(intervals + _camera(intervals, skim, rng))


def in_order(intervals: Sequence[Interval]) -> tuple[Interval, ...]:
    """By start, the longer first; of equal ones the outer level first."""
    return tuple(
        sorted(intervals, key=lambda i: (i.window.start, -i.window.length, LEVELS.index(i.attributes["level"])))
    )


def tiles(start: float, end: float, count: int, seconds: tuple[int, int], rng: np.random.Generator) -> list[Window]:
    """`count` windows from `start` to `end`, each of a length within `seconds`."""
    least, most = seconds
    lengths, rest = [], int(end - start)
    for left in range(count - 1, 0, -1):
        low, high = max(least, rest - most * left), min(most, rest - least * left)
        lengths.append(int(rng.triangular(low, min(high, max(low, rest / (left + 1))), high + 1 - 1e-9)))
        rest -= lengths[-1]
    bounds = np.cumsum([start, *rng.permutation([*lengths, rest])])
    return [Window(float(a), float(b)) for a, b in pairwise(bounds)]


def _phase_labels(labels: Sequence[str], count: int, repeated: bool, rng: np.random.Generator) -> list[str]:
    """`count` labels in random order, as few of them twice as `repeated` and their number allow, never side by side."""
    twice = max(int(repeated and count > 2), count - len(labels))
    chosen = rng.permutation(labels)[: count - twice]
    chosen = np.concatenate([chosen, chosen[:twice]])
    while True:
        order = [str(label) for label in rng.permutation(chosen)]
        if all(a != b for a, b in pairwise(order)):
            return order


def _steps(phase: Window, rules: Rules, rng: np.random.Generator) -> list[Interval]:
    least, most = rules.step_seconds
    counts = range(math.ceil(phase.length / most), min(rules.steps, int(phase.length // least)) + 1)
    windows = tiles(phase.start, phase.end, int(rng.choice(counts)), rules.step_seconds, rng)
    return [Interval(w, s, {"level": "step"}) for w, s in zip(windows, step_labels(len(windows), rng), strict=True)]


def step_labels(count: int, rng: np.random.Generator) -> list[str]:
    """Labels of the steps of one phase; neighbours differ."""
    labels: list[str] = []
    for _ in range(count):
        labels.append(str(rng.choice([step for step in STEPS if step not in labels[-1:]])))
    return labels


def events_in(
    steps: Sequence[Interval], phase: str, wanted: int, skim: Sequence[int], rules: Rules, rng: np.random.Generator
) -> list[Interval]:
    """Up to `wanted` events of different words, at most one in a step, where the skim leaves room for them."""
    words = rng.permutation(rules.events(phase))
    places = ((step, _rooms(step.window, skim, _least_seen(step))) for step in rng.permutation(np.array(steps, object)))
    events = []
    for word, (step, rooms) in zip(words[:wanted], [place for place in places if place[1]], strict=False):
        start, end = rooms[rng.integers(len(rooms))]
        length = int(rng.integers(_least_seen(step), min(EVENT_SECONDS[1], end - start) + 1))
        begin = int(rng.integers(start, end - length + 1))
        events.append(Interval(Window(begin, begin + length), str(word), _details(phase, rules.rho, rng)))
    return events


def _least_seen(step: Interval) -> int:
    """Least seconds of an event: no longer than this is the gap between the frames of a crop of its step."""
    return max(EVENT_SECONDS[0], math.ceil(step.window.length / CROP_FRAMES))


def _details(phase: str, rho: float, rng: np.random.Generator) -> dict[str, str]:
    others = [instrument for instrument in INSTRUMENTS if instrument != PREFERRED[phase]]
    instrument = PREFERRED[phase] if rng.random() < rho else str(rng.choice(others))
    return {
        "level": "event",
        "instrument": instrument,
        "side": str(rng.choice(SIDES)),
        "count": str(rng.choice(COUNTS)),
    }


def _rooms(window: Window, skim: Sequence[int], least: int) -> list[tuple[int, int]]:
    """Stretches of `least` seconds or more inside a window, one second or more from its ends and from the skim."""
    inner = [second for second in skim if window.start < second < window.end]
    outer = [int(window.start), *inner, int(window.end)]
    return [(a + 1, b - 1) for a, b in pairwise(outer) if b - 1 - (a + 1) >= least]


def _camera(intervals: Sequence[Interval], skim: Sequence[int], rng: np.random.Generator) -> list[Interval]:
    """Rare camera intervals. About half of smoke and glare hide the first or the last part of an event."""
    events = [i.window for i in intervals if i.attributes["level"] == "event"]
    steps = [i for i in intervals if i.attributes["level"] == "step"]
    inside = [[event for event in events if _overlap(event, step.window)] for step in steps]
    rooms = [_rooms(step.window, skim, CAMERA_SECONDS[0]) for step in steps]
    camera: list[Interval] = []
    for _ in range(rng.poisson(steps[-1].window.end / CAMERA_EVERY)):
        label = str(rng.choice(CAMERA))
        hides = label != "outside" and rng.random() < 0.5
        for _attempt in range(60):
            place = int(rng.integers(len(steps)))
            if not rooms[place] or (hides and not inside[place]):
                continue
            start, end = rooms[place][rng.integers(len(rooms[place]))]
            length = int(rng.integers(CAMERA_SECONDS[0], min(CAMERA_SECONDS[1], end - start) + 1))
            begin = int(rng.integers(start, end - length + 1))
            window = Window(begin, begin + length)
            covered = [event for event in inside[place] if _overlap(window, event)]
            taken = [window, *covered]  # an event that one interval hides in part is not hidden by a second one
            if any(_overlap(some, other.window) for some in taken for other in camera):
                continue
            if _hides_well(window, covered, steps[place]) if hides else not covered:
                camera.append(Interval(window, label, {"level": "camera"}))
                break
    return camera


def _overlap(a: Window, b: Window) -> float:
    return max(0.0, min(a.end, b.end) - max(a.start, b.start))


def _hides_well(window: Window, events: Sequence[Window], step: Interval) -> bool:
    """Does it hide one end of an event, and so little that a crop of the step still meets the rest?"""
    gap = math.ceil(step.window.length / CROP_FRAMES)
    return bool(events) and all(
        _overlap(window, event) <= min(HIDDEN_SHARE * event.length, event.length - gap)
        and (window.start <= event.start or window.end >= event.end)
        for event in events
    )
