"""How far the skim alone reaches: its frames read without a fault, and no look.

How well looks are read is another ceiling: the system `oracle`, which is given those of the teacher.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from medscope.environment.grammar import window_text
from medscope.environment.tools import skim_seconds
from medscope.evaluation.benchmark import Scores, score
from medscope.evaluation.judge import exact_judge
from medscope.evaluation.predictions import Prediction, by_set
from medscope.records import Recording, Task, Window
from medscope.suite.teachers.thoughts import numbers, place, runs

COLUMNS = ("tg_r50", "tg_r70", "tg_miou", "vqa_acc", "accuracy")


def exact_skim(blind: Sequence[Prediction], recordings: Mapping[str, Recording], skim_frames: int) -> dict[str, Scores]:
    """Per eval set the scores of an exact reading of `skim_frames` coarse frames.

    A question for a window is answered with that of the first label in the skim which the question names: an edge lies
    in the middle between two frames. All others are answered as `blind` does. `recordings` by video.
    """
    told = [_told(prediction, recordings[prediction.task.video], skim_frames) for prediction in blind]
    return {
        name: {column: value for column, value in score(some).items() if column.removesuffix("_ci") in COLUMNS}
        for name, some in by_set(told).items()
    }


def _told(prediction: Prediction, recording: Recording, skim_frames: int) -> Prediction:
    task = prediction.task
    window = _window(task, recording, skim_frames) if isinstance(task.reference, Window) else None
    if window is None:
        return prediction
    answer = window_text(window)
    return replace(prediction, turns=(f"<answer>{answer}</answer>",), accuracy=exact_judge(answer, task.reference))


def _window(task: Task, recording: Recording, skim_frames: int) -> Window | None:
    found = runs(recording, skim_seconds(recording.duration, skim_frames), innermost=False)
    number = next(numbers(found, [task.within or task.subject]), None)
    if number is None:
        return None
    at = place(found, number, recording.duration)
    end = (found[number].last + at.after) / 2 if found[number + 1 :] else recording.duration
    return Window((at.before + at.first) / 2, end)
