"""ClinVideoSuite on a flat operation and a flat clip: captions, tasks and warm-up examples."""

from collections import Counter
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from flat import LANGUAGE

from medscope.environment.grammar import is_well_formed, parse_answer, parse_window
from medscope.metrics import evidence_window
from medscope.records import Caption, Interval, Recording, Text, Timestamp, Window
from medscope.sources.source import Language
from medscope.suite.captions import captions
from medscope.suite.tasks import closed_tasks, rejections, too_long
from medscope.suite.teachers.scripted import storyline
from medscope.suite.warm_up import captioned_examples, framed_examples, vocabulary, warm_up_blocks


def ask(recording):
    return closed_tasks(recording, LANGUAGE, np.random.default_rng(0))


def of_kind(recording, kind, subject=None):
    return next(task for task in ask(recording) if task.kind == kind and task.subject == (subject or task.subject))


def test_captions_tell_every_interval_and_the_whole(operation):
    told = captions(operation, LANGUAGE)
    first = operation.intervals[0]
    details = " and ".join(first.attributes[name] for name in ("instrument", "complication"))
    assert told[0] == Caption(operation.video, first.window, f"incision with {details}")
    assert [caption.window for caption in told[:-1]] == [interval.window for interval in operation.intervals]
    assert told[-1].window == Window(0, operation.duration)
    assert told[-1].text.split(", then ") == [interval.label for interval in operation.intervals]
    assert LANGUAGE.describe(replace(first, attributes={})) == "incision"


def test_the_storyline_of_a_skim_tells_what_its_seconds_see(operation):
    assert storyline(operation, [0, 13, 14, 77, 80], 90.4) == [
        ("incision", 0),
        ("inspection", 14),
        ("irrigation", 77),
        ("end", 90),
    ]


def test_at_a_boundary_the_later_interval_is_seen(operation):
    assert storyline(operation, [14], 145) == [("inspection", 14), ("end", 145)]


def test_tasks_carry_the_reference_and_the_evidence_of_their_interval(recording):
    asked = ask(recording)
    following = {a.label: b.label for a, b in pairwise(recording.intervals)}
    for task in asked:
        interval = next(i for i in recording.intervals if i.label == task.subject)
        references = {
            "grounding": interval.window,
            "order": Text(following.get(interval.label, "")),
            **{name: Text(value) for name, value in interval.attributes.items()},
        }
        assert task.reference == references[task.kind] and task.subject in task.question
        assert task.evidence == interval.evidence
        assert evidence_window(task.evidence).end <= recording.duration
        assert (task.video, task.path, task.split) == (recording.video, recording.path, "sft")
        assert (task.collection, task.domain, task.free_text) == (recording.collection, "in", False)
        assert task.challenging == (task.kind != "order")
        assert rejections(task, recording, []) == []


def test_ids_are_unique_and_count_within_video_and_kind(operation):
    asked = ask(operation)
    assert len({task.id for task in asked}) == len(asked)
    for kind, count in Counter(task.kind for task in asked).items():
        ids = [task.id for task in asked if task.kind == kind]
        assert ids == [f"{operation.video}/{kind}/{number}" for number in range(count)]


def test_operations_are_asked_for_windows_and_clips_for_instants(operation, clip):
    assert Counter(t.kind for t in ask(operation)) == {"instrument": 6, "complication": 6, "grounding": 6, "order": 5}
    assert Counter(t.kind for t in ask(clip)) == {"instrument": 3}
    assert all(isinstance(t.evidence, Window) for t in ask(operation))
    assert all(isinstance(t.evidence, Timestamp) for t in ask(clip))


def plain(*intervals, duration=100.0):
    return Recording("video", "video.mp4", duration, tuple(intervals), "set", split="sft")


def test_an_attribute_is_asked_for_only_in_words_that_the_source_has():
    recording = plain(Interval(Window(0, 30), "suture", {"nylon": "10-0", "surgeon": "left"}))
    language = Language({"nylon": ("Which nylon is used for the {label}?",)})
    [task] = closed_tasks(recording, language, np.random.default_rng(0))
    assert (task.kind, task.reference) == ("nylon", Text("10-0"))
    assert task.question == "Which nylon is used for the suture?"


def test_an_attribute_named_as_a_kind_is_refused():
    recording = plain(Interval(Window(0, 30), "suture", {"order": "third"}))
    with pytest.raises(ValueError, match="video has the attribute 'order', which is a kind of task; rename it"):
        closed_tasks(recording, Language(), np.random.default_rng(0))


def test_digits_of_a_label_are_no_time():
    recording = plain(Interval(Window(0, 30), "phase 2"), Interval(Window(30, 60), "10-0 nylon"))
    asked = closed_tasks(recording, Language(), np.random.default_rng(0))
    assert [(task.kind, task.subject) for task in asked] == [
        ("grounding", "phase 2"),
        ("order", "phase 2"),
        ("grounding", "10-0 nylon"),
    ]
    leaks = replace(asked[0], question="When does the phase 2 take place, from 3 s on?")
    assert rejections(leaks, recording, []) == ["leaks its time"]


def test_overlapping_intervals_follow_nothing():
    recording = plain(Interval(Window(0, 30), "outer"), Interval(Window(20, 40), "inner"))
    asked = closed_tasks(recording, Language(), np.random.default_rng(0))
    assert [task.kind for task in asked] == ["grounding", "grounding"]


@pytest.mark.parametrize(
    "changes, reason",
    [
        ({"question": "Is the Forceps used during the incision?", "reference": Text("forceps")}, "leaks its answer"),
        ({"question": "Which instrument is used at 12 s?"}, "leaks its time"),
        ({"reference": Text("Yes")}, "trivial"),
        ({"subject": "unheard of"}, "ambiguous"),
        ({"evidence": Window(0, 120)}, "window too long"),
    ],
)
def test_a_bad_task_is_rejected_for_its_reason(changes, reason, operation):
    task = of_kind(operation, "instrument", "incision")
    assert rejections(replace(task, **changes), operation, []) == [reason]


def test_a_question_asked_before_is_a_duplicate(operation):
    task = of_kind(operation, "instrument", "incision")
    assert rejections(task, operation, [task]) == ["duplicate"]


def test_a_label_that_comes_twice_is_not_asked_for(operation):
    first, second, *others = operation.intervals
    twice = replace(operation, intervals=(first, replace(second, label=first.label), *others))
    assert {task.subject for task in ask(twice)} == {interval.label for interval in others}


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
    recordings = {recording.video: recording}
    return framed_examples(ask(recording), recordings, store, budget, LANGUAGE.describe, skims, looks, 0.5, 0)


def test_excerpts_tell_the_storyline_in_the_seconds_of_their_own_clock(recording, store, tiny_budget):
    asked = {task.question: task for task in ask(recording)}
    examples = [e for e in teach(recording, store, tiny_budget) if e.max_pixels == tiny_budget.skim_pixels]
    assert len({example.time_offset for example in examples}) > 3
    for example in examples:
        task, seconds = asked[example.question], list(example.seconds)
        labels = [second + example.time_offset for second in seconds]
        assert (example.path, example.collection) == (recording.path, recording.collection)
        assert is_well_formed([example.turn]) and len(seconds) <= tiny_budget.skim_frames
        assert seconds == sorted(map(round, seconds)) and seconds[0] >= 0 and seconds[-1] <= recording.duration
        assert labels[0] >= 0 and labels[-1] < example.end <= recording.duration + example.time_offset
        assert any(evidence_window(task.evidence).contains(second) for second in seconds)
        if task.kind == "grounding":
            window = parse_window(parse_answer(example.turn))
            assert window.start in labels and window.end in (*labels, example.end)
        else:
            assert parse_answer(example.turn) == task.reference.text


WORDS = [f"word{letter}" for letter in "abcdefghijklmnopqrstuvwxyz"]


def captioned(count, words=WORDS, seed=0):
    return captioned_examples(count, words, LANGUAGE.templates["grounding"], 20, 0.6, seed)


def test_captioned_examples_tell_the_story_of_their_captions(store):
    examples = captioned(50)
    assert examples == captioned(50) != captioned(50, seed=1)
    slack = set()
    for example in examples:
        assert is_well_formed([example.turn]) and 3 <= len(example.captions) == len(example.seconds) <= 20
        *blocks, end = warm_up_blocks(example, store)
        assert end == {"type": "text", "text": f" end {example.end:g}s"}
        pairs = zip(blocks[::2], blocks[1::2], example.captions, example.seconds, strict=True)
        for caption, label, told, second in pairs:
            assert caption == {"type": "caption", "text": f" {told}", "side": 0}
            assert label == {"type": "text", "text": f" {second:g}s"} and f"{told} {second:g}" in example.turn
        window = parse_window(parse_answer(example.turn))
        asked = next(i for i, told in enumerate(example.captions) if told in example.question)
        anchors = [*example.seconds, example.end]
        slack.add((asked - anchors.index(window.start), anchors.index(window.end) - asked - 1))
    assert slack == {(0, 0), (0, 1), (1, 0), (1, 1)}, "a cautious teacher widens by one anchor, not always"


def test_captions_come_from_the_recordings_and_few_words_make_short_skims(operation, clip):
    words = vocabulary([operation, clip])
    assert words == sorted(set(words)) and set(words) >= {"incision", *clip.intervals[0].attributes.values()}
    assert {len(example.captions) for example in captioned(40, WORDS[:4])} == {3, 4}
    with pytest.raises(ValueError, match="set `captioned` to 0"):
        captioned(1, WORDS[:2])


def test_looks_describe_what_a_dense_look_shows(recording, store, tiny_budget):
    asked = {task.question: task for task in ask(recording)}
    examples = [e for e in teach(recording, store, tiny_budget) if e.max_pixels == tiny_budget.crop_pixels]
    assert len(examples) == 2 * sum(task.kind in ("instrument", "complication") for task in asked.values())
    for example in examples:
        task = asked[example.question]
        interval = next(i for i in recording.intervals if i.label == task.subject)
        assert example.time_offset == 0 and len(example.seconds) <= tiny_budget.crop_frames
        assert example.seconds[-1] < example.end <= recording.duration
        assert is_well_formed([example.turn]) and LANGUAGE.describe(interval) in example.turn
        assert parse_answer(example.turn) == task.reference.text


def test_the_frames_of_an_example_are_labelled_on_its_clock(recording, store, tiny_budget):
    """A turn tells its storyline on this clock; labels on another one would teach a model to make seconds up."""
    for example in teach(recording, store, tiny_budget):
        blocks = warm_up_blocks(example, store)
        labels = [float(b["text"].strip(" ends")) for b in blocks if b["type"] == "text"]
        assert labels[:-1] == pytest.approx([second + example.time_offset for second in example.seconds], abs=0.51)
        assert labels[-1] == example.end and sum(b["type"] == "image" for b in blocks) == len(example.seconds)
