"""Tasks that a model behind an endpoint was asked and that have no answer to score: `predictions/X.quarantined.jsonl`.

Its replies could not be read, or the endpoint refused the dialogue. That is no wrong answer, so no mean counts it. The
tables say how many there are, and the leaderboard gives a system no rank that leaves out more than `MOST_LEFT_OUT`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic.dataclasses import dataclass

from medscope.evaluation.predictions import Prediction
from medscope.files import read_jsonl
from medscope.records import Task, ToolCall

SUFFIX = ".quarantined.jsonl"
MOST_LEFT_OUT = 0.05  # of the tasks of an eval set


@dataclass(frozen=True)
class Quarantined:
    """The dialogue so far, and why it could not go on."""

    task: Task
    system: str
    turns: tuple[str, ...]
    calls: tuple[ToolCall, ...]
    reason: str


def quarantine_of(predictions: Path) -> Path:
    """The file that lies beside `predictions/X.jsonl`."""
    return predictions.with_name(predictions.name.removesuffix(".jsonl") + SUFFIX)


def read_quarantine(predictions: Path) -> list[Quarantined]:
    """What a system left out; nothing for one without such a file."""
    file = quarantine_of(predictions)
    return read_jsonl(file, Quarantined) if file.is_file() else []


def quarantine_table(
    systems: Mapping[str, Sequence[Prediction]], left_out: Mapping[str, Sequence[Quarantined]]
) -> dict[str, dict[str, str]]:
    """{system: {eval set: `2 of 813`}} of the systems that left something out."""
    table: dict[str, dict[str, str]] = {}
    for system, quarantined in left_out.items():
        for name in dict.fromkeys(q.task.collection for q in quarantined):
            count = sum(q.task.collection == name for q in quarantined)
            answered = sum(p.task.collection == name for p in systems.get(system, ()))
            table.setdefault(system, {})[name] = f"{count} of {count + answered}"
    return table
