"""Published data sets as sources: `SegmentsSource` with their formats, and what is known to be wrong with them."""

from collections.abc import Mapping, Sequence
from typing import Any

from medscope.sources.annotations.documents import SVU_TAGS
from medscope.sources.videos import SegmentsSource

# Test videos of SVU-31K that its authors leave out of their own evaluation.
SVU_BROKEN = {name: "is broken, as the authors of SVU-31K say" for name in ("lt03enkeller002", "vd01en3812")}


def surgvidlm(
    *, levels: Sequence[str] = SVU_TAGS[:2], collection: str = "surgvidlm", **settings: Any
) -> SegmentsSource:
    """SVU-31K. `levels` are its tags: descriptions of clips and of whole videos, unless others are asked for."""
    return SegmentsSource(format="svu31k", levels=levels, excluded=SVU_BROKEN, collection=collection, **settings)


def ophvl(*, keys: Mapping[str, str], collection: str = "ophvl", **settings: Any) -> SegmentsSource:
    """OphVL: a CSV table of clips with their narration. Its columns are not published: `keys` names them."""
    return SegmentsSource(format="csv", keys=keys, collection=collection, **settings)


def medvideocap(*, keys: Mapping[str, str], collection: str = "medvideocap", **settings: Any) -> SegmentsSource:
    """MedVideoCap-55K: JSON of captions of whole videos. Its keys are not published: `keys` names them."""
    return SegmentsSource(format="jsonl", keys=keys, collection=collection, **settings)
