"""Captioned frames: frames at random seconds, each with the words for what it shows there at its size."""

from itertools import pairwise

import numpy as np
import pytest

from medscope.environment import ToolBudget
from medscope.sources.rendered.collections import sample_recording
from medscope.suite.captioned_frames import SIZES, captioned_frames
from medscope.suite.recall import told_words
from medscope.suite.teachers.thoughts import going_on, seen

BUDGET = ToolBudget(skim_pixels=784, crop_frames=12, crop_pixels=3136, frame_pixels=7056)


@pytest.fixture(scope="module")
def recording():
    rng = np.random.default_rng(0)
    return sample_recording("procedures", "procedures_warm_up_0000", "warm_up", "a.mp4", 24, 0.2, rng)


@pytest.fixture(scope="module")
def examples(recording):
    return captioned_frames([recording], 16, BUDGET, seed=0)


def of_size(examples, size):
    return [example for number, example in enumerate(examples) if SIZES[number % len(SIZES)] == size]


def test_a_frame_of_the_skim_is_captioned_by_the_outermost_label(examples, recording):
    for example in of_size(examples, "skim"):
        assert example.max_pixels == BUDGET.skim_pixels and len(set(example.seconds)) == BUDGET.crop_frames
        for caption, second in zip(example.captions, example.seconds, strict=True):
            assert caption == (seen(recording, second, innermost=False) or seen(recording, second, innermost=True))


def test_a_frame_of_a_crop_is_captioned_by_the_outermost_and_the_innermost_label(examples, recording):
    labels = set()
    for example in of_size(examples, "crop"):
        assert example.max_pixels == BUDGET.crop_pixels
        for caption, second in zip(example.captions, example.seconds, strict=True):
            outermost, innermost = caption.split()
            assert innermost == seen(recording, second, innermost=True)
            assert outermost == (seen(recording, second, innermost=False) or innermost)
            labels.add(innermost)
    assert len(labels) > 8  # steps, events and what hides them


def test_close_frames_are_captioned_by_the_attributes_of_their_event(examples, recording):
    for example in of_size(examples, "frame"):
        assert example.max_pixels == BUDGET.frame_pixels
        for caption, second in zip(example.captions, example.seconds, strict=True):
            event = going_on(recording, second)[-1]
            values = {name: value for name, value in event.attributes.items() if name != "level"}
            assert caption.split() == [*values.values()] and {"instrument", "side", "count"} == set(values)


def test_a_label_is_seldom_that_of_the_frame_before(examples):
    crops = [example for example in examples if example.max_pixels == BUDGET.crop_pixels]
    pairs = [pair for example in crops for pair in pairwise(example.captions)]
    assert sum(a == b for a, b in pairs) < 0.5 * len(pairs)


def test_short_videos_have_none(recording):
    assert not captioned_frames([recording], 4, ToolBudget(crop_frames=1000), seed=0)


def test_recall_asks_for_labels_and_attributes_of_events_alone(recording):
    words = set(told_words([recording]))
    assert words.isdisjoint({"phase", "step", "event", "camera", "eye", "lumen", "joint", "bladder"})
    assert {interval.label for interval in recording.intervals} <= words
