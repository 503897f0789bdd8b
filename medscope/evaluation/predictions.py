"""What a system did with a task, as a record on disk: every table of the evaluation derives from files of these.

`predictions/<system>.jsonl` holds one line per task. A line carries its task, so that a new metric needs neither the
model nor the suite. `predict` makes predictions of a policy, `blind` without one.
"""

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from medscope.environment.grammar import parse_answer
from medscope.records import Evidence, Task, ToolCall, Window


@dataclass(frozen=True)
class Prediction:
    """The turns of a system for one task, the calls that it made, and the judge's verdict on its answer."""

    task: Task
    system: str
    turns: Annotated[tuple[str, ...], Field(min_length=1)]
    calls: tuple[ToolCall, ...] = ()
    accuracy: float = 0.0  # the judge's verdict: 1, .5 or 0
    confidence: float = 0.0  # the model's probability of the tokens of its answer
    tokens: int = 0  # that the model wrote
    tool_frames: int = 0  # that its calls showed
    ratings: dict[str, float] = Field(default_factory=dict)  # of a description by a judge: CI, DO, CU, TU from 1 to 5

    @property
    def answer(self) -> str | None:
        """The text of the answer; None where the last turn gives none, or two."""
        return parse_answer(self.turns[-1])

    @property
    def looks(self) -> tuple[ToolCall, ...]:
        """The calls that were executed."""
        return tuple(call for call in self.calls if call.executed)

    @property
    def last_look(self) -> Evidence | None:
        """What the last executed call looked at."""
        return self.looks[-1].looked if self.looks else None

    @property
    def window(self) -> Window | None:
        """The window of the last executed crop_video."""
        return next((call.looked for call in reversed(self.calls) if isinstance(call.looked, Window)), None)


def by_set(predictions: Sequence[Prediction]) -> dict[str, list[Prediction]]:
    """Predictions per eval set: the collection of their task, in order of first appearance."""
    sets: dict[str, list[Prediction]] = {}
    for prediction in predictions:
        sets.setdefault(prediction.task.collection, []).append(prediction)
    return sets


def aligned(predictions: Sequence[Prediction], like: Sequence[Prediction]) -> list[Prediction]:
    """The predictions for the tasks of `like`, in its order. ValueError names the first task that is missing."""
    by_task = {prediction.task.id: prediction for prediction in predictions}
    for other in like:
        if other.task.id not in by_task:
            system = predictions[0].system if predictions else "this system"
            raise ValueError(f"{system} has no prediction for {other.task.id}, which {other.system} has")
    return [by_task[other.task.id] for other in like]
