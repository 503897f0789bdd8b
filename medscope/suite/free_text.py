"""SVU-31K's four tasks with free text as answer: a whole recording or a clip described, reasoning on time and on looks.

`full` and `temporal` can be answered from the skim; `fine` (a clip) and `perception` need a dense look.
"""

import numpy as np

from medscope.records import Recording, Task, Text, Window
from medscope.sources.source import Language
from medscope.suite.captions import summary
from medscope.suite.tasks import ask, make_task

FREE_TEXT_KINDS = ("full", "fine", "temporal", "perception")
FROM_THE_SKIM = ("full", "temporal")  # the kinds that are taught, and asked, without tools


def free_text_tasks(recording: Recording, language: Language, rng: np.random.Generator) -> list[Task]:
    """One task of every kind: about the whole recording, and about intervals drawn from its timeline.

    Evidence is the recording, or the window of the interval. `temporal` asks for an interval with one before and one
    after it, so it takes three. Recordings that are annotated by instants are too short to describe: no task.
    """
    intervals = recording.intervals
    if not intervals or any(interval.timestamp is not None for interval in intervals):
        return []
    tasks = []
    for kind in FREE_TEXT_KINDS:
        inner = kind == "temporal"
        if kind not in language.templates or (inner and len(intervals) < 3):
            continue
        index = int(rng.integers(inner, len(intervals) - inner))
        interval, whole = intervals[index], kind == "full"
        question = ask(language, kind, interval, rng)
        window = Window(0, recording.duration) if whole else interval.window
        reference = Text(_reference(kind, recording, index, language))
        subject = "" if whole else interval.label
        looks = kind not in FROM_THE_SKIM
        tasks.append(make_task(recording, subject, kind, 0, question, reference, window, looks, free_text=True))
    return tasks


def _reference(kind: str, recording: Recording, index: int, language: Language) -> str:
    if kind == "full":
        return summary(recording)
    if kind == "fine":
        return language.describe(recording.intervals[index])
    if kind == "temporal":
        before, here, after = recording.intervals[index - 1 : index + 2]
        return f"first {before.label}, then {here.label}, then {after.label}"
    return language.view(recording.intervals[index])
