"""The annotation of the rendered world: an interval, and what only the program that draws it knows."""

from pydantic.dataclasses import dataclass

from medscope.records import Interval, Window


@dataclass(frozen=True)
class Scene(Interval):
    """An interval of a rendered recording, `shown` in these stretches: its attributes are drawn only there.

    A skim falls between the stretches. A record on disk is a plain `Interval`: `shown` is not written.
    """

    shown: tuple[Window, ...] = ()


def shown_in(interval: Interval) -> tuple[Window, ...]:
    """The stretches in which the attributes of an interval can be seen: all of it, where the source does not say."""
    return interval.shown if isinstance(interval, Scene) else (interval.window,)
