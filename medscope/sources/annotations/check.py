"""Annotations against the videos that they speak of: what is possible becomes intervals, the rest is quarantined."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from medscope.records import Interval, Window
from medscope.sources.annotations.annotation import Annotation
from medscope.sources.annotations.formats import Stated
from medscope.sources.folder import without_suffix
from medscope.sources.manifest import Quarantined, VideoFile

SLACK = 1.0  # s that a stretch may end after the video: annotation tools round up. It is cut at the end.


@dataclass(frozen=True)
class Checked:
    """What became of annotations. `intervals` by video are ordered by their start; `splits` are the published ones.

    `impossible` has one record an entry, `unknown` one a video that cannot be found. `considered` counts the entries.
    """

    intervals: dict[str, tuple[Interval, ...]]
    impossible: list[Quarantined]
    unknown: list[Quarantined]
    splits: dict[str, str]
    considered: int


class Videos:
    """Finds a video by the name that an annotation file gives it.

    That is its name in the manifest, with or without the suffix of its file, or the last parts of its path.
    """

    def __init__(self, videos: Iterable[VideoFile]):
        self._by_name: dict[tuple[str, ...], list[VideoFile]] = {}
        for video in videos:
            parts = _parts(video.video)
            for length in range(1, len(parts) + 1):
                self._by_name.setdefault(parts[-length:], []).append(video)

    def find(self, name: str) -> list[VideoFile]:
        """The videos of this name: one, none, or several where the name is not enough."""
        parts = _parts(name)
        for start in range(len(parts)):
            if found := self._by_name.get(parts[start:]):
                exact = [video for video in found if _parts(video.video) == parts[start:]]
                return exact or found
        return []


def _parts(name: str) -> tuple[str, ...]:
    return PurePosixPath(without_suffix(name.replace("\\", "/"))).parts


def check(
    stated: Iterable[Stated],
    videos: Sequence[VideoFile],
    labels: Mapping[str, str] | None = None,
    levels: Sequence[str] | None = None,
    excluded: Mapping[str, str] | None = None,
) -> Checked:
    """Sort annotations into those that are possible for their video, impossible, and of an unknown video.

    `labels` names labels that are numbers (`{"3": "name"}`, or `{"phase:3": "name"}` where levels share numbers).
    `levels` are those to keep (default: all). `excluded` gives the reason why a video of that name is not used.
    Impossible are: times that are not finite, a negative start, an end that is not after the start, an end more than a
    second after that of the video, a start at or after it. Where the video is not there, the duration that the
    annotation file itself states is the end, without slack. Entries of an unknown video are quarantined together.
    """
    index = Videos(videos)
    intervals: dict[str, list[Interval]] = {}
    impossible: list[Quarantined] = []
    considered = 0
    splits: dict[str, str] = {}
    unknown: Counter[tuple[str, str, str]] = Counter()
    for item in stated:
        annotation = item.annotation
        if levels is not None and annotation.level not in levels:
            continue
        considered += 1
        found = index.find(annotation.video)
        video = found[0] if len(found) == 1 else None
        if reason := _excluded(annotation.video, excluded or {}):
            unknown[item.path, annotation.video, reason] += 1
        elif reason := _problem(annotation, video):
            impossible.append(Quarantined(item.path, f"{annotation.place}: {reason}"))
        elif video is None:
            names = ", ".join(video.video for video in found)
            reason = f"is not enough to tell {names} apart" if found else "is not in the manifest"
            unknown[item.path, annotation.video, reason] += 1
        else:
            intervals.setdefault(video.video, []).append(_interval(annotation, video, labels or {}))
            if annotation.split:
                splits[video.video] = annotation.split
    return Checked(
        {name: tuple(sorted(of, key=lambda i: (i.window.start, -i.window.end))) for name, of in intervals.items()},
        impossible,
        [
            Quarantined(path, f"the video {name!r} {reason} ({count} intervals)")
            for (path, name, reason), count in unknown.items()
        ],
        splits,
        considered,
    )


def _excluded(name: str, excluded: Mapping[str, str]) -> str:
    return excluded.get(_parts(name)[-1] if _parts(name) else name, "")


def _times(annotation: Annotation, fps: float) -> tuple[float, float | None]:
    """Start and end in seconds."""
    if not annotation.frames:
        return annotation.start, annotation.end
    return annotation.start / fps, None if annotation.end is None else annotation.end / fps


def _problem(annotation: Annotation, video: VideoFile | None) -> str:
    """Why the stretch is impossible; "" where it is not."""
    unit = "frame {:g}" if annotation.frames else "{:g} s"
    start, end = annotation.start, annotation.end
    if not all(math.isfinite(time) for time in (start, end) if time is not None):
        return f"start {start:g}, end {end if end is None else f'{end:g}'}: not finite"
    if start < 0:
        return f"it starts at {unit.format(start)}, before the video"
    if end is not None and end < start:
        return f"it ends at {unit.format(end)}, before it starts at {unit.format(start)}"
    if end == start:
        return f"it ends where it starts, at {unit.format(start)}"
    if video is None:
        duration = annotation.duration
        if duration is not None and not annotation.frames and max(start, end or 0) > duration:
            return (
                f"it ends at {end or start:g} s, past the end of the video at {duration:g} s as the file itself states"
            )
        return ""
    start, end = _times(annotation, video.fps)
    if end is not None and end > video.duration + SLACK:
        return f"it ends at {end:g} s, past the end of {video.video} at {video.duration:.2f} s"
    if start >= video.duration:
        return f"it starts at {start:g} s, past the end of {video.video} at {video.duration:.2f} s"
    return ""


def _interval(annotation: Annotation, video: VideoFile, labels: Mapping[str, str]) -> Interval:
    start, end = _times(annotation, video.fps)
    window = Window(start, video.duration if end is None else min(end, video.duration))
    label = labels.get(f"{annotation.level}:{annotation.label}", labels.get(annotation.label, annotation.label))
    return Interval(window, label, dict(annotation.attributes))
