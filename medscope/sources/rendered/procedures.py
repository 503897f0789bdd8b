"""Rendered procedures as a source: nested timelines in five views, so many videos of every collection and split.

Setting `rho`: P(the preferred instrument of a phase | phase); .2 where the two are independent. See `collections`.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import ClassVar, get_args
from zlib import crc32

import numpy as np

from medscope.records import Recording, Split
from medscope.sources.rendered.camera import write_video
from medscope.sources.rendered.collections import COLLECTIONS, sample_recording
from medscope.sources.rendered.drawings import code_of, draw_missing
from medscope.sources.rendered.questions import LANGUAGE
from medscope.sources.source import Language

SPLITS: tuple[Split, ...] = get_args(Split)


@dataclass(frozen=True)
class ProcedureSource:
    """`collections[name][split]` videos, below `folder`, drawn by `workers` processes.

    Each video depends on seed, collection, split and its index alone, so the counts may grow later. A file that was
    drawn from another annotation or by other code is drawn anew. Raises ValueError for an unknown collection or split.
    """

    folder: str | Path
    collections: Mapping[str, Mapping[Split, int]]
    skim_frames: int
    seed: int
    rho: float = 0.2
    workers: int = 1
    language: ClassVar[Language] = LANGUAGE

    def __post_init__(self) -> None:
        _refuse("collections", self.collections, COLLECTIONS)
        for name, counts in self.collections.items():
            _refuse(f"collections.{name}", counts, SPLITS)

    def recordings(self) -> Iterator[Recording]:
        """The recordings split by split, in each the collections in their order. What is missing is drawn first."""
        recordings = [
            self._sample(name, split, index)
            for split in SPLITS
            for name, counts in self.collections.items()
            for index in range(counts.get(split, 0))
        ]
        draw_missing(self.folder, recordings, write_video, _code(), self.workers)
        yield from recordings

    def _sample(self, name: str, split: Split, index: int) -> Recording:
        video = f"{name}_{split}_{index:04d}"
        rng = np.random.default_rng([self.seed, crc32(f"{name}/{split}".encode()), index])
        path = Path(self.folder) / name / f"{video}.mp4"
        return sample_recording(name, video, split, path, self.skim_frames, self.rho, rng)


@cache
def _code() -> str:
    return code_of("camera.py", "collections.py", "timeline.py", "words.py", "painters/*.py")


def _refuse(where: str, given: Collection[str], known: Collection[str]) -> None:
    """ValueError for a name that is not among the known ones."""
    unknown = [name for name in given if name not in known]
    if unknown:
        raise ValueError(f"{where}: {', '.join(unknown)} is unknown; the rendered world has {', '.join(known)}")
