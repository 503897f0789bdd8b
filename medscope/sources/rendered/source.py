"""The rendered world as a source: so many videos of every collection and split, drawn into a folder."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache, partial
from hashlib import sha256
from multiprocessing import get_context
from pathlib import Path
from typing import ClassVar, get_args
from zlib import crc32

import numpy as np
from tqdm import tqdm

from medscope.records import Recording, Split
from medscope.sources.rendered import drawing, looks, world
from medscope.sources.rendered.language import LANGUAGE
from medscope.sources.rendered.world import FAMILIES, sample_recording, write_video
from medscope.sources.source import Language

SPLITS: tuple[Split, ...] = get_args(Split)


@dataclass(frozen=True)
class RenderedSource:
    """`collections[family][split]` videos, below `folder`. A collection is named as the family that it is drawn from.

    Each video depends on seed, family, split and its index alone, so the counts may grow later. A file is kept if it
    was drawn from the same annotation by the same code, which `.drawn.txt` beside the videos remembers; else it is
    drawn anew. `workers` processes draw. Raises ValueError for an unknown family or split.
    """

    folder: str | Path
    collections: Mapping[str, Mapping[Split, int]]
    out_of_domain: Sequence[str]
    skim_frames: int
    seed: int
    workers: int = 1
    language: ClassVar[Language] = LANGUAGE

    def __post_init__(self) -> None:
        _refuse("collections", self.collections, FAMILIES)
        _refuse("out_of_domain", self.out_of_domain, self.collections)
        for name, counts in self.collections.items():
            _refuse(f"collections.{name}", counts, SPLITS)

    def recordings(self) -> Iterator[Recording]:
        """The recordings split by split, in each the collections in their order. What is missing is drawn first."""
        recordings = [
            self._sample(family, split, index)
            for split in SPLITS
            for family, counts in self.collections.items()
            for index in range(counts.get(split, 0))
        ]
        drawn = self._drawn()
        self._write([r for r in recordings if drawn.get(r.video) != self._key(r) or not Path(r.path).exists()])
        yield from recordings

    @property
    def _memory(self) -> Path:
        """One line per drawn video; DVC does not see it (.dvcignore)."""
        return Path(self.folder) / ".drawn.txt"

    def _drawn(self) -> dict[str, str]:
        """Video -> key of what it was drawn from. A line that a kill cut off is left out: that video is drawn again."""
        lines = self._memory.read_text().splitlines() if self._memory.exists() else []
        return dict(line.split(" ") for line in lines if line.count(" ") == 1)

    def _key(self, recording: Recording) -> str:
        """The annotation (scenes and times), the skim that must not see the details, and the code that draws."""
        return sha256(f"{recording} {self.skim_frames} {_code()}".encode()).hexdigest()

    def _sample(self, family: str, split: Split, index: int) -> Recording:
        video = f"{family}_{split}_{index:04d}"
        rng = np.random.default_rng([self.seed, crc32(f"{family}/{split}".encode()), index])
        path = Path(self.folder) / family / f"{video}.mp4"
        domain = "out" if family in self.out_of_domain else "in"
        return sample_recording(family, video, split, path, self.skim_frames, rng, domain)

    def _write(self, missing: list[Recording]) -> None:
        keys = {recording.path: f"{recording.video} {self._key(recording)}\n" for recording in missing}
        self._memory.parent.mkdir(parents=True, exist_ok=True)
        draw = partial(_draw, skim_frames=self.skim_frames)
        with (
            get_context("spawn").Pool(self.workers) if self.workers > 1 and missing else nullcontext() as pool,
            self._memory.open("a") as memory,
        ):
            paths = pool.imap_unordered(draw, missing) if pool else map(draw, missing)
            for path in tqdm(paths, desc="render", total=len(missing), unit="video", disable=not missing):
                memory.write(keys[path])
                memory.flush()


def _draw(recording: Recording, skim_frames: int) -> str:
    """Write the file of a recording; returns its path."""
    write_video(recording, skim_frames)
    return recording.path


@cache
def _code() -> str:
    """A hash of the modules that decide what a file looks like."""
    return sha256(b"".join(Path(module.__file__).read_bytes() for module in (drawing, looks, world))).hexdigest()


def _refuse(
    where: str, given: Sequence[str] | Mapping[str, object], known: Sequence[str] | Mapping[str, object]
) -> None:
    """ValueError for a name that is not among the known ones."""
    unknown = [name for name in given if name not in known]
    if unknown:
        raise ValueError(f"{where}: {', '.join(unknown)} is unknown; the rendered world has {', '.join(known)}")
