"""What a source of recordings is, and the words in which the suite asks about its annotations.

A source yields `Recording`s with labelled `Interval`s, ordered by their start. See docs/adding_a_source.md.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from medscope.records import Interval, Recording

# Question templates by kind, in plain words that fit any label. A source replaces those that it can say better.
TEMPLATES: dict[str, tuple[str, ...]] = {
    "grounding": ("When does the {label} take place?", "In which window is the {label} performed?"),
    "order": ("What comes right after the {label}?", "What follows the {label}?"),
    "find": ("When does the {label} occur during the {within}?", "In which seconds of the {within} is the {label}?"),
    "which": (
        "When is the {within} in which the {label} occurs?",
        "Which {within} shows the {label}, from when to when?",
    ),
    "choose": (
        "What occurs during the {within}: {options} or none?",
        "Which is seen in the {within}: {options} or none?",
    ),
    "first": ("Which comes first during the {within}: {options}?", "Which of {options} is the first of the {within}?"),
    "full": ("Describe the whole procedure.", "What happens in this video?"),
    "fine": ("Describe what happens from {start:g} to {end:g} s.", "What is shown from {start:g} to {end:g} s?"),
    "temporal": ("What comes before and after the {label}?", "When in the course does the {label} come?"),
    "perception": ("What can be seen during the {label}?", "Describe the view during the {label}."),
}


def describe(interval: Interval) -> str:
    """What a dense look at an interval shows: its label with the values of its attributes, joined by `and`."""
    details = " and ".join(interval.attributes.values())
    return f"{interval.label} with {details}" if details else interval.label


@dataclass(frozen=True)
class Language:
    """How the annotations of a source are put into words.

    `templates` are the questions by kind; one of a kind is drawn at random. They may hold `{label}`, those of `fine`
    `{start}` and `{end}` (s), those of nested annotations `{within}` and `{options}` (`options`: all labels among which
    a question may choose). The kind of a question about an attribute is the attribute's name. A kind or an attribute
    without a template is not asked for. `describe` captions an interval, `view` answers what can be seen during it.
    """

    templates: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: dict(TEMPLATES))
    describe: Callable[[Interval], str] = describe
    view: Callable[[Interval], str] = describe
    options: tuple[str, ...] = ()


class Source(Protocol):
    """Delivers recordings. It does not choose splits: it names those that are published, `suite.splits` the rest."""

    @property
    def language(self) -> Language: ...

    def recordings(self) -> Iterator[Recording]:
        """All recordings, each with its video file on disk, in an order that does not change from run to run."""
        ...
