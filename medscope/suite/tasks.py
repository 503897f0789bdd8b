"""Step 2 of the suite, ClinVideo-QA: tasks with evidence from the annotations, and the checks that drop bad ones.

`grounding` asks for the window of a label, `order` for the label that follows. All other kinds of closed tasks are
named as the attribute that they ask for. `order` can be read off the skim, the others need a dense look.
"""

import re
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from medscope.metrics import evidence_window
from medscope.records import Evidence, Interval, Recording, Reference, Task, Text, Timestamp
from medscope.sources.source import TEMPLATES, Language

GROUNDING, ORDER = "grounding", "order"
MAX_EVIDENCE_SHARE, MAX_EVIDENCE_SECONDS = 0.7, 300.0


def closed_tasks(recording: Recording, language: Language, rng: np.random.Generator) -> list[Task]:
    """Every task that the annotation supports, the language can ask and the checks let pass, in timeline order.

    Raises ValueError for an attribute that has the name of one of the suite's own kinds.
    """
    found: list[Task] = []
    numbers: Counter[str] = Counter()
    for index, interval in enumerate(recording.intervals):
        follower = recording.intervals[index + 1] if index + 1 < len(recording.intervals) else None
        for kind, reference in _references(recording, interval, follower).items():
            if kind not in language.templates:
                continue
            question = ask(language, kind, interval, rng)
            task = make_task(recording, interval.label, kind, numbers[kind], question, reference, interval.evidence)
            if not rejections(task, recording, found):
                found.append(task)
                numbers[kind] += 1
    return found


def ask(language: Language, kind: str, interval: Interval, rng: np.random.Generator) -> str:
    """A question of a kind about an interval, in one of the templates."""
    templates = language.templates[kind]
    template = templates[int(rng.integers(len(templates)))]
    return template.format(label=interval.label, start=interval.window.start, end=interval.window.end)


def make_task(
    recording: Recording,
    subject: str,
    kind: str,
    number: int,
    question: str,
    reference: Reference,
    evidence: Evidence,
    challenging: bool | None = None,
    free_text: bool = False,
) -> Task:
    """The task of a kind with a number within video and kind, which make its id unique."""
    return Task(
        id=f"{recording.video}/{kind}/{number}",
        video=recording.video,
        path=recording.path,
        question=question,
        reference=reference,
        evidence=evidence,
        kind=kind,
        split=recording.split,
        collection=recording.collection,
        domain=recording.domain,
        subject=subject,
        challenging=kind != ORDER if challenging is None else challenging,
        free_text=free_text,
    )


def _references(recording: Recording, interval: Interval, follower: Interval | None) -> dict[str, Reference]:
    """What can be asked about an interval, by kind. One that is annotated by an instant has no window to ask for."""
    if reserved := sorted(set(interval.attributes) & set(TEMPLATES)):
        raise ValueError(f"{recording.video} has the attribute {reserved[0]!r}, which is a kind of task; rename it")
    references: dict[str, Reference] = {name: Text(value) for name, value in interval.attributes.items()}
    if interval.timestamp is None:
        references[GROUNDING] = interval.window
        if follower and follower.window.start >= interval.window.end:
            references[ORDER] = Text(follower.label)
    return references


def rejections(task: Task, recording: Recording, earlier: Sequence[Task]) -> list[str]:
    """The reasons to drop a task; none for a good one.

    Text: the question leaks its answer or its time, is answered by yes or no, is a duplicate. Digits of the label are
    no time. Video: the evidence must answer it and the rest of the video must not (the label comes once), and must be
    short enough.
    """
    answer = task.reference.text.lower() if isinstance(task.reference, Text) else None
    checks: dict[str, Callable[[], bool]] = {
        "leaks its answer": lambda: answer is not None and answer in task.question.lower(),
        "leaks its time": lambda: bool(re.search(r"\d", task.question.replace(task.subject, ""))),
        "trivial": lambda: answer in ("yes", "no"),
        "duplicate": lambda: any(task.question == other.question for other in earlier),
        "ambiguous": lambda: sum(i.label == task.subject for i in recording.intervals) != 1,
        "window too long": lambda: too_long(task.evidence, recording.duration),
    }
    return [reason for reason, holds in checks.items() if holds()]


def too_long(evidence: Evidence, duration: float) -> bool:
    """Whether evidence covers more than 70 % of the video or more than 300 s."""
    length = evidence_window(evidence).length
    limit = duration if isinstance(evidence, Timestamp) else MAX_EVIDENCE_SHARE * duration
    return length > min(limit, MAX_EVIDENCE_SECONDS)
