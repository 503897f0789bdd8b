"""What a frame shows at the size of a look, in words; and frames at random seconds of a video with these words.

A frame of the skim shows the outermost label; one of a crop the outermost and the innermost; one of `get_frame` the
attributes of an event. A captioned look stands these words in the place of its frames.

In a look of the teacher neighbouring frames mostly show the same. Frames at random seconds, half of them within an
event, show the tower that `training.alignment` starts every label in turn.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from medscope.environment.tools import ToolBudget
from medscope.records import Interval, Recording, WarmUpExample
from medscope.suite.nested_tasks import EVENT, LEVEL
from medscope.suite.teachers.thoughts import NOTHING, going_on, seen

CAPTIONED_FRAMES = "captioned_frames"  # collection of these examples
WITHIN_EVENTS = 0.5  # share of the seconds
SIZES = (
    "frame",
    "crop",
    "frame",
    "crop",
    "frame",
    "crop",
    "frame",
    "crop",
    "frame",
    "skim",
)  # of a video's examples, over and over
FEWEST_SECONDS = 2  # of a video for every frame of an example: a shorter one has none


def caption(recording: Recording, second: float, max_pixels: int, budget: ToolBudget) -> str:
    """What a frame of this size shows, in words. Where something hides all else, it is what hides."""
    if max_pixels == budget.frame_pixels:
        return _attributes(going_on(recording, second)[-1:]) or NOTHING
    innermost = seen(recording, second, innermost=True) or NOTHING
    outermost = seen(recording, second, innermost=False) or innermost
    return outermost if max_pixels == budget.skim_pixels else f"{outermost} {innermost}"


def captioned_frames(
    recordings: Sequence[Recording], per_video: int, budget: ToolBudget, seed: int
) -> list[WarmUpExample]:
    """`per_video` examples of every long enough recording, each of frames of one size with their captions."""
    examples: list[WarmUpExample] = []
    for number, recording in enumerate(recordings):
        if recording.duration >= FEWEST_SECONDS * budget.crop_frames:
            rng = np.random.default_rng([seed, 13, number])
            examples += (_example(recording, budget, SIZES[n % len(SIZES)], rng) for n in range(per_video))
    return examples


def _example(recording: Recording, budget: ToolBudget, size: str, rng: np.random.Generator) -> WarmUpExample:
    events = [interval for interval in recording.intervals if interval.attributes.get(LEVEL) == EVENT]
    described = [second for event in events if _attributes([event]) for second in _seconds(event, recording)]
    if size == "frame" and described:
        max_pixels, frames = budget.frame_pixels, min(budget.crop_frames * 2 // 3, len(described))
        seconds = sorted(int(second) for second in rng.permutation(described)[:frames])
    else:
        max_pixels = budget.skim_pixels if size == "skim" else budget.crop_pixels
        seconds = sorted(_drawn(recording, events, budget.crop_frames, rng))
    return WarmUpExample(
        video=recording.video,
        path=recording.path,
        question="",
        seconds=tuple(map(float, seconds)),
        max_pixels=max_pixels,
        end=float(seconds[-1]),
        turn="",
        captions=tuple(caption(recording, second, max_pixels, budget) for second in seconds),
        collection=CAPTIONED_FRAMES,
    )


def _attributes(intervals: Sequence[Interval]) -> str:
    return " ".join(value for i in intervals for name, value in i.attributes.items() if name != LEVEL)


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
