"""Stage 2, ClinVideo-QA: questions with evidence from the captions, and the checks that throw bad ones away."""

import re
from collections.abc import Callable

import numpy as np

from medscope.environment.dialogue import window_text
from medscope.metrics import evidence_window
from medscope.records import Evidence, Timestamp, Task, Recording, Segment

TEMPLATES: dict[str, tuple[str, ...]] = {
    "grounding": ("When does the {phase} take place?", "In which window is the {phase} performed?"),
    "instrument": ("Which instrument is used during the {phase}?", "What is the tool of the {phase}?"),
    "complication": ("Which complication occurs during the {phase}?", "What goes wrong in the {phase}?"),
    "order": ("Which phase comes right after the {phase}?", "What follows the {phase}?"),
}
CHALLENGING = ("grounding", "instrument", "complication")  # need a dense look; `order` can be read off the skim
MAX_EVIDENCE_SHARE, MAX_EVIDENCE_SECONDS = 0.7, 300.0


def questions(recording: Recording, rng: np.random.Generator) -> list[Task]:
    """Every question that the timeline supports and the checks let pass, in timeline order."""
    found = []
    for index, segment in enumerate(recording.segments):
        follower = recording.segments[index + 1] if index + 1 < len(recording.segments) else None
        for kind, answer in _answers(segment, follower).items():
            template = TEMPLATES[kind][int(rng.integers(len(TEMPLATES[kind])))]
            text = template.format(phase=segment.phase)
            question = question_about(recording, segment, kind, text, answer, segment.evidence)
            if not rejections(question, recording, found):
                found.append(question)
    return found


def question_about(
    recording: Recording, segment: Segment, kind: str, text: str, answer: str, evidence: Evidence
) -> Task:
    """A question of a kind about a segment of a recording."""
    return Task(
        id=f"{recording.video}:{segment.phase}:{kind}",
        video=recording.video,
        family=recording.family,
        split=recording.split,
        kind=kind,
        phase=segment.phase,
        text=text,
        answer=answer,
        evidence=evidence,
    )


def _answers(segment: Segment, follower: Segment | None) -> dict[str, str]:
    answers = {"instrument": segment.instrument}
    if segment.complication:
        answers["complication"] = segment.complication
    if segment.moment is None:
        answers["grounding"] = window_text(segment.window)
        if follower:
            answers["order"] = follower.phase
    return answers


def rejections(question: Task, recording: Recording, earlier: list[Task]) -> list[str]:
    """The reasons to drop a question; none for a good one.

    Text: leaks its answer or its time, is answered by yes or no, is a duplicate. Video: the evidence must answer it and
    the rest of the video must not (the same answer in another segment under the same name), and must be short enough.
    """
    checks: dict[str, Callable[[], bool]] = {
        "leaks its answer": lambda: question.answer.lower() in question.text.lower(),
        "leaks its time": lambda: bool(re.search(r"\d", question.text)),
        "trivial": lambda: question.answer.lower() in ("yes", "no"),
        "duplicate": lambda: any(question.text == other.text for other in earlier),
        "ambiguous": lambda: sum(s.phase == question.phase for s in recording.segments) != 1,
        "window too long": lambda: too_long(question.evidence, recording.duration),
    }
    return [reason for reason, holds in checks.items() if holds()]


def too_long(evidence: Evidence, duration: float) -> bool:
    """Whether evidence covers more than 70 % of the video or more than 300 s."""
    length = evidence_window(evidence).length
    limit = duration if isinstance(evidence, Timestamp) else MAX_EVIDENCE_SHARE * duration
    return length > min(limit, MAX_EVIDENCE_SECONDS)
