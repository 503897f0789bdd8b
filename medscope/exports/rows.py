"""Records of the suite as flat rows of plain values. No row holds a path: the video is named, not placed."""

import json
from typing import Any

from medscope.records import Caption, Evidence, Recording, Reference, Split, Task, Text, Timestamp, Trajectory, Window
from medscope.records import WarmUpExample as Example


def recording_row(recording: Recording) -> dict[str, Any]:
    """A recording with its intervals; attributes as JSON text, `timestamp` null where a window is the evidence."""
    return {
        "video": recording.video,
        "duration": recording.duration,
        "collection": recording.collection,
        "domain": recording.domain,
        "group": recording.group,
        "intervals": [
            {
                "start": interval.window.start,
                "end": interval.window.end,
                "label": interval.label,
                "attributes": json.dumps(interval.attributes, sort_keys=True, ensure_ascii=False),
                "timestamp": interval.timestamp,
            }
            for interval in recording.intervals
        ],
    }


def caption_row(caption: Caption) -> dict[str, Any]:
    return {"video": caption.video, "start": caption.window.start, "end": caption.window.end, "text": caption.text}


def task_row(task: Task) -> dict[str, Any]:
    """A task. Reference and evidence are typed by `*_type`; the columns of the other types are null."""
    return {
        "id": task.id,
        "video": task.video,
        "question": task.question,
        **_typed("reference", task.reference, text=True),
        **_typed("evidence", task.evidence, text=False),
        "kind": task.kind,
        "subject": task.subject,
        "collection": task.collection,
        "domain": task.domain,
        "challenging": task.challenging,
        "free_text": task.free_text,
    }


def example_row(example: Example) -> dict[str, Any]:
    return {
        "video": example.video,
        "question": example.question,
        "seconds": list(example.seconds),
        "max_pixels": example.max_pixels,
        "end": example.end,
        "turn": example.turn,
        "time_offset": example.time_offset,
        "captions": list(example.captions),
        "collection": example.collection,
    }


def trajectory_row(trajectory: Trajectory) -> dict[str, Any]:
    """A trajectory with the columns of its task. Arguments of calls are JSON text, `looked_*` of refused ones null."""
    return {
        **task_row(trajectory.task),
        "turns": list(trajectory.turns),
        "calls": [
            {
                "name": call.name,
                "arguments": json.dumps(call.arguments, sort_keys=True, ensure_ascii=False),
                **_typed("looked", call.looked, text=False),
                "seconds": list(call.seconds),
                "message": call.message,
            }
            for call in trajectory.calls
        ],
        "tools": trajectory.tools,
    }


def split_of(record: Task | Trajectory | Recording | Example) -> Split:
    """The split of a record. Raises ValueError for a recording that has none."""
    if isinstance(record, Example):
        return "warm_up"
    split = record.task.split if isinstance(record, Trajectory) else record.split
    if split is None:
        raise ValueError(f"the recording {record.video!r} has no split; the suite was not built by suite.build")
    return split


def _typed(name: str, value: Reference | Evidence | None, text: bool) -> dict[str, Any]:
    row: dict[str, Any] = {f"{name}_type": None, f"{name}_start": None, f"{name}_end": None, f"{name}_time": None}
    if text:
        row[f"{name}_text"] = None
    if isinstance(value, Window):
        row |= {f"{name}_type": "window", f"{name}_start": value.start, f"{name}_end": value.end}
    elif isinstance(value, Timestamp):
        row |= {f"{name}_type": "timestamp", f"{name}_time": value.time}
    elif isinstance(value, Text):
        row |= {f"{name}_type": "text", f"{name}_text": value.text}
    return row
