"""Stage I data: captioned skims, skims of frames, and dense looks at one interval, each with the teacher's turn.

A model that cannot copy a second localises nothing. Copying is learned first, from captioned skims alone (text, every
frame replaced by a caption). It then carries over to frames, since both have the same layout, token for token.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from math import isqrt

import numpy as np

from medscope.environment.environment import Blocks, show_frames
from medscope.environment.frame_store import FrameStore
from medscope.environment.grammar import window_text
from medscope.environment.tools import ToolBudget, crop_seconds, skim_seconds
from medscope.environment.video import PATCH_FACTOR
from medscope.ranks import merged, own_part
from medscope.records import Interval, Recording, Task, Timestamp, WarmUpExample, Window
from medscope.suite.tasks import GROUNDING, ORDER
from medscope.suite.teachers.scripted import ScriptedTeacher, skim_thought, widened

FEWEST_FRAMES = 3  # of an excerpt
LATEST_SECOND = 240  # of an excerpt's clock


def vocabulary(recordings: Iterable[Recording]) -> list[str]:
    """Every label and every attribute value of the recordings, sorted."""
    intervals = [interval for recording in recordings for interval in recording.intervals]
    return sorted({name for i in intervals for name in (i.label, *i.attributes.values())})


def captioned_examples(
    count: int, names: Sequence[str], templates: Sequence[str], most_frames: int, boundary_slack: float, seed: int
) -> list[WarmUpExample]:
    """Captioned skims of invented procedures: each scene another word at a random second, so nothing can be guessed.

    `names` are the words, `templates` the grounding questions. Raises ValueError where there are too few of either.
    """
    most_frames = min(most_frames, len(names))
    if count and (most_frames < FEWEST_FRAMES or not templates):
        raise ValueError(
            f"captioned skims need {FEWEST_FRAMES} labels of warm-up videos and a grounding template, "
            f"there are {list(names)} and {list(templates)}; set `captioned` to 0"
        )
    rng = np.random.default_rng([seed, 7])
    examples = []
    for number in range(count):
        frames = int(rng.integers(FEWEST_FRAMES, most_frames + 1))
        captions = [names[i] for i in rng.permutation(len(names))[:frames]]
        *seconds, end = sorted(int(second) for second in rng.permutation(LATEST_SECOND)[: frames + 1])
        asked = int(rng.integers(frames))
        seen = Window(seconds[asked], [*seconds, end][asked + 1])
        story = [*zip(captions, seconds, strict=True), ("end", end)]
        thought = skim_thought(captions[asked], story, seen, "answer")
        answer = widened(seen, [*seconds, end], 0, boundary_slack, rng)
        example = WarmUpExample(
            video="",
            path="",
            question=templates[number % len(templates)].format(label=captions[asked]),
            seconds=tuple(seconds),
            max_pixels=0,
            end=end,
            turn=f"{thought}<answer>{window_text(answer)}</answer>",
            captions=tuple(captions),
        )
        examples.append(example)
    return examples


def framed_examples(
    tasks: Sequence[Task],
    recordings: Mapping[str, Recording],
    store: FrameStore,
    budget: ToolBudget,
    describe: Callable[[Interval], str],
    skims_per_question: int,
    looks_per_question: int,
    boundary_slack: float,
    seed: int,
) -> list[WarmUpExample]:
    """For every task some excerpts of its skim or some dense looks at its window, in the teacher's words.

    Excerpts for `grounding`, `order` and all tasks about instants; looks for all tasks about attributes. Of several
    processes each does a part of the tasks and returns what all have made.
    """
    made: list[list[WarmUpExample | None]] = []
    for number in own_part(range(len(tasks))):
        task, examples = tasks[number], []
        recording = recordings[task.video]
        rng = np.random.default_rng([seed, 5, number])
        about_attribute = task.kind not in (GROUNDING, ORDER)
        if not about_attribute or isinstance(task.evidence, Timestamp):
            examples += [_excerpt(task, recording, budget, boundary_slack, rng) for _ in range(skims_per_question)]
        if about_attribute:
            examples += [
                _look(task, recording, store, budget, describe, boundary_slack, rng) for _ in range(looks_per_question)
            ]
        made.append(examples)
    return [example for examples in merged(made) for example in examples if example is not None]


def _excerpt(
    task: Task, recording: Recording, budget: ToolBudget, boundary_slack: float, rng: np.random.Generator
) -> WarmUpExample | None:
    """The direct turn on a random run of the skim; None if the run lacks the subject or, for `order`, what follows it.

    Every second run counts on a clock of its own: seconds must be read off the frames, not remembered.
    """
    skim = skim_seconds(recording.duration, budget.skim_frames)
    count = int(rng.integers(min(FEWEST_FRAMES, len(skim)), len(skim) + 1))
    first = int(rng.integers(0, len(skim) - count + 1))
    seconds = skim[first : first + count]
    end = [*skim, round(recording.duration)][first + count]
    latest = max(LATEST_SECOND - end, -seconds[0])
    time_offset = int(rng.integers(-seconds[0], latest + 1)) if rng.random() < 0.5 else 0
    own_rng = np.random.default_rng(rng.integers(0, 2**31, 2).tolist())
    teacher = ScriptedTeacher(task, recording, seconds, end, boundary_slack, own_rng, time_offset=time_offset)
    seen = teacher.hypothesis()
    if seen is None or (task.kind == ORDER and seen.end == end + time_offset):
        return None
    return _example(task, seconds, budget.skim_pixels, end + time_offset, teacher.direct_turn(), time_offset)


def _look(
    task: Task,
    recording: Recording,
    store: FrameStore,
    budget: ToolBudget,
    describe: Callable[[Interval], str],
    boundary_slack: float,
    rng: np.random.Generator,
) -> WarmUpExample | None:
    """A dense look at the teacher's window and what it shows; None if the skim does not show the subject."""
    skim = skim_seconds(recording.duration, budget.skim_frames)
    own_rng = np.random.default_rng(rng.integers(0, 2**31, 2).tolist())
    teacher = ScriptedTeacher(task, recording, skim, recording.duration, boundary_slack, own_rng, describe)
    if teacher.hypothesis() is None:
        return None
    window, video = teacher.window(), store.video(recording.path)
    seconds = crop_seconds(window, video.fps, budget)
    turn = teacher.dense_turn(window, [float(video.starts[i]) for i in video.nearest(seconds)])
    return _example(task, seconds, budget.crop_pixels, window.end, turn)


def _example(
    task: Task, seconds: Sequence[float], max_pixels: int, end: float, turn: str, time_offset: int = 0
) -> WarmUpExample:
    return WarmUpExample(
        video=task.video,
        path=task.path,
        question=task.question,
        seconds=tuple(seconds),
        max_pixels=max_pixels,
        end=end,
        turn=turn,
        time_offset=time_offset,
        collection=task.collection,
    )


def warm_up_blocks(example: WarmUpExample, store: FrameStore) -> Blocks:
    """The frames of an example, or captions in the place of frames, as they open a dialogue; none of either if it
    has no seconds."""
    if not example.seconds:
        return []
    end = {"type": "text", "text": f" end {example.end:g}s"}
    if not example.captions:
        seconds = list(example.seconds)
        return [*show_frames(store, example.path, seconds, example.max_pixels, example.time_offset), end]
    side = isqrt(example.max_pixels // PATCH_FACTOR**2)
    blocks: Blocks = []
    for caption, second in zip(example.captions, example.seconds, strict=True):
        shown = {"type": "caption", "text": f" {caption}", "side": side}
        blocks += [shown, {"type": "text", "text": f" {second:g}s"}]
    return [*blocks, end]
