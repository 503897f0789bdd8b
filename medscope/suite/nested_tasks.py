"""Tasks about nested annotations: what happens within what, which of two like intervals, in which order, or not at all.

An annotation is nested where its intervals say their `level`: phases are seen in the skim, what lies in them is not:
steps tile a phase, events lie in a step and carry attributes. A question is asked only where its words have one answer.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from medscope.records import Interval, Recording, Reference, Task, Text, Window
from medscope.sources.source import Language
from medscope.suite.tasks import GROUNDING, ORDER, make_task, too_long

FIND, WHICH, CHOOSE, FIRST = "find", "which", "choose", "first"
LEVEL, PHASE, STEP, EVENT, CAMERA = "level", "phase", "step", "event", "camera"
NONE = "none"  # the choice where nothing of it occurs
CHOICES = 4  # labels among which a question chooses, besides NONE


@dataclass(frozen=True)
class Phase:
    """A phase with the events in it. `number` counts the phases of the same label before it."""

    interval: Interval
    events: tuple[Interval, ...]
    number: int


def is_nested(recording: Recording) -> bool:
    """Whether the intervals of a recording say their level."""
    return any(LEVEL in interval.attributes for interval in recording.intervals)


def outline(recording: Recording) -> Recording:
    """The recording with its phases alone, as a flat annotation; a flat one as it is."""
    if not is_nested(recording):
        return recording
    return replace(recording, intervals=tuple(replace(phase, attributes={}) for phase in _of(recording, PHASE)))


def phases(recording: Recording) -> list[Phase]:
    """The phases of a recording in order."""
    found: list[Phase] = []
    for interval in _of(recording, PHASE):
        events = tuple(event for event in _of(recording, EVENT) if _overlap(event.window, interval.window))
        found.append(Phase(interval, events, sum(p.interval.label == interval.label for p in found)))
    return found


def nested_tasks(recording: Recording, language: Language, rng: np.random.Generator) -> list[Task]:
    """Every task that a nested annotation supports and the language can ask, phase by phase.

    `grounding` and `order` ask for a phase; `find` for an event or a step within a phase; attributes of an event are
    kinds of their own; `which` for that of two like phases that shows an event; `choose` for what occurs in a phase,
    or nothing; `first` for the earlier one of two events, among words that do not occur. `least_calls` counts a coarse
    look at every phase up to the right one, a closer look, and a frame for an attribute.
    """
    found = phases(recording)
    labels = [phase.interval.label for phase in found]
    everything = sorted({event.label for event in _of(recording, EVENT)} | set(language.options))
    maker = _Maker(recording, language, rng)
    for phase, follower in zip(found, [*found[1:], None], strict=True):
        label, once = phase.interval.label, labels.count(phase.interval.label) == 1
        instant = any(event.timestamp is not None for event in phase.events)
        if once and not instant:
            maker.add(GROUNDING, phase.interval.window, phase.interval, label, least=1)
            if follower:
                maker.add(ORDER, Text(follower.interval.label), phase.interval, label)
            for step in _plain_steps(recording, phase):
                maker.add(FIND, step.window, step, step.label, label, least=2)
        for event in phase.events:
            if sum(e.label == event.label for p in found if p.interval.label == label for e in p.events) > 1:
                continue
            looks = phase.number + 1
            if not instant:
                maker.add(FIND, event.window, event, event.label, label, least=looks + 1)
                if not once:
                    maker.add(WHICH, phase.interval.window, phase.interval, event.label, label, least=looks)
            for name, value in event.attributes.items():
                if name != LEVEL:
                    maker.add(name, Text(value), event, event.label, label, least=looks + 1 + (not instant))
        occurring = [event.label for event in phase.events]
        if once and len(occurring) <= 1:
            options = _options(occurring, everything, rng)
            evidence = phase.events[0] if occurring else phase.interval
            maker.add(CHOOSE, Text(*(occurring or [NONE])), evidence, "", label, options, least=1)
        if once and not instant and len(occurring) == 2:
            both = Window(phase.events[0].window.start, max(event.window.end for event in phase.events))
            options = _options(occurring, everything, rng)
            maker.add(FIRST, Text(occurring[0]), replace(phase.interval, window=both), "", label, options, least=1)
    return maker.tasks


class _Maker:
    """Numbers the tasks of a recording within each kind, and drops those without a template or with long evidence."""

    def __init__(self, recording: Recording, language: Language, rng: np.random.Generator):
        self.recording, self.language, self.rng = recording, language, rng
        self.tasks: list[Task] = []

    def add(
        self,
        kind: str,
        reference: Reference,
        shown: Interval,
        subject: str,
        within: str = "",
        options: Sequence[str] = (),
        least: int = 0,
    ) -> None:
        templates = self.language.templates.get(kind, ())
        if not templates or (too_long(shown.evidence, self.recording.duration) and least):
            return
        template = templates[int(self.rng.integers(len(templates)))]
        question = template.format(label=subject, within=within, options=", ".join(options))
        number = sum(task.kind == kind for task in self.tasks)
        task = make_task(
            self.recording, subject, kind, number, question, reference, shown.evidence, challenging=least > 0
        )
        self.tasks.append(replace(task, within=within, options=tuple(options), least_calls=least))


def _of(recording: Recording, level: str) -> list[Interval]:
    return [interval for interval in recording.intervals if interval.attributes.get(LEVEL) == level]


def _plain_steps(recording: Recording, phase: Phase) -> Iterator[Interval]:
    """The steps of a phase that come once in it and that nothing interrupts."""
    steps = [step for step in _of(recording, STEP) if _overlap(step.window, phase.interval.window)]
    others = [*phase.events, *_of(recording, CAMERA)]
    for step in steps:
        alone = sum(other.label == step.label for other in steps) == 1
        if len(steps) > 1 and alone and not any(_overlap(step.window, other.window) for other in others):
            yield step


def _options(occurring: Sequence[str], everything: Sequence[str], rng: np.random.Generator) -> tuple[str, ...]:
    others = [str(word) for word in rng.permutation([word for word in everything if word not in occurring])]
    return tuple(str(word) for word in rng.permutation([*occurring, *others[: CHOICES - len(occurring)]]))


def _overlap(a: Window, b: Window) -> bool:
    return min(a.end, b.end) > max(a.start, b.start)
