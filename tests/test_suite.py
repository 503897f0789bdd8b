"""ClinVideoSuite on a rendered operation and a rendered clip: captions, questions and warm-up lessons."""

from collections import Counter
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from medscope.dialogue import is_well_formed, parse_answer, parse_window, window_text
from medscope.metrics import evidence_window
from medscope.records import Caption, Moment, Window
from medscope.suite.captions import captions, describe, storyline
from medscope.suite.questions import questions, rejections, too_long
from medscope.suite.warm_up import lesson_blocks, make_lessons
from medscope.tools import skim_seconds


def ask(recording):
    return questions(recording, np.random.default_rng(0))


def of_kind(recording, kind, phase=None):
    return next(q for q in ask(recording) if q.kind == kind and q.phase == (phase or q.phase))


def test_captions_tell_every_segment_and_the_storyline(operation):
    told = captions(operation)
    first = operation.segments[0]
    assert told[0] == Caption(
        operation.video, first.window, f"incision with {first.instrument} and {first.complication}"
    )
    assert [caption.window for caption in told[:-1]] == [segment.window for segment in operation.segments]
    assert told[-1].window == Window(0, operation.duration)
    assert told[-1].text.split(", then ") == [segment.phase for segment in operation.segments]
    assert describe(replace(first, complication=None)) == f"incision with {first.instrument}"


def test_the_storyline_of_a_skim_tells_what_its_seconds_see(operation):
    assert storyline(operation, [0, 13, 14, 77, 80], 90.4) == [
        ("incision", 0),
        ("viscoelastic", 14),
        ("hydrodissection", 77),
        ("end", 90),
    ]


def test_questions_carry_the_answer_and_the_evidence_of_their_segment(recording):
    asked = ask(recording)
    following = {a.phase: b.phase for a, b in pairwise(recording.segments)}
    for question in asked:
        segment = next(s for s in recording.segments if s.phase == question.phase)
        answers = {
            "grounding": window_text(segment.window),
            "instrument": segment.instrument,
            "complication": segment.complication,
            "order": following.get(segment.phase),
        }
        assert question.answer == answers[question.kind] and question.phase in question.text
        assert question.evidence == segment.evidence
        assert evidence_window(question.evidence).end <= recording.duration
        assert (question.video, question.split) == (recording.video, "sft")
        assert rejections(question, recording, []) == []
    assert len({question.id for question in asked}) == len(asked)


def test_operations_are_asked_for_windows_and_clips_for_moments(operation, clip):
    assert Counter(q.kind for q in ask(operation)) == {"instrument": 6, "complication": 6, "grounding": 6, "order": 5}
    assert Counter(q.kind for q in ask(clip)) == {"instrument": 3}
    assert all(isinstance(q.evidence, Window) for q in ask(operation))
    assert all(isinstance(q.evidence, Moment) for q in ask(clip))


@pytest.mark.parametrize(
    "changes, reason",
    [
        ({"text": "Is the Forceps used during the incision?", "answer": "forceps"}, "leaks its answer"),
        ({"text": "Which instrument is used at 12 s?"}, "leaks its time"),
        ({"answer": "Yes"}, "trivial"),
        ({"phase": "unheard of"}, "ambiguous"),
        ({"evidence": Window(0, 120)}, "window too long"),
    ],
)
def test_a_bad_question_is_rejected_for_its_reason(changes, reason, operation):
    question = of_kind(operation, "instrument", "incision")
    assert rejections(replace(question, **changes), operation, []) == [reason]


def test_a_question_asked_before_is_a_duplicate(operation):
    question = of_kind(operation, "instrument", "incision")
    assert rejections(question, operation, [question]) == ["duplicate"]


def test_a_phase_that_comes_twice_is_not_asked_for(operation):
    first, second, *others = operation.segments
    twice = replace(operation, segments=(first, replace(second, phase=first.phase), *others))
    assert {q.phase for q in ask(twice)} == {segment.phase for segment in others}


@pytest.mark.parametrize(
    "evidence, duration, long",
    [
        (Window(0, 70), 100, False),
        (Window(0, 70.1), 100, True),
        (Window(0, 300), 1000, False),
        (Window(0, 301), 1000, True),
        (Moment(3), 6, False),
    ],
)
def test_evidence_of_more_than_70_percent_or_300_s_is_too_long(evidence, duration, long):
    assert too_long(evidence, duration) is long


def test_lessons_show_seconds_of_the_skim_or_a_dense_look(recording, store, tiny_limits):
    asked = {question.id: question for question in ask(recording)}
    lessons = make_lessons(list(asked.values()), {recording.video: recording}, store, tiny_limits, 3, 2, 0.5, 0)
    skim = skim_seconds(recording.duration, tiny_limits.skim_frames)
    looks = [lesson for lesson in lessons if lesson.max_pixels == tiny_limits.crop_pixels]
    stories = [lesson for lesson in lessons if lesson.max_pixels == tiny_limits.skim_pixels]
    assert len(looks) + len(stories) == len(lessons) and looks and stories
    for lesson in lessons:
        question = asked[lesson.question]
        assert is_well_formed([lesson.turn]) and lesson.end in {*skim, recording.duration}
        assert list(lesson.seconds) == sorted(lesson.seconds) and lesson.seconds[-1] < lesson.end
        if question.kind != "grounding":
            assert parse_answer(lesson.turn) == question.answer
    for lesson in stories:
        first = skim.index(lesson.seconds[0])
        assert list(lesson.seconds) == skim[first : first + len(lesson.seconds)]  # a run without gaps
        evidence = evidence_window(asked[lesson.question].evidence)
        assert any(evidence.contains(second) for second in lesson.seconds)
        window = parse_window(parse_answer(lesson.turn))
        assert window is None or {window.start, window.end} <= {*lesson.seconds, lesson.end}
    for lesson in looks:
        assert asked[lesson.question].kind in ("instrument", "complication")
        assert len(lesson.seconds) <= tiny_limits.crop_frames
        segment = next(s for s in recording.segments if s.phase == asked[lesson.question].phase)
        assert describe(segment) in lesson.turn


def test_a_lesson_opens_with_its_frames_and_its_end(operation, store, tiny_limits):
    question = of_kind(operation, "grounding")
    lesson = make_lessons([question], {operation.video: operation}, store, tiny_limits, 20, 0, 0.0, 0)[0]
    blocks = lesson_blocks(lesson, operation.path, store)
    labels = [block["text"] for block in blocks if block["type"] == "text"]
    assert labels == [*(f" {second:g}s" for second in lesson.seconds), f" end {lesson.end:g}s"]
    assert sum(block["type"] == "image" for block in blocks) == len(lesson.seconds)
