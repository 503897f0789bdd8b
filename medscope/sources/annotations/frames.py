"""Readers of formats that label single frames, or the frames where something begins."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from medscope.sources.annotations.annotation import (
    Annotation,
    AnnotationError,
    BadValueError,
    Entry,
    Unreadable,
    document,
    get,
    number,
    runs,
    shown,
    text_of,
    whole,
)
from medscope.sources.annotations.tables import rows

FPS = 25  # of the frame numbers in Cholec80 and Cataract-101, whatever rate a copy of the video has
_TRIPLET, _PHASE = 0, 14  # places in an instance of CholecT50


def read_cholec80(text: str, name: str) -> Iterator[Entry]:
    """Cholec80 `video01-phase.txt`: `Frame` and `Phase`, tab-separated, 25 frames a second, named as the video."""
    frames: list[tuple[int, str]] = []
    for place, row in rows(text, {"Frame", "Phase"}):
        try:
            frames.append((whole(row.get("Frame"), "Frame"), text_of(row, "Phase")))
        except BadValueError as error:
            yield Unreadable(place, str(error))
    for first, after, label in runs(sorted(frames)):
        yield Annotation(
            name.removesuffix("-phase"), first / FPS, after / FPS, label, f"frames {first} to {after - 1}", "phase"
        )


def read_heichole(text: str, name: str) -> Iterator[Entry]:
    """HeiChole `Hei-Chole1_Annotation_Phase.csv`: a frame of the video and a number a line, without a header."""
    frames: list[tuple[int, str]] = []
    for line, content in enumerate(text.splitlines(), start=1):
        if not content.strip():
            continue
        values = content.split(",")
        if len(values) < 2:
            raise AnnotationError(f"line {line}: {shown(content)} is not `frame,number`")
        try:
            frames.append((whole(values[0], "the frame"), str(whole(values[1], "the number"))))
        except BadValueError as error:
            yield Unreadable(f"line {line}", str(error))
    video = name.partition("_Annotation")[0]
    for first, after, label in runs(sorted(frames)):
        yield Annotation(video, first, after, label, f"frames {first} to {after - 1}", "phase", frames=True)


def read_cataract101(text: str, name: str) -> Iterator[Entry]:
    """Cataract-101 `annotations.csv`: VideoID;FrameNo;Phase. A phase lasts until the next one, or the video's end."""
    starts: dict[str, list[tuple[int, str, str]]] = {}
    for place, row in rows(text, {"VideoID", "FrameNo", "Phase"}):
        try:
            start = (whole(row.get("FrameNo"), "FrameNo"), text_of(row, "Phase"), place)
            starts.setdefault(text_of(row, "VideoID"), []).append(start)
        except BadValueError as error:
            yield Unreadable(place, str(error))
    for video, found in starts.items():
        video = f"case_{video}" if video.isdigit() else video
        for (frame, phase, place), (after, _, _) in pairwise([*sorted(found), (None, "", "")]):
            yield Annotation(video, frame / FPS, None if after is None else after / FPS, phase, place, "phase")


def read_cholect50(text: str, name: str) -> Iterator[Entry]:
    """CholecT50 `VID01.json`: lists of instances by frame (usually one a second; frames may be missing).

    Levels: `triplet` (a stretch as long as consecutive frames show it) and `phase`. The file names the video.
    """
    content = document(text, dict)
    try:
        fps = number(get(content, "fps", (int, float), 1), "fps")
        names = get(content, "categories", dict)
        annotations = get(content, "annotations", dict)
    except BadValueError as error:
        raise AnnotationError(str(error)) from None
    if not fps > 0:
        raise AnnotationError(f"fps is {fps:g}; it must be more than 0")
    frames: dict[tuple[str, str], set[int]] = {}
    for key, instances in annotations.items():
        try:
            frame = whole(key, "the frame")
            for level, label in _labels(instances, names):
                frames.setdefault((level, label), set()).add(frame)
        except BadValueError as error:
            yield Unreadable(f"annotations, frame {key}", str(error))
    for (level, label), found in frames.items():
        for first, after, _ in runs((frame, label) for frame in sorted(found)):
            place = f"annotations, frames {first} to {after - 1}"
            yield Annotation(name, first / fps, after / fps, label, place, level)


def _labels(instances: Any, names: dict[str, Any]) -> set[tuple[str, str]]:
    """The levels and labels of one frame. An index of -1 is nothing."""
    if not isinstance(instances, list):
        raise BadValueError(f"{shown(instances)} stands where a list of instances is expected")
    found = set()
    for instance in instances:
        if not isinstance(instance, list) or len(instance) <= _PHASE:
            raise BadValueError(f"{shown(instance)} is no instance of {_PHASE + 1} values")
        for level, place in (("triplet", _TRIPLET), ("phase", _PHASE)):
            index = number(instance[place], f"{level} (value {place})")
            if index >= 0:
                found.add((level, text_of(get(names, level, dict), str(int(index)))))
    return found
