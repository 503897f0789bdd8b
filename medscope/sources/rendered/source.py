"""The rendered world as a source: so many videos of every collection and split, drawn into a folder."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import ClassVar, get_args
from zlib import crc32

import numpy as np

from medscope.records import Recording, Split
from medscope.sources.rendered.drawings import code_of, draw_missing
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
        refuse("collections", self.collections, FAMILIES)
        refuse("out_of_domain", self.out_of_domain, self.collections)
        for name, counts in self.collections.items():
            refuse(f"collections.{name}", counts, SPLITS)

    def recordings(self) -> Iterator[Recording]:
        """The recordings split by split, in each the collections in their order. What is missing is drawn first."""
        recordings = [
            self._sample(family, split, index)
            for split in SPLITS
            for family, counts in self.collections.items()
            for index in range(counts.get(split, 0))
        ]
        made_from = f"{self.skim_frames} {_code()}"
        draw_missing(
            self.folder, recordings, partial(write_video, skim_frames=self.skim_frames), made_from, self.workers
        )
        yield from recordings

    def _sample(self, family: str, split: Split, index: int) -> Recording:
        video = f"{family}_{split}_{index:04d}"
        rng = np.random.default_rng([self.seed, crc32(f"{family}/{split}".encode()), index])
        path = Path(self.folder) / family / f"{video}.mp4"
        domain = "out" if family in self.out_of_domain else "in"
        return sample_recording(family, video, split, path, self.skim_frames, rng, domain)


@cache
def _code() -> str:
    return code_of("drawing.py", "looks.py", "world.py")


def refuse(
    where: str, given: Sequence[str] | Mapping[str, object], known: Sequence[str] | Mapping[str, object]
) -> None:
    """ValueError for a name that is not among the known ones."""
    unknown = [name for name in given if name not in known]
    if unknown:
        raise ValueError(f"{where}: {', '.join(unknown)} is unknown; the rendered world has {', '.join(known)}")
