"""Flat recordings: drawn by the program as nested procedures, then annotated by one row of intervals.

Recordings of clinics are annotated so: phases with attributes, or events that are known by an instant. Words and times
are fixed, so that a test can say what lies where.
"""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from medscope.records import Interval, Recording, Window
from medscope.sources.rendered.camera import write_video
from medscope.sources.source import TEMPLATES, Language
from medscope.suite.nested_tasks import EVENT, LEVEL, PHASE, STEP, outline

OPERATION = (  # start (s), phase, the tool and the fault in it
    (0, "incision", "hook", "tear"),
    (14, "inspection", "hook", "leak"),
    (30, "resection", "hook", "bubbles"),
    (76, "irrigation", "needle", "tear"),
    (95, "coagulation", "forceps", "bubbles"),
    (121, "suturing", "forceps", "leak"),
)
OPERATION_SECONDS = 145
CLIP = ((1, "burn", "probe"), (4, "swelling", "blade"), (6, "bleeding", "blade"))  # second, event, tool; 2 s each
CLIP_SECONDS = 8


def view(interval: Interval) -> str:
    """What a dense look shows, as a sentence: `the needle is used with bubbles in view`."""
    fault = interval.attributes.get("complication")
    return f"the {interval.attributes['instrument']} is used" + (f" with {fault} in view" if fault else "")


LANGUAGE = Language(
    templates={
        **TEMPLATES,
        "instrument": ("Which instrument is used during the {label}?", "What is the tool of the {label}?"),
        "complication": ("Which complication occurs during the {label}?", "What goes wrong in the {label}?"),
    },
    view=view,
)


def flat_operation(folder: Path) -> Recording:
    """145 s on disk: six phases with attributes, evidence in windows. Every phase shows its event for all of it."""
    starts = [start for start, *_ in OPERATION]
    windows = [Window(a, b) for a, b in pairwise([*starts, OPERATION_SECONDS])]
    nested = [
        interval
        for window, (_, phase, tool, fault) in zip(windows, OPERATION, strict=True)
        for interval in (
            Interval(window, phase, {LEVEL: PHASE, "view": "eye"}),
            Interval(window, "holding", {LEVEL: STEP}),
            event(window, fault, tool),
        )
    ]
    flat = outline(drawn(folder, "operations", OPERATION_SECONDS, nested))
    told = [{"instrument": tool, "complication": fault} for _, _, tool, fault in OPERATION]
    intervals = [replace(phase, attributes=names) for phase, names in zip(flat.intervals, told, strict=True)]
    return replace(flat, intervals=tuple(intervals))


def flat_clip(folder: Path) -> Recording:
    """8 s on disk: three events with an attribute, evidence in moments."""
    whole = Window(0, CLIP_SECONDS)
    around = [
        Interval(whole, "inspection", {LEVEL: PHASE, "view": "lumen"}),
        Interval(whole, "holding", {LEVEL: STEP}),
    ]
    recording = drawn(folder, "clips", CLIP_SECONDS, [*around, *(event(Window(t, t + 2), e, i) for t, e, i in CLIP)])
    told = [Interval(Window(t, t + 2), label, {"instrument": tool}, timestamp=t) for t, label, tool in CLIP]
    return replace(recording, intervals=tuple(told))


def event(window: Window, label: str, tool: str) -> Interval:
    return Interval(window, label, {LEVEL: EVENT, "instrument": tool, "side": "left", "count": "two"})


def drawn(folder: Path, collection: str, seconds: int, intervals: list[Interval]) -> Recording:
    """A nested recording with its file."""
    video = f"{collection}_sft_0000"
    recording = Recording(
        video=video,
        path=str(folder / f"{video}.mp4"),
        duration=seconds,
        intervals=tuple(intervals),
        collection=collection,
        split="sft",
        group=video,
    )
    write_video(recording)
    return recording
