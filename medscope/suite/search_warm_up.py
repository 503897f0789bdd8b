"""Warm-up for tasks about nested annotations: every look of the searching teacher as a dialogue of one turn.

A look is the skim, a crop or a frame; the turn behind it is the teacher's. It is kept where all seconds that it names
were shown. Captioned examples show words in the place of frames: to copy a second is learned first from text alone.

In half of them the storyline itself is given, and no caption. From captions alone a model learns to read the place that
it looks for off the captions, which frames do not have, and not off its own storyline.

What follows a look may name places of an earlier turn: where to look next. The places that the turn before named are
then written behind the question. And some questions are asked about an event that does
not occur. Without both, nearly every look of the warm-up shows what was asked for, and a model may say so of any look.
Questions of a rare kind are told several times: what follows a look depends on the kind.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby

import numpy as np

from medscope.environment.environment import Blocks, ClinicalVideoEnvironment, step
from medscope.environment.frame_store import FrameStore
from medscope.environment.tools import ToolBudget, skim_seconds
from medscope.environment.video import PATCH_FACTOR
from medscope.ranks import merged, own_part
from medscope.records import Recording, Task, ToolCall, WarmUpExample
from medscope.suite.captioned_frames import caption
from medscope.suite.nested_tasks import EVENT, LEVEL
from medscope.suite.teachers.searching import SearchingTeacher

STORY = re.compile(r"<think>[^|]*\ds \|")  # the turn up to the end of its storyline
NUMBER = re.compile(r"\d+(?:\.\d+)?")  # a second
PLACE = re.compile(rf"(?<=\| )[^|]+(?: {NUMBER.pattern}){{3}}(?= \||</)")  # in a thought, as `Place` writes it
ABSENT = 0.3  # share of the questions about an event that are asked about one that does not occur
MOST_TIMES = 6  # that a question of a rare kind is told
GIVEN = 0.5  # share of the captioned examples in which the storyline is given
OWN_CLOCK = 0.5  # share of the examples that count on a clock of their own: seconds are read, not remembered
LATEST_SECOND = 1290  # of an example's clock


class _Clock(ClinicalVideoEnvironment):
    """An environment that says which seconds a call would show, and decodes nothing."""

    def _show(self, seconds: list[float], max_pixels: int) -> Blocks:
        video = self.store.video(self.path)
        return [{"type": "text", "text": "", "second": float(video.starts[i])} for i in video.nearest(seconds)]


def search_examples(
    tasks: Sequence[Task],
    recordings: Mapping[str, Recording],
    store: FrameStore,
    budget: ToolBudget,
    captioned: bool,
    skims_per_question: int,
    looks_per_question: int,
    seed: int,
) -> list[WarmUpExample]:
    """The teacher's looks for every task, as frames or, `captioned`, as words; clocks go up to LATEST_SECOND.

    Each time that a task is told: the skim where `skims_per_question` is not 0, and at most `looks_per_question` of
    what follows it, the last one first: it shows the answer. Of several processes each does a part of the videos and
    returns what all have made.
    """
    events = _events_within([recordings[video] for video in {task.video for task in tasks}])
    of_kind = Counter(task.kind for task in tasks)
    of_video = [list(some) for _, some in groupby(enumerate(tasks), lambda numbered: numbered[1].video)]
    made = []
    for numbered in own_part(of_video):
        examples: list[WarmUpExample] = []
        for number, task in numbered:
            rng, recording = np.random.default_rng([seed, 10, number]), recordings[task.video]
            given = (recording, store, budget, captioned, skims_per_question, looks_per_question, rng)
            for _ in range(min(MOST_TIMES, max(of_kind.values()) // of_kind[task.kind])):
                absent = rng.random() < ABSENT
                examples += _examples(_about_absent(task, recording, events, rng) if absent else task, *given)
        made.append(examples)
    return [example for examples in merged(made) for example in examples]


def _examples(
    task: Task,
    recording: Recording,
    store: FrameStore,
    budget: ToolBudget,
    captioned: bool,
    skims_per_question: int,
    looks_per_question: int,
    rng: np.random.Generator,
) -> list[WarmUpExample]:
    """Those of one task."""
    examples: list[WarmUpExample] = []
    skim, *looks = _looks(task, recording, store, budget, rng)
    last = len(looks) - 1
    chosen = sorted([last, *rng.permutation(last)][:looks_per_question]) if looks else []
    for turn, seconds, max_pixels, places in [skim][:skims_per_question] + [looks[i] for i in chosen]:
        end = recording.duration if max_pixels == budget.skim_pixels else seconds[-1]
        if _numbers(turn) <= _numbers(f"{places} {end:g} {' '.join(f'{second:g}' for second in seconds)}"):
            latest = max(0, LATEST_SECOND - int(max(end, *_numbers(places), 0)))
            offset = int(rng.integers(0, latest + 1)) if rng.random() < OWN_CLOCK else 0
            turn, places = _later(turn, offset), _later(places, offset)
            story = STORY.match(turn) if captioned and rng.random() < GIVEN else None
            words: tuple[str, ...] = ()
            if captioned and not story:
                words = tuple(_spread(caption(recording, s, max_pixels, budget), max_pixels, rng) for s in seconds)
            example = WarmUpExample(
                video="" if captioned else task.video,
                path="" if captioned else task.path,
                question=f"{task.question} {places}".rstrip(),
                seconds=() if story else tuple(second + captioned * offset for second in seconds),
                max_pixels=0 if story else max_pixels,
                end=end + offset,
                turn=turn,
                time_offset=0 if captioned else offset,
                captions=words,
                collection=task.collection,
                given=story[0] if story else "",
            )
            examples.append(example)
    return examples


def _events(recording: Recording) -> set[str]:
    return {interval.label for interval in recording.intervals if interval.attributes.get(LEVEL) == EVENT}


def _events_within(recordings: Sequence[Recording]) -> dict[str, list[str]]:
    """Under each label the events that some recording shows in it, sorted."""
    found: dict[str, set[str]] = {}
    for recording in recordings:
        for event in (i for i in recording.intervals if i.attributes.get(LEVEL) == EVENT):
            for outer in recording.intervals:
                if outer.window.start <= event.window.start and event.window.end <= outer.window.end:
                    found.setdefault(outer.label, set()).add(event.label)
    return {label: sorted(some) for label, some in found.items()}


def _about_absent(
    task: Task, recording: Recording, events: Mapping[str, Sequence[str]], rng: np.random.Generator
) -> Task:
    """The task, asked about an event that does not occur, and does in the same phase of another recording: a pair that
    training withholds is not taught to be absent. As it is where it asks for no event, or all occur, or the question
    does not name the event once."""
    own = _events(recording)
    absent = [event for event in events.get(task.within, ()) if event not in own]
    if not absent or task.subject not in own or task.question.count(task.subject) != 1:
        return task
    other = str(rng.choice(absent))
    return replace(task, subject=other, question=task.question.replace(task.subject, other))


def _looks(
    task: Task, recording: Recording, store: FrameStore, budget: ToolBudget, rng: np.random.Generator
) -> Iterator[tuple[str, Sequence[float], int, str]]:
    """Every turn of the teacher with the seconds that were shown before it, their size in pixels, and the places that
    the turn before named if the task is to tell several apart."""
    teacher, environment = SearchingTeacher(task, recording, budget, rng), _Clock(store, budget)
    environment.reset(path=task.path)
    pixels = {"crop_video": budget.crop_pixels, "get_frame": budget.frame_pixels}
    seconds: Sequence[float] = skim_seconds(recording.duration, budget.skim_frames)
    max_pixels, response, places = budget.skim_pixels, [], ""
    several = len(teacher.candidates) > 1
    while True:
        turn = teacher.next_turn([{"role": "tool", "content": response}])
        if seconds:
            yield turn, seconds, max_pixels, places
        places = " ".join(PLACE.findall(turn)) if several else ""
        response = step(environment, turn)
        if response is None:
            return
        call: ToolCall = environment.trace.calls[-1]
        seconds, max_pixels = call.seconds, pixels.get(call.name, 0)


def _spread(caption: str, max_pixels: int, rng: np.random.Generator) -> str:
    """A caption over the visual tokens of its frame, each word as often, in random order: none has a place of its own.

    Every visual token of a frame then stands for all of its words (see `training.alignment`).
    """
    words, places = caption.split(), max_pixels // PATCH_FACTOR**2
    filled = [words[place * len(words) // places] for place in range(places)] if len(words) <= places else words
    return " ".join(filled[i] for i in rng.permutation(len(filled)))


def _numbers(text: str) -> set[float]:
    return {float(number) for number in NUMBER.findall(text)}


def _later(turn: str, seconds: int) -> str:
    """The turn on a clock that is `seconds` ahead: every number in it is a second."""
    return NUMBER.sub(lambda number: f"{round(float(number[0]) + seconds, 2):g}", turn)
