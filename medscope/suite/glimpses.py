"""Glimpses: frames at random seconds of a video, each captioned by what it shows.

In a look of the teacher neighbouring frames mostly show the same. A model of random weights learns from them to repeat
the label of the frame before, not to see. Frames at random seconds, half of them within an event, show the tower that
`training.alignment` starts every label in turn: at the size of the skim the outermost one, at that of a crop the
innermost one, at that of `get_frame` the attributes of an event.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from medscope.environment.tools import ToolBudget
from medscope.records import Interval, Recording, WarmUpExample
from medscope.suite.nested_tasks import EVENT, LEVEL
from medscope.suite.teachers.thoughts import going_on, seen

GLIMPSES = "glimpses"  # collection of these examples
BETWEEN = ", "  # the attributes of an event in a caption
WITHIN_EVENTS = 0.5  # share of the seconds
SIZES = 4  # examples in a row: one of the attributes, one at the size of the skim, the others at that of a crop
FEWEST_SECONDS = 2  # of a video for every frame of an example: a shorter one has none


def glimpse_examples(
    recordings: Sequence[Recording], per_video: int, budget: ToolBudget, seed: int
) -> list[WarmUpExample]:
    """`per_video` examples of every long enough recording."""
    examples: list[WarmUpExample] = []
    for number, recording in enumerate(recordings):
        if recording.duration >= FEWEST_SECONDS * budget.crop_frames:
            rng = np.random.default_rng([seed, 13, number])
            examples += (_example(recording, budget, n, rng) for n in range(per_video))
    return examples


def words_of(caption: str) -> list[str]:
    """The words of a frame's caption: its label, or an event's attributes."""
    return caption.split(BETWEEN)


def _example(recording: Recording, budget: ToolBudget, number: int, rng: np.random.Generator) -> WarmUpExample:
    events = [interval for interval in recording.intervals if interval.attributes.get(LEVEL) == EVENT]
    described = [second for event in events if _attributes(event) for second in _seconds(event, recording)]
    if number % SIZES == 0 and described:
        pixels, frames = budget.frame_pixels, min(budget.crop_frames // 2, len(described))
        seconds = sorted(int(second) for second in rng.permutation(described)[:frames])
        captions = [_attributes(going_on(recording, second)[-1]) for second in seconds]
    else:
        skim = number % SIZES == 1
        pixels = budget.skim_pixels if skim else budget.crop_pixels
        seconds = sorted(_drawn(recording, events, budget.crop_frames, rng))
        captions = [(skim and seen(recording, s, innermost=False)) or seen(recording, s, True) or "" for s in seconds]
    return WarmUpExample(
        video=recording.video,
        path=recording.path,
        question="",
        seconds=tuple(map(float, seconds)),
        max_pixels=pixels,
        end=float(seconds[-1]),
        turn="",
        captions=tuple(captions),
        collection=GLIMPSES,
    )


def _attributes(interval: Interval) -> str:
    return BETWEEN.join(value for name, value in interval.attributes.items() if name != LEVEL)


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
