"""Stage I data: storylines told from captions, storylines told from frames, and dense looks at one phase.

A model that cannot copy a second localises nothing. Copying is learned first, from captioned skims alone (text, every
frame replaced by a caption); it then carries over to frames, since both have the same layout, token for token.
"""

import numpy as np

from medscope.environment.dialogue import window_text
from medscope.environment.environment import Blocks, show
from medscope.records import WarmUpExample, Task, Recording, Window
from medscope.sources.rendered.world import FAMILIES
from medscope.suite.tasks import TEMPLATES
from medscope.suite.teachers.scripted import Teacher, storyline_thought, widened
from medscope.environment.tools import ToolBudget, crop_seconds, skim_seconds
from medscope.environment.video import FrameStore

FEWEST_FRAMES = 3  # of an excerpt
LATEST_SECOND = 240  # of an excerpt's time_offset


def captioned_examples(count: int, most_frames: int, boundary_slack: float, seed: int) -> list[WarmUpExample]:
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
        answer = widened(seen, [*seconds, end], 0, boundary_slack, rng)
        turn = f"{thought}<answer>{window_text(answer)}</answer>"
        lessons.append(WarmUpExample("", text, tuple(map(float, seconds)), 0, end, turn, captions=tuple(captions)))
    return lessons


def framed_examples(
    questions: list[Task],
    recordings: dict[str, Recording],
    store: FrameStore,
    budget: ToolBudget,
    skims_per_question: int,
    looks_per_question: int,
    boundary_slack: float,
    seed: int,
) -> list[WarmUpExample]:
    """For every question some excerpts of its skim or some dense looks at its window, in the teacher's words."""
    lessons = []
    for number, question in enumerate(questions):
        recording = recordings[question.video]
        rng = np.random.default_rng([seed, 5, number])
        skim = skim_seconds(recording.duration, budget.skim_frames)
        if question.kind in ("grounding", "order") or recording.family == "clips":
            lessons += [_storyline(question, recording, skim, budget, boundary_slack, rng) for _ in range(skims_per_question)]
        if question.kind in ("instrument", "complication"):
            fps = store.video(recording.path).fps
            lessons += [_look(question, recording, skim, fps, budget, boundary_slack, rng) for _ in range(looks_per_question)]
    return [lesson for lesson in lessons if lesson is not None]


def _storyline(
    question: Task,
    recording: Recording,
    skim: list[int],
    budget: ToolBudget,
    boundary_slack: float,
    rng: np.random.Generator,
) -> WarmUpExample | None:
    """The direct turn on a random run of the skim; None if the run lacks the phase or, for `order`, what follows it.

    Every second run carries a time_offset of its own: seconds must be read off the frames, not remembered.
    """
    count = int(rng.integers(min(FEWEST_FRAMES, len(skim)), len(skim) + 1))
    first = int(rng.integers(0, len(skim) - count + 1))
    seconds = skim[first : first + count]
    end = [*skim, round(recording.duration)][first + count]
    latest = max(LATEST_SECOND - end, -seconds[0])
    time_offset = int(rng.integers(-seconds[0], latest + 1)) if rng.random() < 0.5 else 0
    teacher = Teacher(recording, question, seconds, end, boundary_slack, rng.integers(0, 2**31, 2).tolist(), time_offset)
    seen = teacher.hypothesis()
    if seen is None or (question.kind == "order" and seen.end == end + time_offset):
        return None
    times = tuple(map(float, seconds))
    return WarmUpExample(question.video, question.text, times, budget.skim_pixels, end + time_offset, teacher.direct_turn(), time_offset)


def _look(
    question: Task,
    recording: Recording,
    skim: list[int],
    fps: float,
    budget: ToolBudget,
    boundary_slack: float,
    rng: np.random.Generator,
) -> WarmUpExample | None:
    """A dense look at the teacher's window and what it shows."""
    teacher = Teacher(recording, question, skim, recording.duration, boundary_slack, rng.integers(0, 2**31, 2).tolist())
    if teacher.hypothesis() is None:
        return None
    window = teacher.window()
    seconds = tuple(crop_seconds(window, fps, budget))
    turn = teacher.dense_turn(window)
    return WarmUpExample(question.video, question.text, seconds, budget.crop_pixels, window.end, turn)


def warm_up_blocks(lesson: WarmUpExample, path: str, store: FrameStore) -> Blocks:
    """The frames of a lesson, or captions in the place of frames, as they open a dialogue."""
    end = {"type": "text", "text": f" end {lesson.end:g}s"}
    if not lesson.captions:
        return [*show(store, path, list(lesson.seconds), lesson.max_pixels, lesson.time_offset), end]
    told = zip(lesson.captions, lesson.seconds, strict=True)
    frames = [f"<|vision_start|> {caption}<|vision_end|> {second:g}s" for caption, second in told]
    return [{"type": "text", "text": "".join(frames)}, end]
