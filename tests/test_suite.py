"""ClinVideoSuite on a rendered operation and a rendered clip: captions, questions and warm-up lessons."""

from collections import Counter
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from medscope.environment.dialogue import is_well_formed, parse_answer, parse_window, window_text
from medscope.metrics import evidence_window
from medscope.records import Caption, Timestamp, Window
from medscope.suite.captions import captions, describe, storyline
from medscope.suite.tasks import questions, rejections, too_long
from medscope.suite.warm_up import captioned_examples, framed_examples, warm_up_blocks


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


def test_at_a_boundary_the_later_phase_is_seen(operation):
    assert storyline(operation, [14], 145) == [("viscoelastic", 14), ("end", 145)]


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
    assert all(isinstance(q.evidence, Timestamp) for q in ask(clip))


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
        (Timestamp(3), 6, False),
    ],
)
def test_evidence_of_more_than_70_percent_or_300_s_is_too_long(evidence, duration, long):
    assert too_long(evidence, duration) is long


def teach(recording, store, budget, skims=5, looks=2):
    return framed_examples(ask(recording), {recording.video: recording}, store, budget, skims, looks, 0.5, 0)


def test_storyline_lessons_tell_an_excerpt_in_the_seconds_of_its_own_clock(recording, store, tiny_budget):
    asked = {question.text: question for question in ask(recording)}
    lessons = [le for le in teach(recording, store, tiny_budget) if le.max_pixels == tiny_budget.skim_pixels]
    assert len({lesson.time_offset for lesson in lessons}) > 3
    for lesson in lessons:
        question, seconds = asked[lesson.text], list(lesson.seconds)
        shown = [second + lesson.time_offset for second in seconds]
        assert is_well_formed([lesson.turn]) and len(seconds) <= tiny_budget.skim_frames
        assert seconds == sorted(map(round, seconds)) and seconds[0] >= 0 and seconds[-1] <= recording.duration
        assert shown[0] >= 0 and shown[-1] < lesson.end <= recording.duration + lesson.time_offset
        assert any(evidence_window(question.evidence).contains(second) for second in seconds)
        if question.kind == "grounding":
            window = parse_window(parse_answer(lesson.turn))
            assert window.start in shown and window.end in (*shown, lesson.end)
        else:
            assert parse_answer(lesson.turn) == question.answer


def test_captioned_lessons_tell_the_story_of_their_captions(store):
    lessons = captioned_examples(50, 20, 0.6, seed=0)
    assert lessons == captioned_examples(50, 20, 0.6, seed=0) != captioned_examples(50, 20, 0.6, seed=1)
    slack = set()
    for lesson in lessons:
        assert is_well_formed([lesson.turn]) and 3 <= len(lesson.captions) == len(lesson.seconds) <= 20
        text = warm_up_blocks(lesson, "", store)[0]["text"]
        for caption, second in zip(lesson.captions, lesson.seconds, strict=True):
            assert f" {caption}<|vision_end|> {second:g}s" in text and f"{caption} {second:g}" in lesson.turn
        window = parse_window(parse_answer(lesson.turn))
        asked = next(i for i, caption in enumerate(lesson.captions) if caption in lesson.text)
        anchors = [*lesson.seconds, lesson.end]
        slack.add((asked - anchors.index(window.start), anchors.index(window.end) - asked - 1))
    assert slack == {(0, 0), (0, 1), (1, 0), (1, 1)}, "a cautious teacher widens by one anchor, not always"


def test_look_lessons_describe_what_a_dense_look_shows(recording, store, tiny_budget):
    asked = {question.text: question for question in ask(recording)}
    lessons = [le for le in teach(recording, store, tiny_budget) if le.max_pixels == tiny_budget.crop_pixels]
    assert len(lessons) == 2 * sum(q.kind in ("instrument", "complication") for q in asked.values())
    for lesson in lessons:
        question = asked[lesson.text]
        segment = next(s for s in recording.segments if s.phase == question.phase)
        assert lesson.time_offset == 0 and len(lesson.seconds) <= tiny_budget.crop_frames
        assert lesson.seconds[-1] < lesson.end <= recording.duration
        assert is_well_formed([lesson.turn]) and describe(segment) in lesson.turn
        assert parse_answer(lesson.turn) == question.answer


def test_the_frames_of_a_lesson_are_labelled_on_its_clock(recording, store, tiny_budget):
    """A turn tells its storyline on this time_offset; labels on another one would teach a model to make seconds up."""
    for lesson in teach(recording, store, tiny_budget):
        blocks = warm_up_blocks(lesson, recording.path, store)
        labels = [float(b["text"].strip(" ends")) for b in blocks if b["type"] == "text"]
        assert labels[:-1] == pytest.approx([second + lesson.time_offset for second in lesson.seconds], abs=0.51)
        assert labels[-1] == lesson.end and sum(b["type"] == "image" for b in blocks) == len(lesson.seconds)
