"""How the tests of annotation formats read a text, and what they compare."""

from medscope.sources.annotations.annotation import Unreadable
from medscope.sources.annotations.formats import FORMATS


def read(name, text, file="video01", **settings):
    return list(FORMATS[name](text, file, **settings))


def brief(entries):
    return [(e.video, e.start, e.end, e.label) for e in entries]


def reasons(entries):
    return [f"{e.place}: {e.reason}" for e in entries if isinstance(e, Unreadable)]
