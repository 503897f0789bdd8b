"""Glimpses: frames at random seconds of a video, each told by what it shows.

In a look of the teacher neighbouring frames mostly show the same. A model of random weights learns from them to repeat
the label of the frame before, not to see. Frames at random seconds, half of them within an event, leave nothing to
repeat. They are shown at the resolution of a crop and told by their innermost label; events whose attributes the
annotation gives are also shown at the resolution of `get_frame`, and told by these.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from medscope.environment.tools import ToolBudget
from medscope.records import Interval, Recording, WarmUpExample
from medscope.suite.nested_tasks import EVENT, LEVEL
from medscope.suite.teachers.thoughts import going_on, seen, think

GLIMPSES = "glimpses"  # collection of these examples
QUESTION = "look"
WITHIN_EVENTS = 0.5  # share of the seconds
EVERY_ATTRIBUTES = 4  # one example in so many tells attributes
FEWEST_SECONDS = 2  # of a video for every frame of an example: a shorter one has none


def glimpse_examples(
    recordings: Sequence[Recording], per_video: int, budget: ToolBudget, latest_second: int, seed: int
) -> list[WarmUpExample]:
    """`per_video` examples of every long enough recording, on clocks that end by `latest_second`."""
    examples: list[WarmUpExample] = []
    for number, recording in enumerate(recordings):
        if recording.duration >= FEWEST_SECONDS * budget.crop_frames:
            rng = np.random.default_rng([seed, 13, number])
            examples += (_example(recording, budget, latest_second, n, rng) for n in range(per_video))
    return examples


def _example(
    recording: Recording, budget: ToolBudget, latest_second: int, number: int, rng: np.random.Generator
) -> WarmUpExample:
    events = [interval for interval in recording.intervals if interval.attributes.get(LEVEL) == EVENT]
    described = [second for event in events if _attributes(event) for second in _seconds(event, recording)]
    close = number % EVERY_ATTRIBUTES == 0 and bool(described)
    if close:
        frames = min(budget.crop_frames // 2, len(described))
        seconds = sorted(int(second) for second in rng.permutation(described)[:frames])
        labels = [_attributes(going_on(recording, second)[-1]) for second in seconds]
    else:
        seconds = sorted(_drawn(recording, events, budget.crop_frames, rng))
        labels = [seen(recording, second, innermost=True) or "" for second in seconds]
    offset = int(rng.integers(max(0, latest_second - int(recording.duration)) + 1))
    told = " ".join(f"{label} {second + offset}s" for label, second in zip(labels, seconds, strict=True))
    return WarmUpExample(
        video=recording.video,
        path=recording.path,
        question=QUESTION,
        seconds=tuple(map(float, seconds)),
        max_pixels=budget.frame_pixels if close else budget.crop_pixels,
        end=float(seconds[-1] + offset),
        turn=think(told),
        time_offset=offset,
        collection=GLIMPSES,
    )


def _attributes(interval: Interval) -> str:
    return " ".join(value for name, value in interval.attributes.items() if name != LEVEL)


def _seconds(event: Interval, recording: Recording) -> Iterator[int]:
    """The whole seconds at which an event can be seen: nothing hides it."""
    for second in range(int(np.ceil(event.window.start)), int(event.window.end)):
        if seen(recording, second, innermost=True) == event.label:
            yield second


def _drawn(recording: Recording, events: Sequence[Interval], count: int, rng: np.random.Generator) -> set[int]:
    """Different whole seconds, at random in the video or in one of its events."""
    drawn: set[int] = set()
    while len(drawn) < count:
        start, end = 0, int(recording.duration)
        if events and rng.random() < WITHIN_EVENTS:
            window = events[int(rng.integers(len(events)))].window
            start, end = int(np.ceil(window.start)), max(int(np.ceil(window.start)) + 1, int(window.end))
        drawn.add(min(int(rng.integers(start, end)), int(recording.duration) - 1))
    return drawn
