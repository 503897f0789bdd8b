"""Glimpses: frames at random seconds, each told by what it shows there."""

import re
from itertools import pairwise

import numpy as np
import pytest

from medscope.environment import ToolBudget
from medscope.sources.rendered.collections import sample_recording
from medscope.suite.glimpses import EVERY_ATTRIBUTES, glimpse_examples
from medscope.suite.recall import told_words
from medscope.suite.teachers.thoughts import going_on, seen

LATEST = 1290  # seconds
BUDGET = ToolBudget(crop_frames=12, crop_pixels=3136, frame_pixels=7056)


@pytest.fixture(scope="module")
def recording():
    rng = np.random.default_rng(0)
    return sample_recording("procedures", "procedures_warm_up_0000", "warm_up", "a.mp4", 24, 0.2, rng)


@pytest.fixture(scope="module")
def examples(recording):
    return glimpse_examples([recording], 16, BUDGET, LATEST, seed=0)


def told(example):
    """What the turn tells: words and the second of every frame, on the video's own clock."""
    text = example.turn.removeprefix("<think>").removesuffix("</think>")
    return [(words, int(second) - example.time_offset) for words, second in re.findall(r"([a-z][a-z ]*?) (\d+)s", text)]


def test_every_frame_is_told_by_its_innermost_label(examples, recording):
    of_crops = [example for example in examples if example.max_pixels == BUDGET.crop_pixels]
    assert len(of_crops) == 16 - 16 // EVERY_ATTRIBUTES
    for example in of_crops:
        assert told(example) == [(seen(recording, second, True), int(second)) for second in example.seconds]
        assert len(set(example.seconds)) == BUDGET.crop_frames


def test_close_frames_are_told_by_the_attributes_of_their_event(examples, recording):
    for example in examples[::EVERY_ATTRIBUTES]:
        assert example.max_pixels == BUDGET.frame_pixels
        for words, second in told(example):
            event = going_on(recording, second)[-1]
            values = {name: value for name, value in event.attributes.items() if name != "level"}
            assert words == " ".join(values.values()) and {"instrument", "side", "count"} == set(values)


def test_a_label_is_seldom_that_of_the_frame_before(examples):
    labels = [[words for words, _ in told(example)] for example in examples]
    pairs = [(a, b) for some in labels for a, b in pairwise(some)]
    assert sum(a == b for a, b in pairs) < 0.5 * len(pairs)


def test_clocks_end_in_time_and_short_videos_have_none(examples, recording):
    assert all(
        example.end <= LATEST and example.end == example.seconds[-1] + example.time_offset for example in examples
    )
    assert len({example.time_offset for example in examples}) > 8
    assert not glimpse_examples([recording], 4, ToolBudget(crop_frames=1000), LATEST, seed=0)


def test_recall_asks_for_labels_and_attributes_of_events_alone(recording):
    words = set(told_words([recording]))
    assert words.isdisjoint({"phase", "step", "event", "camera", "eye", "lumen", "joint", "bladder"})
    assert {interval.label for interval in recording.intervals} <= words
