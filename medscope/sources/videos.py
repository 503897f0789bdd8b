"""Sources of recordings that lie on disk: a folder of videos, DICOM cines, and either with an annotation file.

All make the manifest first and yield what passed. `out` is the folder of `manifest.jsonl` and `quarantine.jsonl`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from medscope.records import Domain, Recording, Split
from medscope.sources.annotations.check import check
from medscope.sources.annotations.formats import check_format, read_annotations
from medscope.sources.dicom import find_cines
from medscope.sources.folder import find_videos
from medscope.sources.manifest import QUARANTINE, Found, check_limit, check_share, make_manifest, write_manifest
from medscope.sources.source import TEMPLATES, Language

MAX_QUARANTINED = 0.1  # share of the files, and of the annotations, that may be quarantined


@dataclass(frozen=True, kw_only=True)
class FolderSource:
    """The videos below `folder` (with `copies`: and DICOM cines), without annotations. `group_from`: see
    `folder.grouping`.

    `recordings` raises `QuarantineError` when more than the share `max_quarantined` of the files is no good, and
    ValueError when there are none.
    """

    folder: str | Path
    out: str | Path
    collection: str = "videos"
    domain: Domain = "in"
    group_from: str = "video"
    max_quarantined: float = MAX_QUARANTINED
    workers: int = 2
    copies: str | Path | None = None
    questions: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_limit(self.max_quarantined)

    @property
    def language(self) -> Language:
        """Plain words for any label; `questions` replaces templates, or adds those for attributes, by kind."""
        return Language({**TEMPLATES, **{kind: tuple(templates) for kind, templates in self.questions.items()}})

    @property
    def quarantine(self) -> Path:
        """The file of what `recordings` left out, and why."""
        return Path(self.out) / QUARANTINE

    def found(self) -> list[Found]:
        return find_all(self.folder, self.copies, self.group_from)

    def recordings(self) -> Iterator[Recording]:
        found = require(self.found(), self.folder)
        videos, quarantined = make_manifest(found, self.out, self.workers)
        write_manifest(self.out, videos, quarantined)
        check_share("files", len(quarantined), len(found), self.max_quarantined, self.out)
        for video in videos:
            yield Recording(
                video.video, video.path, video.duration, (), self.collection, self.domain, None, video.group
            )


@dataclass(frozen=True, kw_only=True)
class DicomSource(FolderSource):
    """The DICOM cines below `folder`, copied as MP4 files to `copies`. `group_from` may be `patient` too."""

    copies: str | Path
    group_from: str = "patient"

    def found(self) -> list[Found]:
        return find_cines(self.folder, self.copies, self.group_from)


@dataclass(frozen=True, kw_only=True)
class SegmentsSource(FolderSource):
    """Videos below `folder` (with `copies`: and DICOM cines) with the intervals that `annotations` states.

    `annotations` is a file of `format`, or a folder of them. `keys`, `labels`, `levels`, `excluded`: see
    `annotations.formats.read_annotations` and `annotations.check.check`. `splits` maps the published splits of the data
    set to ours (`{"test": "eval"}`). Videos without any interval are left out.
    """

    annotations: str | Path
    format: str
    keys: Mapping[str, str] | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    levels: Sequence[str] | None = None
    splits: Mapping[str, Split] = field(default_factory=dict)
    excluded: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_format(self.format)

    def recordings(self) -> Iterator[Recording]:
        stated, unreadable = read_annotations(self.annotations, self.format, self.keys)
        found = require(self.found(), self.folder)
        videos, bad = make_manifest(found, self.out, self.workers)
        checked = check(stated, videos, self.labels, self.levels, self.excluded)
        write_manifest(self.out, videos, [*bad, *unreadable, *checked.impossible, *checked.unknown])
        check_share("files", len(bad), len(found), self.max_quarantined, self.out)
        wrong, total = len(unreadable) + len(checked.impossible), len(unreadable) + checked.considered
        check_share("annotations", wrong, total, self.max_quarantined, self.out)
        if not checked.intervals:
            raise ValueError(
                f"none of the {total} annotations in {self.annotations} fits a video below {self.folder}; "
                f"see {Path(self.out) / QUARANTINE}"
            )
        for video in videos:
            if video.video in checked.intervals:
                split = self.splits.get(checked.splits.get(video.video, ""))
                yield Recording(
                    video.video,
                    video.path,
                    video.duration,
                    checked.intervals[video.video],
                    self.collection,
                    self.domain,
                    split,
                    video.group,
                )


def find_all(folder: str | Path, copies: str | Path | None, group_from: str) -> list[Found]:
    """The videos below `folder`, and with `copies` its DICOM cines behind them."""
    videos = find_videos(folder, "video" if group_from == "patient" else group_from)
    if copies is None:
        return videos
    taken = {file.video for file in videos}
    cines = find_cines(folder, copies, group_from)
    return videos + [replace(file, video=f"{file.video}.dcm") if file.video in taken else file for file in cines]


def require(found: list[Found], folder: str | Path) -> list[Found]:
    """The files, refused where there are none."""
    if not found:
        raise ValueError(f"{Path(folder).absolute()} holds no video; look at the suffixes of its files")
    return found
