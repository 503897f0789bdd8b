"""SVU-31K's four tasks with free text as answer: a whole recording or a clip described, reasoning on time and on looks.

The whole and the order can be told from the skim; a clip and what a phase shows need a dense look. The teacher answers
each in the way that suits it, always with the tools at hand: when to look is part of what is learned.
"""

import numpy as np

from medscope.environment.dialogue import call_text
from medscope.records import Task, Recording, Segment, Window
from medscope.suite.captions import captions, describe
from medscope.suite.tasks import question_about
from medscope.suite.teachers.scripted import Teacher, storyline_thought

OPEN_KINDS = ("full", "fine", "temporal", "perception")
OPEN_FAMILIES = ("cataract", "laparoscopy")  # long videos; laparoscopy is asked out of domain
TEMPLATES: dict[str, tuple[str, ...]] = {
    "full": ("Describe the whole procedure.", "What happens in this video?"),
    "fine": ("Describe what happens from {start:g} to {end:g} s.", "What is shown from {start:g} to {end:g} s?"),
    "temporal": ("What comes before and after the {phase}?", "When in the course does the {phase} come?"),
    "perception": ("What can be seen during the {phase}?", "Describe the view during the {phase}."),
}


def open_questions(recording: Recording, rng: np.random.Generator) -> list[Task]:
    """One question of every kind: about the whole recording, and about segments drawn from its timeline.

    Temporal questions ask for a segment with one before and one after it. Evidence: the recording, or the segment.
    """
    segments = recording.segments
    found = []
    for kind in OPEN_KINDS:
        inner = kind == "temporal"
        index = int(rng.integers(inner, len(segments) - inner))
        segment = segments[index]
        window = Window(0, recording.duration) if kind == "full" else segment.window
        template = TEMPLATES[kind][int(rng.integers(len(TEMPLATES[kind])))]
        text = template.format(phase=segment.phase, start=window.start, end=window.end)
        found.append(question_about(recording, segment, kind, text, _reference(kind, recording, index), window))
    return found


def _reference(kind: str, recording: Recording, index: int) -> str:
    segment = recording.segments[index]
    if kind == "full":
        return captions(recording)[-1].text
    if kind == "fine":
        return describe(segment)
    if kind == "temporal":
        before, after = recording.segments[index - 1], recording.segments[index + 1]
        return f"first {before.phase}, then {segment.phase}, then {after.phase}"
    return view(segment)


def view(segment: Segment) -> str:
    """What a dense look at a segment shows, as a sentence: `the cannula is used with bubbles in view`."""
    return f"the {segment.instrument} is used" + (f" with {segment.complication} in view" * bool(segment.complication))


def open_turns(teacher: Teacher) -> list[str]:
    """The teacher's turns for an open question: one from the skim, or a dense look and what it showed."""
    question, window = teacher.question, teacher.question.evidence
    said = f"<think>{describe(teacher.segment)}</think><answer>{question.answer}</answer>"
    if question.kind == "full":
        whole = Window(teacher.anchors[0], teacher.anchors[-1])
        return [storyline_thought("all", teacher.story, whole, "answer") + f"<answer>{question.answer}</answer>"]
    if question.kind == "temporal":
        return [teacher.thought("answer") + f"<answer>{question.answer}</answer>"]
    if question.kind == "fine":
        thought = f"<think>find {window.start:g} {window.end:g} | look</think>"
        return [thought + call_text("crop_video", {"start_time": window.start, "end_time": window.end}), said]
    looked = teacher.window()
    call = call_text("crop_video", {"start_time": looked.start, "end_time": looked.end})
    return [teacher.thought("look") + call, said]
