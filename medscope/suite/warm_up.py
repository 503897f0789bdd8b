"""Stage I data: storylines of excerpts (long-video CoT) and dense looks at one phase (image-level CoT)."""

import numpy as np

from medscope.environment import Blocks, show
from medscope.records import Lesson, Question, Recording
from medscope.suite.teacher import Teacher
from medscope.tools import Limits, crop_seconds, skim_seconds
from medscope.video import FrameStore

FEWEST_FRAMES = 3  # of an excerpt's skim
LATEST_SECOND = 240  # of an excerpt's clock


def make_lessons(
    questions: list[Question],
    recordings: dict[str, Recording],
    store: FrameStore,
    limits: Limits,
    skims_per_question: int,
    looks_per_question: int,
    caution: float,
    seed: int,
) -> list[Lesson]:
    """For every question some random runs of its skim and some dense looks at its window, in the teacher's words."""
    lessons = []
    for number, question in enumerate(questions):
        recording = recordings[question.video]
        rng = np.random.default_rng([seed, 5, number])
        skim = skim_seconds(recording.duration, limits.skim_frames)
        if question.kind in ("grounding", "order") or recording.family == "clips":
            lessons += [_storyline(question, recording, limits, rng) for _ in range(skims_per_question)]
        if question.kind in ("instrument", "complication"):
            fps = store.video(recording.path).fps
            lessons += [_look(question, recording, skim, fps, limits, caution, rng) for _ in range(looks_per_question)]
    return [lesson for lesson in lessons if lesson is not None]


def _storyline(question: Question, recording: Recording, limits: Limits, rng: np.random.Generator) -> Lesson | None:
    """The direct turn on a skim of a random excerpt with a clock of its own; None if the excerpt lacks the phase.

    Excerpts and clocks differ from lesson to lesson, so that seconds must be read off the frames, not remembered.
    """
    duration = int(recording.duration)
    frames = int(rng.integers(FEWEST_FRAMES, limits.skim_frames + 1))
    length = int(rng.integers(min(duration, 2 * FEWEST_FRAMES), duration + 1))
    first = int(rng.integers(0, duration - length + 1))
    seconds = [first + second for second in skim_seconds(length, frames)]
    clock = int(rng.integers(-first, max(LATEST_SECOND - first - length, -first) + 1))
    end = first + length
    teacher = Teacher(recording, question, seconds, end, 0.0, [0], clock)
    seen = teacher.hypothesis()
    if seen is None or (question.kind == "order" and seen.end == end + clock):  # what follows is not in the excerpt
        return None
    return Lesson(
        question.id, tuple(map(float, seconds)), limits.skim_pixels, end + clock, teacher.direct_turn(), float(clock)
    )


def _look(
    question: Question,
    recording: Recording,
    skim: list[int],
    fps: float,
    limits: Limits,
    caution: float,
    rng: np.random.Generator,
) -> Lesson | None:
    """A dense look at the teacher's window and what it shows."""
    teacher = Teacher(recording, question, skim, recording.duration, caution, rng.integers(0, 2**31, 2).tolist())
    if teacher.hypothesis() is None:
        return None
    window = teacher.window()
    seconds = crop_seconds(window, fps, limits)
    return Lesson(question.id, tuple(seconds), limits.crop_pixels, window.end, teacher.dense_turn(window))


def lesson_blocks(lesson: Lesson, path: str, store: FrameStore) -> Blocks:
    """The frames of a lesson as they open a dialogue."""
    return [
        *show(store, path, list(lesson.seconds), lesson.max_pixels),
        {"type": "text", "text": f" end {lesson.end:g}s"},
    ]
