"""A folder of recordings to a folder of copies that do not say whose they are.

`out` gets the copies (random names), `groups.csv` (video, group: `map:OUT/groups.csv` for `group_from`) and, with
annotations, `annotations.csv`. What ties them to the originals stays with the CSV file of names: the manifest, the
quarantine and the contact sheets lie in a folder beside it that only its owner can enter.
"""

import csv
import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import av
from tqdm import tqdm

from medscope.deidentify.circle import find_circle
from medscope.deidentify.copying import CopyError, copy_video, is_disk_full
from medscope.deidentify.masks import Device, Mask, device_of, read_devices
from medscope.deidentify.names import NameMap, check_private
from medscope.deidentify.sheets import write_sheet
from medscope.deidentify.stretches import Annotations, place, write_annotations
from medscope.sources.annotations.formats import read_annotations
from medscope.sources.dicom import is_dicom
from medscope.sources.folder import find_files
from medscope.sources.manifest import Quarantined, VideoFile, make_manifest, write_manifest
from medscope.sources.videos import find_all, require

VERSION = 1  # of the way in which copies are made: another one makes them anew


@dataclass(frozen=True, kw_only=True)
class Settings:
    """`folder`: the originals. `out`: the copies. `names`: the private CSV file. The rest: what is made black.

    `masks` is the file of devices. `circle` looks for the endoscope's circle in all videos whose device gives none.
    `mask_labels` are those of `annotations` (of `format`) whose stretches are made black. `group_from`: see
    `sources.folder.grouping`; `patient` for DICOM files.
    """

    folder: Path
    out: Path
    names: Path
    masks: Path | None = None
    circle: bool = False
    annotations: Path | None = None
    format: str | None = None
    keys: dict[str, str] | None = None
    mask_labels: tuple[str, ...] = ()
    group_from: str = "video"
    workers: int = 2

    @property
    def private(self) -> Path:
        """The folder beside the map of names."""
        return self.names.with_name(f"{self.names.stem}_private")

    def make_private(self) -> None:
        """Create that folder, for its owner alone."""
        self.private.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.private.chmod(0o700)


@dataclass
class Outcome:
    """What a run did. `copies` are all good copies of `folder` by device, `made` says how new ones were made."""

    found: int = 0
    made: dict[str, str] = field(default_factory=dict)
    kept: int = 0
    orphans: int = 0
    copies: dict[str, list[Path]] = field(default_factory=dict)
    without_circle: list[str] = field(default_factory=list)
    quarantined: list[Quarantined] = field(default_factory=list)
    annotations: int = 0
    sheets: list[Path] = field(default_factory=list)


@dataclass(frozen=True)
class _Job:
    """A video, its device, and what is made black in it. `circle`: it is yet to be looked for."""

    video: VideoFile
    device: str
    mask: Mask
    circle: bool

    @property
    def recipe(self) -> str:
        """What the copy depends on, as one short word."""
        parts = [VERSION, self.video.sha256, asdict(self.mask), self.circle]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def deidentify(settings: Settings) -> Outcome:
    """Copy every readable video below `folder`. A second run copies what is new or is to be masked differently.

    Raises ValueError and FileNotFoundError, with the fix, before anything is copied.
    """
    check_private(settings.names, settings.folder, settings.out)
    devices = read_devices(settings.masks) if settings.masks else []
    stated, unreadable = [], []
    if settings.annotations:
        stated, unreadable = read_annotations(settings.annotations, settings.format or "", settings.keys)
    settings.make_private()
    found = require(find_all(settings.folder, _cines(settings), settings.group_from), settings.folder)
    videos, bad = make_manifest(found, settings.private, settings.workers)
    write_manifest(settings.private, videos, bad)
    annotations = place(stated, unreadable, videos, settings.mask_labels)
    outcome = Outcome(found=len(found), quarantined=[*bad, *annotations.quarantined])
    make_copies(videos, devices, annotations, settings, outcome)
    write_manifest(settings.private, videos, outcome.quarantined)
    return outcome


def make_copies(
    videos: Sequence[VideoFile],
    devices: Sequence[Device],
    annotations: Annotations,
    settings: Settings,
    outcome: Outcome,
) -> NameMap:
    """Copy the videos to `settings.out`, with the tables and contact sheets of the copies; adds to `outcome`."""
    jobs = _jobs(videos, devices, annotations, settings, outcome)
    names = NameMap(settings.names)
    names.assign((video.path, video.group) for video in videos)
    settings.out.mkdir(parents=True, exist_ok=True)
    outcome.orphans = _drop_outdated(jobs, names, settings)
    _copy_all(jobs, names, settings.out, outcome)
    _write_tables(jobs, names, annotations, settings, outcome)
    return names


def _cines(settings: Settings) -> Path | None:
    """Where DICOM cines are written as MP4 files first: pydicom is needed only where there are any."""
    return settings.private / "cines" if find_files(settings.folder, is_dicom) else None


def _jobs(
    videos: Sequence[VideoFile],
    devices: Sequence[Device],
    annotations: Annotations,
    settings: Settings,
    outcome: Outcome,
) -> list[_Job]:
    """The videos that can be copied as asked; the others are quarantined: nothing is copied with less masked."""
    jobs = []
    for video in videos:
        device = Device(f"{video.width}x{video.height}", ("*",))
        try:
            if devices:
                device = device_of(devices, video.video)
                device.check(video.width, video.height)
            if settings.mask_labels and video.video not in annotations.intervals:
                raise ValueError(f"{settings.annotations} says nothing of it, so what is to be black is not known")
        except ValueError as error:
            outcome.quarantined.append(Quarantined(video.path, f"{video.path}: {error}"))
            continue
        circle = None if isinstance(device.circle, bool) else device.circle
        mask = Mask(device.rectangles, circle, annotations.hidden.get(video.video, ()))
        jobs.append(_Job(video, device.name, mask, circle is None and (settings.circle or device.circle is True)))
    return jobs


def _drop_outdated(jobs: Sequence[_Job], names: NameMap, settings: Settings) -> int:
    """Remove copies made with other settings, and halves of copies: what lies in `out` is masked as asked.

    Returns the number of copies that cannot be compared because their original is gone; they stay.
    """
    recipes = {job.video.path: job.recipe for job in jobs}
    orphans = 0
    for row in names.rows.values():
        if not any(Path(row.path).is_relative_to(place) for place in (settings.folder, settings.private)):
            continue  # of another folder
        copy = settings.out / f"{row.name}.mp4"
        copy.with_name(f"{copy.name}.part").unlink(missing_ok=True)
        if not Path(row.path).exists():
            orphans += copy.exists()
        elif row.recipe != recipes.get(row.path):
            copy.unlink(missing_ok=True)
    return orphans


def _copy_all(jobs: Sequence[_Job], names: NameMap, out: Path, outcome: Outcome) -> None:
    missing = [job for job in jobs if not (out / f"{names.rows[job.video.path].name}.mp4").exists()]
    outcome.kept = len(jobs) - len(missing)
    failed = set()
    bar = tqdm(
        total=round(sum(job.video.duration for job in missing)), desc="copy", unit="s of video", disable=not missing
    )
    with bar:
        done = 0.0
        for job in missing:
            row = names.rows[job.video.path]
            base = done
            try:
                mask = job.mask
                if job.circle:
                    mask = replace(mask, circle=find_circle(job.video.path))
                    outcome.without_circle += [] if mask.circle else [row.name]
                how = copy_video(
                    job.video.path, out / f"{row.name}.mp4", mask, lambda s, base=base: _show(bar, base + s)
                )
            except (CopyError, av.FFmpegError, EOFError, ValueError) as error:
                if is_disk_full(error):
                    raise
                reason = " ".join(str(error).split())[:300] or type(error).__name__
                outcome.quarantined.append(Quarantined(job.video.path, f"{job.video.path}: {reason}"))
                failed.add(job.video.path)
            else:
                names.finish(job.video.path, job.recipe)
                outcome.made[row.name] = how
            done += job.video.duration
            _show(bar, done)
    for job in jobs:
        if job.video.path not in failed:
            outcome.copies.setdefault(job.device, []).append(out / f"{names.rows[job.video.path].name}.mp4")


def _show(bar: tqdm, seconds: float) -> None:
    bar.update(min(max(0, round(seconds) - bar.n), bar.total - bar.n))


def _write_tables(
    jobs: Sequence[_Job], names: NameMap, annotations: Annotations, settings: Settings, outcome: Outcome
) -> None:
    """Groups and annotations under the new names, in `out`; the sheets of pictures in the private folder."""
    part = settings.out / "groups.csv.part"
    with part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["video", "group"])
        rows = sorted((row.name, row.group) for row in names.rows.values())
        writer.writerows(row for row in rows if (settings.out / f"{row[0]}.mp4").exists())
    part.replace(settings.out / "groups.csv")
    made = {copy.stem for copies in outcome.copies.values() for copy in copies}
    if settings.annotations:
        renamed = {job.video.video: names.rows[job.video.path].name for job in jobs}
        renamed = {video: name for video, name in renamed.items() if name in made}
        write_annotations(settings.out / "annotations.csv", annotations.intervals, renamed)
        outcome.annotations = sum(len(annotations.intervals.get(video, ())) for video in renamed)
    for device, copies in tqdm(outcome.copies.items(), desc="contact sheets", unit="device"):
        outcome.sheets.append(settings.private / "contact_sheets" / f"{device}.png")
        write_sheet(outcome.sheets[-1], device, sorted(copies))
