"""Annotations of the originals: the stretches that are to be black, and the rest under the new names.

Times do not shift, so the same seconds hold for the copies. A stretch that is to be black and cannot be placed ends the
run: its frames would stay visible.
"""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from medscope.records import Interval, Window
from medscope.sources.annotations.check import check
from medscope.sources.annotations.formats import Stated
from medscope.sources.manifest import Quarantined, VideoFile

SHOWN = 5  # reasons in an error message


class StretchError(ValueError):
    """Stretches that are to be black and are not known."""


@dataclass(frozen=True)
class Annotations:
    """What an annotation file states of the videos. `hidden` are the stretches to make black, by video."""

    intervals: Mapping[str, tuple[Interval, ...]]
    hidden: Mapping[str, tuple[Window, ...]]
    quarantined: tuple[Quarantined, ...]


def place(
    stated: Sequence[Stated], unreadable: Sequence[Quarantined], videos: Sequence[VideoFile], labels: Sequence[str]
) -> Annotations:
    """The annotations by video. `labels` are those to make black.

    Raises `StretchError` when there are `labels` and an entry cannot be read, no entry has one of them, or an entry
    with one of them is impossible for its video.
    """
    every = check(stated, videos)
    bad = (*unreadable, *every.impossible, *every.unknown)
    if not labels:
        return Annotations(every.intervals, {}, bad)
    known = {item.annotation.label for item in stated}
    if missing := [label for label in labels if label not in known]:
        raise StretchError(f"no annotation has the label {missing[0]!r}; the labels are {', '.join(sorted(known))}")
    wanted = check([item for item in stated if item.annotation.label in labels], videos)
    if wrong := [*unreadable, *wanted.impossible]:
        reasons = "\n  ".join(f"{record.path}: {record.reason}" for record in wrong[:SHOWN])
        raise StretchError(
            f"{len(wrong)} annotations may be stretches to make black, and cannot be placed; mend them:\n  {reasons}"
        )
    hidden = {video: tuple(interval.window for interval in found) for video, found in wanted.intervals.items()}
    return Annotations(every.intervals, hidden, bad)


def write_annotations(path: Path, intervals: Mapping[str, Sequence[Interval]], names: Mapping[str, str]) -> None:
    """A CSV file of video, start, end (s), label and attributes, with the new `names`: the format `csv` reads it."""
    rows = [(names[video], interval) for video, found in intervals.items() if video in names for interval in found]
    attributes = sorted({name for _, interval in rows for name in interval.attributes})
    part = path.with_name(path.name + ".part")
    with part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["video", "start", "end", "label", *attributes])
        for video, interval in rows:
            times = (repr(interval.window.start), repr(interval.window.end))
            details = (interval.attributes.get(name, "") for name in attributes)
            writer.writerow([video, *times, interval.label, *details])
    part.replace(path)
