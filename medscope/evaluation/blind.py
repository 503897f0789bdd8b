"""The baseline that never sees a video: how far do the statistics of the training tasks reach?"""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from medscope.environment.grammar import window_text
from medscope.evaluation.judge import Judge, exact, text_of
from medscope.evaluation.predictions import Prediction
from medscope.metrics import evidence_window
from medscope.records import Task, Timestamp, Window

THOUGHT = "from the training tasks"
WHOLE_VIDEO = (np.float64(0), np.float64(1))  # where an unknown subject is looked for
TEACHING_SPLITS = ("warm_up", "sft")  # whose answers the supervised stages have seen


def predict_blind(
    training: Sequence[Task],
    tasks: Sequence[Task],
    durations: Mapping[str, float],
    system: str = "blind",
    judge: Judge = exact,
) -> list[Prediction]:
    """Answer `tasks` from the statistics of `training` tasks; `durations` are seconds per video, of both.

    A text: the most frequent answer to questions of the same kind about the subjects of the task's eval set, of the
    options where the question has some. A window or a timestamp: the mean place of the subject, as a share of the
    video's duration.
    """
    places = _places(training, durations)
    frequent = {name: _frequent(training, subjects) for name, subjects in _subjects(tasks).items()}
    answers = [
        _answer(task, frequent[task.collection], places.get(task.subject, WHOLE_VIDEO), durations[task.video])
        for task in tasks
    ]
    verdicts = judge([(task.question, answer, task.reference) for task, answer in zip(tasks, answers, strict=True)])
    return [
        Prediction(task, system, (f"<think>{THOUGHT}</think><answer>{answer}</answer>",), accuracy=verdict)
        for task, answer, verdict in zip(tasks, answers, verdicts, strict=True)
    ]


def teaching_tasks(tasks: Sequence[Task]) -> list[Task]:
    """The tasks that the baseline learns from: closed questions of the supervised splits."""
    return [task for task in tasks if task.split in TEACHING_SPLITS and not task.free_text]


def _answer(task: Task, frequent: Mapping[str, Counter], place: tuple[float, float], duration: float) -> str:
    start, end = (round(share * duration, 1) for share in place)
    if isinstance(task.reference, Window):
        return window_text(Window(start, end))
    if isinstance(task.reference, Timestamp):
        return f"{(start + end) / 2:g} s"
    counts = frequent.get(task.kind, Counter())
    return max(task.options or counts, key=counts.__getitem__, default="")


def _subjects(tasks: Sequence[Task]) -> dict[str, set[str]]:
    """Per eval set what its tasks ask about. A subject that no training task has leaves the set without answers."""
    subjects: dict[str, set[str]] = {}
    for task in tasks:
        subjects.setdefault(task.collection, set()).add(task.subject)
    return subjects


def _frequent(training: Sequence[Task], subjects: set[str]) -> dict[str, Counter]:
    """Per kind how often each answer was right about these subjects."""
    counts: dict[str, Counter] = {}
    for task in training:
        if task.subject in subjects:
            counts.setdefault(task.kind, Counter())[text_of(task.reference)] += 1
    return counts


def _places(training: Sequence[Task], durations: Mapping[str, float]) -> dict[str, tuple[float, float]]:
    """Per subject the mean start and end of its evidence, as shares of the video's duration."""
    shares: dict[str, list[tuple[float, float]]] = {}
    for task in training:
        window, duration = evidence_window(task.evidence), durations[task.video]
        shares.setdefault(task.subject, []).append((window.start / duration, window.end / duration))
    return {subject: tuple(np.mean(some, axis=0)) for subject, some in shares.items()}
