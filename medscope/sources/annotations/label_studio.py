"""Label Studio's timeline labels, read and written. Its frames count from 1 and need a constant frame rate."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from medscope.sources.annotations.annotation import (
    Annotation,
    BadValueError,
    Entry,
    document,
    get,
    guarded,
    text_of,
    whole,
)

_UPLOAD = re.compile(r"^[0-9a-f]{8}-")  # what Label Studio puts before the name of an uploaded file


def read_label_studio(text: str, name: str) -> Iterator[Entry]:
    """A JSON export. Of a task the last annotation that was not cancelled counts.

    A range [first, last] of frames is the stretch from the start of the first to the end of the last.
    """
    for number, task in enumerate(document(text, list)):
        yield from guarded(f"task {number}", _task, task, f"task {number}")


def _task(task: Any, place: str) -> Iterator[Entry]:
    video = video_of(text_of(get(task, "data", dict), "video"))
    done = [a for a in get(task, "annotations", list, []) if not (isinstance(a, dict) and a.get("was_cancelled"))]
    for number, result in enumerate(get(done[-1], "result", list) if done else []):
        where = f"{place}, result[{number}]"
        yield from guarded(where, _result, video, result, where)


def _result(video: str, result: Any, place: str) -> Iterator[Annotation]:
    if get(result, "type", str) != "timelinelabels":
        return
    value, known = get(result, "value", dict), get(result, "id", str, "")
    for stretch in get(value, "ranges", list):
        first, last = (whole(get(stretch, key, (int, float)), key) for key in ("start", "end"))
        if first < 1:
            raise BadValueError(f"start is {first}; frames count from 1")
        for label in get(value, "timelinelabels", list):
            text = text_of({"timelinelabels": label}, "timelinelabels")
            yield Annotation(video, first - 1, last, text, place, frames=True, id=known)


def video_of(address: str) -> str:
    """The name of the file that a task shows: the last part of its address, as it was before the upload."""
    parts = urlsplit(address) if "://" in address or address.startswith("/data/") else None
    local = parse_qs(parts.query).get("d", [""])[0] if parts else ""  # /data/local-files/?d=folder/name.mp4
    path = local or (unquote(parts.path) if parts else address)
    if not path.startswith("/data/") and not (parts and parts.scheme):
        return path
    return _UPLOAD.sub("", path.rsplit("/", 1)[-1])


def write_label_studio(
    annotations: Iterable[Annotation], fps: Mapping[str, float], addresses: Mapping[str, str] | None = None
) -> str:
    """Tasks with their annotations, to be imported; `fps` by video. Times are rounded to whole frames.

    `addresses` says under which address Label Studio finds a video (default: its name).
    """
    tasks: dict[str, list[dict[str, Any]]] = {}
    for number, annotation in enumerate(annotations):
        if annotation.end is None or annotation.frames:
            raise ValueError(f"{annotation.video}: {annotation.label!r} has no end in seconds; Label Studio needs one")
        rate = fps[annotation.video]
        first = round(annotation.start * rate) + 1
        frames = {"start": first, "end": max(first, round(annotation.end * rate))}
        value = {"ranges": [frames], "timelinelabels": [annotation.label]}
        result = {"id": annotation.id or f"stretch_{number}", "type": "timelinelabels", "value": value}
        tasks.setdefault(annotation.video, []).append(result | {"from_name": "label", "to_name": "video"})
    document_ = [
        {"data": {"video": (addresses or {}).get(video, video)}, "annotations": [{"result": results}]}
        for video, results in tasks.items()
    ]
    return json.dumps(document_, indent=1)
