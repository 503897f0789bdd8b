"""The manifest: every video looked at once, with what later stages need, and every bad file with its reason.

`manifest.jsonl` holds a `VideoFile` a line, `quarantine.jsonl` a `Quarantined` a line. A file whose path, size and time
of change are those of the last run is not read again. A run that is killed goes on where it stopped: finished videos
lie in `manifest.partial.jsonl` until the end.
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from pydantic import Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass
from tqdm import tqdm

from medscope.environment import VideoError
from medscope.files import write_jsonl
from medscope.records import Seconds
from medscope.sources.probe import probe

MANIFEST, QUARANTINE, PARTIAL = "manifest.jsonl", "quarantine.jsonl", "manifest.partial.jsonl"


@dataclass(frozen=True)
class VideoFile:
    """A video that can be read. `video` is its name in the project, `path` its file.

    `duration` (s) and `fps` (mean) are those of `environment.open_video`, `width` and `height` (pixels) those of a
    frame as it is shown. `group` is the patient or procedure. `key_frames` are the times (s) from which a decoder can
    start. `bytes` and `modified` (ns) tell whether the file has changed since.
    """

    video: str
    path: str
    duration: Seconds
    fps: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    width: Annotated[int, Field(gt=0)]
    height: Annotated[int, Field(gt=0)]
    codec: str
    sha256: str
    group: str
    key_frames: tuple[Seconds, ...]
    bytes: int
    modified: int


@dataclass(frozen=True)
class Quarantined:
    """A file, or one entry of an annotation file, that is left out, and why. `reason` names the entry and its value."""

    path: str
    reason: str


@dataclass(frozen=True)
class Found:
    """A file that a source has found: the name and the group of its video, or why it is left out."""

    video: str
    path: str
    group: str = ""
    problem: str = ""


class QuarantineError(ValueError):
    """More was quarantined than the run allows."""


def make_manifest(
    found: Sequence[Found], out: str | Path, workers: int = 2
) -> tuple[list[VideoFile], list[Quarantined]]:
    """Probe what the last run does not know, in `workers` threads. Both lists are in the order of `found`.

    Of files with the same content the first is kept. The caller writes both lists with `write_manifest`.
    """
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    known = {video.path: video for name in (MANIFEST, PARTIAL) for video in _read_known(out / name)}
    good = [file for file in found if not file.problem]
    probed = {file.path: known[file.path] for file in good if _unchanged(file.path, known.get(file.path))}
    results: dict[str, VideoFile | Quarantined] = dict(probed)
    missing = [file for file in good if file.path not in probed]
    with (out / PARTIAL).open("a") as partial:
        for file, result in _probe_all(missing, workers):
            results[file.path] = result
            if isinstance(result, VideoFile):
                partial.write("\n" + TypeAdapter(VideoFile).dump_json(result).decode())
                partial.flush()
    return _sort_out(found, results)


def write_manifest(out: str | Path, videos: Iterable[VideoFile], quarantined: Iterable[Quarantined]) -> None:
    """Write `manifest.jsonl` and `quarantine.jsonl` and drop the partial file."""
    write_jsonl(Path(out) / MANIFEST, videos)
    write_jsonl(Path(out) / QUARANTINE, quarantined)
    (Path(out) / PARTIAL).unlink(missing_ok=True)


def check_limit(most: float) -> None:
    """Raise ValueError when `max_quarantined` is no share."""
    if not 0 <= most <= 1:
        raise ValueError(f"max_quarantined is {most}; it is a share between 0 and 1")


def check_share(what: str, quarantined: int, total: int, most: float, out: str | Path) -> None:
    """Raise `QuarantineError` when more than the share `most` (0 to 1) of `total` is quarantined."""
    if total and quarantined > most * total:
        raise QuarantineError(
            f"{quarantined} of {total} {what} are quarantined ({quarantined / total:.1%}), more than max_quarantined "
            f"({most:.1%}) allows; the reasons are in {Path(out) / QUARANTINE}. Mend them or raise max_quarantined"
        )


def printable(path: str | Path) -> str:
    """A path as text that can be written as UTF-8, whatever bytes the file system holds."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _read_known(path: Path) -> Iterator[VideoFile]:
    """Records of an earlier run. Lines that a kill cut short, or of an older form, are probed again."""
    if not path.exists():
        return
    for line in path.read_text(errors="replace").splitlines():
        try:
            yield TypeAdapter(VideoFile).validate_json(line)
        except ValidationError:
            continue


def _unchanged(path: str, known: VideoFile | None) -> bool:
    if known is None or not os.path.isfile(path):
        return False
    state = os.stat(path)
    return (known.bytes, known.modified) == (state.st_size, state.st_mtime_ns)


def _probe_all(files: list[Found], workers: int) -> Iterator[tuple[Found, VideoFile | Quarantined]]:
    with ThreadPoolExecutor(max(1, workers)) as pool:
        running = {pool.submit(_probe, file): file for file in files}
        bar = tqdm(as_completed(running), desc="probe", total=len(files), unit="video", disable=not files)
        for future in bar:
            yield running[future], future.result()


def _probe(file: Found) -> VideoFile | Quarantined:
    try:
        state = os.stat(file.path) if os.path.exists(file.path) else None
        seen = probe(file.path)
    except (VideoError, OSError) as error:
        return Quarantined(file.path, str(error))
    return VideoFile(
        video=file.video,
        path=file.path,
        group=file.group,
        bytes=state.st_size,
        modified=state.st_mtime_ns,
        **seen,
    )


def _sort_out(
    found: Sequence[Found], results: Mapping[str, VideoFile | Quarantined]
) -> tuple[list[VideoFile], list[Quarantined]]:
    """Both lists in the order of `found`; duplicates by content, and files with a problem, are quarantined."""
    videos: list[VideoFile] = []
    quarantined: list[Quarantined] = []
    first: dict[str, str] = {}
    for file in found:
        result = Quarantined(printable(file.path), file.problem) if file.problem else results[file.path]
        if isinstance(result, VideoFile) and result.sha256 in first:
            result = Quarantined(file.path, f"{file.path}: the same bytes as {first[result.sha256]}; that one is kept")
        if isinstance(result, Quarantined):
            quarantined.append(result)
            continue
        first[result.sha256] = file.path
        videos.append(replace(result, video=file.video, group=file.group))
    return videos, quarantined
