"""Readers of JSON documents. ActivityNet and Label Studio, which are written too, have files of their own."""

from collections.abc import Iterator
from typing import Any

from medscope.sources.annotations.annotation import (
    Annotation,
    AnnotationError,
    BadValueError,
    Entry,
    document,
    get,
    guarded,
    number,
    pair,
    seconds,
    text_of,
)

SVU_TAGS = (
    "full video detailed description",
    "video clip description",
    "Visual Temporal Reasoning",
    "Visual Perception Reasoning",
)


def read_nurvid(text: str, name: str) -> Iterator[Entry]:
    """NurViD: video -> annotations of {actionID, segment (s)}, duration (s), subset. The actionID is the label."""
    for video, entry in document(text, dict).items():
        yield from guarded(video, segments, video, entry, "actionID")


def segments(video: str, entry: Any, label: str, level: str = "") -> Iterator[Entry]:
    """The `annotations` of one video, each with a `segment` and a label; with its duration (s) and its subset."""
    duration, subset = get(entry, "duration", (int, float), None), get(entry, "subset", (str, type(None)), None)
    for number_, item in enumerate(get(entry, "annotations", list)):
        place = f"{video}, annotations[{number_}]"
        yield from guarded(place, _segment, video, item, label, place, level, duration, subset or "")


def _segment(
    video: str, item: Any, label: str, place: str, level: str, duration: float | None, subset: str
) -> Iterator[Annotation]:
    start, end = pair(item, "segment")
    known = get(item, "id", str, "")
    yield Annotation(video, start, end, text_of(item, label), place, level, split=subset, duration=duration, id=known)


def read_multibypass140(text: str, name: str) -> Iterator[Entry]:
    """MultiBypass140 `BBP01.mp4.json`: phases and steps (the levels) with label_name and milliseconds.

    `out_of_body` and `severe_index` are nested inside other phases. The file names the video.
    """
    content = document(text, dict)
    if not {"phases", "steps"} & set(content):
        raise AnnotationError(f"the keys are {', '.join(content) or 'none'}; phases or steps is needed")
    video = name.removesuffix(".mp4").removeprefix("MultiBypass140_")
    for key, level in (("phases", "phase"), ("steps", "step")):
        yield from guarded(key, _bypass_level, video, get(content, key, object, []), key, level)


def _bypass_level(video: str, items: Any, key: str, level: str) -> Iterator[Entry]:
    for place, item in enumerate(get({key: items}, key, list)):
        yield from guarded(f"{key}[{place}]", _bypass_item, video, item, f"{key}[{place}]", level)


def _bypass_item(video: str, item: Any, place: str, level: str) -> Iterator[Annotation]:
    start, end = (number(get(item, key, (int, float)), key) / 1000 for key in ("start", "end"))
    yield Annotation(video, start, end, text_of(item, "label_name"), place, level)


def read_medvidqa(text: str, name: str) -> Iterator[Entry]:
    """MedVidQA: a list of questions, each with the stretch that answers it. The question is the label."""
    for number_, item in enumerate(document(text, list)):
        yield from guarded(f"entry {number_}", _medvidqa_item, item, f"entry {number_}")


def _medvidqa_item(item: Any, place: str) -> Iterator[Annotation]:
    start, end = (_medvidqa_time(item, key) for key in ("answer_start", "answer_end"))
    length = get(item, "video_length", (int, float), None)
    yield Annotation(text_of(item, "video_id"), start, end, text_of(item, "question"), place, duration=length)


def _medvidqa_time(item: Any, key: str) -> float:
    """`answer_start_second` where it is given, else the clock time `answer_start`."""
    known = get(item, f"{key}_second", (int, float, str), None)
    return seconds(get(item, key, (int, float, str)) if known is None else known, key)


def read_svu31k(text: str, name: str) -> Iterator[Entry]:
    """SVU-31K in ShareGPT form: videos, messages, tag (the level), timecodes (s; an end of -1 is the video's end).

    The answer is the label. Clips have an `id`, whole videos a `total_id`, which may lack timecodes.
    """
    for number_, item in enumerate(document(text, list)):
        yield from guarded(f"entry {number_}", _svu_item, item, f"entry {number_}")


def _svu_item(item: Any, place: str) -> Iterator[Annotation]:
    known = get(item, "id", (str, int), None)
    place = f"{place} ({known if known is not None else get(item, 'total_id', (str, int), 'no id')})"
    tag = text_of(item, "tag")
    if tag not in SVU_TAGS:
        raise BadValueError(f"tag is {tag!r}; the tags are {', '.join(SVU_TAGS)}")
    answers = [m for m in get(item, "messages", list) if isinstance(m, dict) and m.get("role") == "assistant"]
    if not answers:
        raise BadValueError("messages holds no answer of the assistant")
    start, end = pair(item, "timecodes") if get(item, "timecodes", (list, type(None)), None) else (0.0, -1.0)
    videos = get(item, "videos", list)
    if not videos or not isinstance(videos[0], str):
        raise BadValueError(f"videos is {videos!r}, not a list of paths")
    yield Annotation(videos[0], start, None if end == -1 else end, text_of(answers[-1], "content"), place, tag)
