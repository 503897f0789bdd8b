"""The sources that a parameter can name."""

from collections.abc import Callable
from typing import Any

from medscope.sources.published import medvideocap, ophvl, surgvidlm
from medscope.sources.rendered.source import RenderedSource
from medscope.sources.source import Source
from medscope.sources.videos import DicomSource, FolderSource, SegmentsSource

SOURCES: dict[str, Callable[..., Source]] = {
    "rendered": RenderedSource,
    "folder": FolderSource,
    "dicom": DicomSource,
    "segments": SegmentsSource,
    "ophvl": ophvl,
    "medvideocap": medvideocap,
    "surgvidlm": surgvidlm,
}


def make_source(name: str, **settings: Any) -> Source:
    """The source of this name with its settings. Raises ValueError that lists the names for an unknown one."""
    if name not in SOURCES:
        raise ValueError(f"source {name!r} is unknown; choose one of {', '.join(SOURCES)}")
    return SOURCES[name](**settings)
