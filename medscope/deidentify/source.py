"""A source whose recordings are copies that do not say whose they are: what notebook 01 builds a suite from.

The manifest and the quarantine of the originals lie in the private folder beside the map of names.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from medscope.deidentify.masks import read_devices
from medscope.deidentify.names import check_private
from medscope.deidentify.run import Outcome, Settings, make_copies
from medscope.deidentify.stretches import Annotations, place
from medscope.files import read_jsonl
from medscope.records import Recording
from medscope.sources.annotations.formats import read_annotations
from medscope.sources.dicom import is_dicom
from medscope.sources.folder import find_files
from medscope.sources.make import make_source
from medscope.sources.manifest import MANIFEST, Quarantined, VideoFile, check_share, write_manifest
from medscope.sources.source import Language
from medscope.sources.videos import FolderSource, SegmentsSource


@dataclass(frozen=True)
class DeidentifiedSource:
    """The recordings of `source` under random names and groups, their copies in `out`.

    `names`, `masks`, `circle` and `mask_labels` are those of `run.Settings`. `recordings` raises `QuarantineError` when
    more of the videos than the source's `max_quarantined` cannot be copied as asked.
    """

    source: FolderSource
    out: Path
    names: str | Path
    masks: str | Path | None = None
    circle: bool = False
    mask_labels: Sequence[str] = ()

    @property
    def language(self) -> Language:
        return self.source.language

    @property
    def quarantine(self) -> Path:
        """The private file of what `recordings` left out, and why."""
        return self.source.quarantine

    @property
    def settings(self) -> Settings:
        source = self.source
        stated = {}
        if isinstance(source, SegmentsSource):
            stated = {"annotations": Path(source.annotations), "format": source.format, "keys": source.keys}
        return Settings(
            folder=Path(source.folder).absolute(),
            out=Path(self.out).absolute(),
            names=Path(self.names).expanduser().absolute(),
            masks=Path(self.masks) if self.masks else None,
            circle=self.circle,
            mask_labels=tuple(self.mask_labels),
            **stated,
        )

    def recordings(self) -> Iterator[Recording]:
        settings = self.settings
        check_private(settings.names, settings.folder, settings.out)
        if settings.mask_labels and not settings.annotations:
            raise ValueError("mask_labels needs annotations that hold these labels (source: segments)")
        devices = read_devices(settings.masks) if settings.masks else []
        settings.make_private()
        originals = {recording.path: recording for recording in self.source.recordings()}
        videos = [video for video in read_jsonl(settings.private / MANIFEST, VideoFile) if video.path in originals]
        outcome = Outcome(found=len(videos))
        names = make_copies(videos, devices, self._annotations(settings, videos), settings, outcome)
        earlier = read_jsonl(self.quarantine, Quarantined)
        write_manifest(settings.private, videos, [*earlier, *outcome.quarantined])
        check_share(
            "videos to copy", len(outcome.quarantined), len(videos), self.source.max_quarantined, settings.private
        )
        made = {copy.stem for copies in outcome.copies.values() for copy in copies}
        for video in videos:
            row = names.rows[video.path]
            if row.name in made:
                copy = str(Path(self.out) / f"{row.name}.mp4")
                yield replace(originals[video.path], video=row.name, path=copy, group=row.group)

    def _annotations(self, settings: Settings, videos: Sequence[VideoFile]) -> Annotations:
        if not settings.annotations:
            return Annotations({}, {}, ())
        stated, unreadable = read_annotations(settings.annotations, settings.format or "", settings.keys)
        return place(stated, unreadable, videos, settings.mask_labels)


def deidentified(name: str, out: Path, names: str | Path, settings: dict[str, Any], **masks: Any) -> DeidentifiedSource:
    """The source of this name, de-identified: `settings` are its own, `masks` those of `DeidentifiedSource`.

    The MP4 forms of DICOM cines lie in the private folder, unless the settings name another one.
    """
    private = Settings(folder=Path(), out=Path(out), names=Path(names).expanduser().absolute()).private
    if "copies" not in settings and "folder" in settings and find_files(settings["folder"], is_dicom):
        settings = {**settings, "copies": private / "cines"}
    source = make_source(name, out=private, **settings)
    if not isinstance(source, FolderSource):
        raise ValueError(f"source {name} has no files of its own that could be copied; set deidentify to false")
    return DeidentifiedSource(source, Path(out), names, **masks)
