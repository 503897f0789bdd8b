"""Windows that a reader has corrected, as annotations: generic CSV and JSONL of all videos, WebVTT of each.

The files are those that `medscope.sources.annotations` reads: give the folder to a source, in the format csv, jsonl or
webvtt. A cue of WebVTT has the id of its task, by which `annotations.review.corrected` finds the task again.
"""

import csv
import fcntl
import io
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from medscope.sources.annotations.annotation import Annotation, Entry
from medscope.sources.annotations.formats import FORMATS, read_annotations
from medscope.sources.annotations.subtitles import write_webvtt
from medscope.sources.annotations.tables import KEYS
from medscope.sources.folder import without_suffix

CSV, JSONL, WEBVTT = "corrections.csv", "corrections.jsonl", "webvtt"
LOCK = ".lock"  # an empty file that says who writes


def correction(video: str, start: float, end: float, label: str, task_id: str = "") -> Annotation:
    """A corrected window, to the millisecond. Raises ValueError where it is none, or has no label."""
    start, end, label = round(start, 3), round(end, 3), " ".join(label.split())
    if not 0 <= start < end:
        raise ValueError(f"the window goes from {start:g} to {end:g} s; its end must lie behind its start")
    if not label:
        raise ValueError("the label is empty; say what is seen in the window")
    return Annotation(video, start, end, label, "", id=task_id)


def save_correction(folder: Path, made: Annotation, before: Annotation | None = None) -> list[Path]:
    """Add an annotation to the files of a folder, in the place of the one saved `before`; the files, as written.

    Every file is written whole or not at all, and one save waits for another one's end, so that two kernels lose
    nothing. Raises ValueError that names a file which a reader of annotations cannot read, and for a name or label that
    it would not give back: nothing is written then. Raises OSError where the folder cannot be written or locked.
    """
    cues = folder / WEBVTT / f"{_safe(without_suffix(made.video))}.vtt"
    files = {cues: ("webvtt", write_webvtt), folder / CSV: ("csv", _csv), folder / JSONL: ("jsonl", _jsonl)}
    with _locked(folder):
        written = {file: write(_added(_read(file, kind), made, before)) for file, (kind, write) in files.items()}
        for file, text in written.items():
            _check(file, FORMATS[files[file][0]](text, file.stem), made)
        for file, text in written.items():
            file.parent.mkdir(parents=True, exist_ok=True)
            with _part(file).open("w", encoding="utf-8", newline="") as part:
                part.write(text)
                part.flush()
                os.fsync(part.fileno())
        for file in written:
            _part(file).replace(file)
    return list(written)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One process at a time; the lock ends with its process, however that ends."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _part(file: Path) -> Path:
    return file.with_name(file.name + ".part")


def _safe(name: str) -> str:
    """A name as a relative path that stays in its folder."""
    parts = [part for part in PurePosixPath(name.replace("\\", "/")).parts if part not in ("/", "..", ".")]
    return PurePosixPath(*parts).as_posix() if parts else "video"


def _read(file: Path, kind: str) -> list[Annotation]:
    if not file.exists():
        return []
    stated, unreadable = read_annotations(file, kind)
    if unreadable:
        raise ValueError(f"{file}: {unreadable[0].reason}; mend it, nothing was saved")
    return [item.annotation for item in stated]


def _check(file: Path, entries: Iterable[Entry], made: Annotation) -> None:
    """What is to be written is what will be read."""
    found = list(entries)
    stretches = [(one.start, one.end, one.label) for one in found if isinstance(one, Annotation)]
    if len(stretches) < len(found) or (made.start, made.end, made.label) not in stretches:
        raise ValueError(f"{file.name} cannot hold the label {made.label!r} of the video {made.video!r}; change them")


def _added(known: Sequence[Annotation], made: Annotation, before: Annotation | None) -> list[Annotation]:
    """Without the earlier one, and not twice, where a save stopped half-way."""
    replaced = [_stretch(one) for one in (made, before) if one is not None]
    return [*(one for one in known if _stretch(one) not in replaced), made]


def _stretch(annotation: Annotation) -> tuple[str, float, float | None, str]:
    """What tells annotations apart in every format; the name of a WebVTT file has no folder."""
    bare = PurePosixPath(without_suffix(annotation.video)).name
    return bare, annotation.start, annotation.end, annotation.label


def _csv(annotations: Sequence[Annotation]) -> str:
    """Columns of the reader's keys, then one for every attribute that a reader has added by hand."""
    others = sorted({name for annotation in annotations for name in annotation.attributes})
    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, [*KEYS.values(), *others], restval="")
    writer.writeheader()
    writer.writerows(map(_row, annotations))
    return file.getvalue()


def _jsonl(annotations: Sequence[Annotation]) -> str:
    return "".join(json.dumps(_row(annotation)) + "\n" for annotation in annotations)


def _row(annotation: Annotation) -> dict[str, str | float | None]:
    return {
        "video": annotation.video,
        "start": annotation.start,
        "end": annotation.end,
        "label": annotation.label,
        **annotation.attributes,
    }
