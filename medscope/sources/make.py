"""The sources that a parameter can name."""

import inspect
from collections.abc import Callable
from typing import Any

from medscope.sources.published import medvideocap, ophvl, surgvidlm
from medscope.sources.rendered.procedures import ProcedureSource
from medscope.sources.source import Source
from medscope.sources.videos import DicomSource, FolderSource, SegmentsSource

SOURCES: dict[str, Callable[..., Source]] = {
    "procedures": ProcedureSource,
    "folder": FolderSource,
    "dicom": DicomSource,
    "segments": SegmentsSource,
    "ophvl": ophvl,
    "medvideocap": medvideocap,
    "surgvidlm": surgvidlm,
}
DRAWN = ("procedures",)  # sources that draw their videos; the others find them


def make_source(name: str, **settings: Any) -> Source:
    """The source of this name with its settings. Raises ValueError for an unknown name or setting, with those known."""
    if name not in SOURCES:
        raise ValueError(f"source {name!r} is unknown; choose one of {', '.join(SOURCES)}")
    signature = inspect.signature(SOURCES[name])
    try:
        signature.bind(**settings)
    except TypeError as error:
        raise ValueError(f"source {name}: {error}; its settings are {', '.join(signature.parameters)}") from None
    return SOURCES[name](**settings)
