"""Stage I data: storylines told from captions, storylines told from frames, and dense looks at one phase.

A model that cannot copy a second localises nothing. Copying is learned first, from captioned skims alone (text, every
frame replaced by a caption); it then carries over to frames, since both have the same layout, token for token.
"""

import numpy as np

from medscope.dialogue import window_text
from medscope.environment import Blocks, show
from medscope.records import Lesson, Question, Recording, Window
from medscope.sources.rendered import FAMILIES
from medscope.suite.questions import TEMPLATES
from medscope.suite.teacher import Teacher, storyline_thought, widened
from medscope.tools import Limits, crop_seconds, skim_seconds
from medscope.video import FrameStore

FEWEST_FRAMES = 3  # of an excerpt
LATEST_SECOND = 240  # of an excerpt's clock


def captioned_lessons(count: int, most_frames: int, caution: float, seed: int) -> list[Lesson]:
    """Captioned skims of invented procedures: each scene another word at a random second, so nothing can be guessed."""
    rng = np.random.default_rng([seed, 7])
    names = sorted({name for f in FAMILIES.values() for name in (*f.phases, *f.instruments, *f.complications)})
    lessons = []
    for number in range(count):
        frames = int(rng.integers(FEWEST_FRAMES, most_frames + 1))
        captions = [names[i] for i in rng.permutation(len(names))[:frames]]
        *seconds, end = sorted(int(second) for second in rng.permutation(LATEST_SECOND)[: frames + 1])
        asked = int(rng.integers(frames))
        seen = Window(seconds[asked], [*seconds, end][asked + 1])
        thought = storyline_thought(
            captions[asked], [*zip(captions, seconds, strict=True), ("end", end)], seen, "answer"
        )
        text = TEMPLATES["grounding"][number % 2].format(phase=captions[asked])
        answer = widened(seen, [*seconds, end], 0, caution, rng)
        turn = f"{thought}<answer>{window_text(answer)}</answer>"
        lessons.append(Lesson("", text, tuple(map(float, seconds)), 0, end, turn, captions=tuple(captions)))
    return lessons


def framed_lessons(
    questions: list[Question],
    recordings: dict[str, Recording],
    store: FrameStore,
    limits: Limits,
    skims_per_question: int,
    looks_per_question: int,
    caution: float,
    seed: int,
) -> list[Lesson]:
    """For every question some excerpts of its skim or some dense looks at its window, in the teacher's words."""
    lessons = []
    for number, question in enumerate(questions):
        recording = recordings[question.video]
        rng = np.random.default_rng([seed, 5, number])
        skim = skim_seconds(recording.duration, limits.skim_frames)
        if question.kind in ("grounding", "order") or recording.family == "clips":
            lessons += [_storyline(question, recording, skim, limits, caution, rng) for _ in range(skims_per_question)]
        if question.kind in ("instrument", "complication"):
            fps = store.video(recording.path).fps
            lessons += [_look(question, recording, skim, fps, limits, caution, rng) for _ in range(looks_per_question)]
    return [lesson for lesson in lessons if lesson is not None]


def _storyline(
    question: Question,
    recording: Recording,
    skim: list[int],
    limits: Limits,
    caution: float,
    rng: np.random.Generator,
) -> Lesson | None:
    """The direct turn on a random run of the skim; None if the run lacks the phase or, for `order`, what follows it.

    Every second run carries a clock of its own: seconds must be read off the frames, not remembered.
    """
    count = int(rng.integers(min(FEWEST_FRAMES, len(skim)), len(skim) + 1))
    first = int(rng.integers(0, len(skim) - count + 1))
    seconds = skim[first : first + count]
    end = [*skim, round(recording.duration)][first + count]
    latest = max(LATEST_SECOND - end, -seconds[0])
    clock = int(rng.integers(-seconds[0], latest + 1)) if rng.random() < 0.5 else 0
    teacher = Teacher(recording, question, seconds, end, caution, rng.integers(0, 2**31, 2).tolist(), clock)
    seen = teacher.hypothesis()
    if seen is None or (question.kind == "order" and seen.end == end + clock):
        return None
    times = tuple(map(float, seconds))
    return Lesson(question.video, question.text, times, limits.skim_pixels, end + clock, teacher.direct_turn(), clock)


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
    seconds = tuple(crop_seconds(window, fps, limits))
    turn = teacher.dense_turn(window)
    return Lesson(question.video, question.text, seconds, limits.crop_pixels, window.end, turn)


def lesson_blocks(lesson: Lesson, path: str, store: FrameStore) -> Blocks:
    """The frames of a lesson, or captions in the place of frames, as they open a dialogue."""
    end = {"type": "text", "text": f" end {lesson.end:g}s"}
    if not lesson.captions:
        return [*show(store, path, list(lesson.seconds), lesson.max_pixels, lesson.clock), end]
    told = zip(lesson.captions, lesson.seconds, strict=True)
    frames = [f"<|vision_start|> {caption}<|vision_end|> {second:g}s" for caption, second in told]
    return [{"type": "text", "text": "".join(frames)}, end]
