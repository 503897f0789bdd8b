"""Readers of tables: a row is a labelled stretch."""

import csv
import io
import json
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from medscope.sources.annotations.annotation import (
    Annotation,
    AnnotationError,
    BadValueError,
    Entry,
    Unreadable,
    get,
    guarded,
    seconds,
    shown,
    text_of,
)

# Which key of the file holds what. A source whose keys are others names them in its parameters.
KEYS: Mapping[str, str] = {"video": "video", "start": "start", "end": "end", "label": "label"}
_OPHNET_LEVELS = {"phase_id": "phase", "operation_id": "operation", "surgery": "surgery"}


def rows(text: str, needed: set[str], one_of: Collection[str] = ()) -> Iterator[tuple[str, dict[str, str]]]:
    """Place (`line 2`) and fields of every row; comma, semicolon or tab, whichever the first line holds most of.

    Raises `AnnotationError` when a column of `needed` is missing, or all of `one_of`.
    """
    head = text.split("\n", 1)[0]
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=head.count), restkey="")
    try:
        names = [name.strip() for name in reader.fieldnames or ()]
        if missing := sorted(needed - set(names)):
            raise AnnotationError(
                f"line 1: the columns are {', '.join(names) or 'none'}; {', '.join(missing)} is missing"
            )
        if one_of and not set(one_of) & set(names):
            raise AnnotationError(f"line 1: the columns are {', '.join(names)}; one of {', '.join(one_of)} is needed")
        reader.fieldnames = names
        for row in reader:
            yield f"line {reader.line_num}", {k: v.strip() for k, v in row.items() if k and isinstance(v, str)}
    except csv.Error as error:
        raise AnnotationError(f"line {reader.line_num}: {error}") from None


def read_csv(text: str, name: str, keys: Mapping[str, str] = KEYS) -> Iterator[Entry]:
    """video, start, end, label; seconds or clock times. Every further column that is filled is an attribute.

    A table without `start` and `end` in its keys labels whole videos.
    """
    keys = _complete(keys)
    for place, row in rows(text, set(keys.values())):
        yield from guarded(place, _stretch, row, place, keys, [k for k in row if k not in keys.values() and row[k]])


def read_jsonl(text: str, name: str, keys: Mapping[str, str] = KEYS) -> Iterator[Entry]:
    """One JSON object a line, or one JSON list of objects, with the keys of `read_csv`; texts under other keys are
    attributes.
    """
    keys = _complete(keys)
    for place, record in _records(text):
        if isinstance(record, Unreadable):
            yield record
            continue
        others = [k for k, v in record.items() if k not in keys.values() and isinstance(v, str) and v]
        yield from guarded(place, _stretch, record, place, keys, others)


def _complete(keys: Mapping[str, str]) -> Mapping[str, str]:
    """The keys, refused where a needed one is missing."""
    given = set(keys)
    if given - set(KEYS) or not {"video", "label"} <= given or len(given & {"start", "end"}) == 1:
        raise AnnotationError(
            f"keys names {', '.join(sorted(given))}; it needs video and label, and start and end unless whole videos "
            "are labelled"
        )
    return keys


def _records(text: str) -> Iterator[tuple[str, Any]]:
    if text.lstrip().startswith("["):
        try:
            found = [(f"entry {i}", record) for i, record in enumerate(json.loads(text))]
        except (ValueError, RecursionError) as error:
            raise AnnotationError(f"not a JSON list ({error})") from None
    else:
        found = [(f"line {i}", line) for i, line in enumerate(text.splitlines(), start=1) if line.strip()]
    for place, record in found:
        if isinstance(record, str):
            try:
                record = json.loads(record)
            except (ValueError, RecursionError) as error:
                record = Unreadable(place, f"not a JSON object ({error})")
        if not isinstance(record, dict | Unreadable):
            record = Unreadable(place, f"{shown(record)} stands where a JSON object is expected")
        yield place, record


def _stretch(row: Mapping[str, Any], place: str, keys: Mapping[str, str], others: list[str]) -> Iterator[Annotation]:
    whole_video = "start" not in keys
    yield Annotation(
        video=text_of(row, keys["video"]),
        start=0.0 if whole_video else seconds(get(row, keys["start"], (str, int, float)), keys["start"]),
        end=None if whole_video else seconds(get(row, keys["end"], (str, int, float)), keys["end"]),
        label=text_of(row, keys["label"]),
        place=place,
        attributes={key: str(row[key]) for key in others},
    )


def read_ophnet(text: str, name: str) -> Iterator[Entry]:
    """OphNet: a row has a `phase_id`, an `operation_id` or both (levels `phase`, `operation`), or `surgery`.

    The surgeries of a video have no times: they label all of it. A field may hold several labels (`"1,13,14"`).
    """
    for place, row in rows(text, {"video_id"}, _OPHNET_LEVELS):
        yield from guarded(place, _ophnet_row, row, place)


def _ophnet_row(row: Mapping[str, str], place: str) -> Iterator[Annotation]:
    timed = "surgery" not in row
    start, end = (
        (seconds(text_of(row, "start"), "start"), seconds(text_of(row, "end"), "end")) if timed else (0.0, None)
    )
    for column, level in _OPHNET_LEVELS.items():
        if column not in row:
            continue
        for label in text_of(row, column).split(","):
            if not label.strip():
                raise BadValueError(f"{column} is {row[column]!r}; a label between the commas is empty")
            video = text_of(row, "video_id")
            yield Annotation(video, start, end, label.strip(), place, level, split=row.get("split", ""))


def read_cataract1k(text: str, name: str) -> Iterator[Entry]:
    """Cataract-1K phases: caseId, comment, frame, endFrame, sec, endSec; the comment is the label."""
    for place, row in rows(text, {"caseId", "comment", "sec", "endSec"}):
        yield from guarded(place, _cataract1k_row, row, place)


def _cataract1k_row(row: Mapping[str, str], place: str) -> Iterator[Annotation]:
    case = text_of(row, "caseId")
    yield Annotation(
        video=f"case_{case}" if case.isdigit() else case,
        start=seconds(text_of(row, "sec"), "sec"),
        end=seconds(text_of(row, "endSec"), "endSec"),
        label=text_of(row, "comment"),
        place=place,
        level="phase",
    )
