"""ActivityNet JSON, read and written: what most tools for temporal segments take."""

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from medscope.sources.annotations.annotation import (
    Annotation,
    AnnotationError,
    BadValueError,
    Entry,
    document,
    get,
    guarded,
)
from medscope.sources.annotations.documents import segments


def read_activitynet(text: str, name: str) -> Iterator[Entry]:
    """database -> video -> annotations of {label, segment (s)}, duration (s), subset."""
    try:
        database = get(document(text, dict), "database", dict)
    except BadValueError as error:
        raise AnnotationError(str(error)) from None
    for video, entry in database.items():
        yield from guarded(video, segments, video, entry, "label")


def write_activitynet(annotations: Iterable[Annotation], durations: Mapping[str, float]) -> str:
    """One document of all stretches; `durations` (s) by video. Times are written in full: reading gives them back."""
    database: dict[str, Any] = {}
    for annotation in annotations:
        if annotation.end is None or annotation.frames:
            raise ValueError(f"{annotation.video}: {annotation.label!r} has no end in seconds; ActivityNet needs one")
        entry = {"label": annotation.label, "segment": [annotation.start, annotation.end]}
        known = {"id": annotation.id} if annotation.id else {}
        video = {"duration": durations[annotation.video], "subset": annotation.split, "annotations": []}
        database.setdefault(annotation.video, video)["annotations"].append(entry | known)
    return json.dumps({"version": "1.3", "database": database}, indent=1)
