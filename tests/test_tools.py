"""Which seconds the tools show, and what they answer to a call that cannot be run."""

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError

from medscope.environment.environment import ClinicalVideoEnvironment, skim
from medscope.environment.tools import ToolBudget, ToolError, crop_seconds, crop_window, frame_seconds, skim_seconds
from medscope.records import Window

DURATIONS = st.floats(0.04, 20_000)
RATES = st.sampled_from([1, 2, 10, 23.976, 25, 29.97, 30, 59.94])


def increases(seconds):
    return all(before < after for before, after in pairwise(seconds))


def nearest_frames(seconds, fps, frames):
    """The frames of an even video that are nearest to `seconds`."""
    return [min(frames - 1, math.ceil(second * fps - 0.5)) for second in seconds]


@given(DURATIONS, st.integers(1, 600))
@example(10.0, 4)
def test_the_skim_is_whole_ordered_seconds_from_0_inside_the_video(duration, skim_frames):
    seconds = skim_seconds(duration, skim_frames)
    assert seconds[0] == 0 and increases(seconds) and seconds[-1] <= duration
    assert len(seconds) == max(1, min(skim_frames, math.floor(duration)))  # at most one a second
    assert all(isinstance(second, int) for second in seconds)


@pytest.mark.parametrize("duration, frames, expected", [(10, 4, [0, 2, 5, 8]), (3.7, 16, [0, 1, 2]), (64, 2, [0, 32])])
def test_the_skim_by_hand(duration, frames, expected):
    assert skim_seconds(duration, frames) == expected


@given(DURATIONS, RATES, st.floats(0, 1), st.floats(0, 1), st.integers(1, 128))
@example(10.0, 25, 0.0, 0.5, 128)  # the middles between the samples lie between two frames
def test_a_crop_shows_ordered_seconds_of_its_window_and_never_too_many(duration, fps, start, end, crop_frames):
    window = Window(*sorted((start * duration, end * duration)))
    seconds = crop_seconds(window, fps, ToolBudget(crop_frames=crop_frames))
    assert all(window.contains(second) for second in seconds)
    assert increases(seconds) and 1 <= len(seconds) <= crop_frames
    assert len(seconds) <= max(1, math.floor(window.length * fps + 1e-3))  # no denser than the file


@pytest.mark.parametrize("fps", [2, 4, 10, 25, 30, 50])
def test_a_crop_as_dense_as_the_file_shows_each_of_its_frames_once(fps):
    for start in range(50):
        seconds = crop_seconds(Window(start, start + 2), fps, ToolBudget())
        assert nearest_frames(seconds, fps, 100 * fps) == list(range(start * fps, (start + 2) * fps))


def test_a_crop_shows_whole_seconds_once_they_are_2_s_apart():
    assert crop_seconds(Window(10, 26), 25, ToolBudget(crop_frames=8)) == [11, 13, 15, 17, 19, 21, 23, 25]
    closer = crop_seconds(Window(10, 22), 25, ToolBudget(crop_frames=8))
    assert closer == pytest.approx([10.75 + 1.5 * i for i in range(8)], abs=0.02)


@given(st.floats(0, 1), st.integers(3, 10_000), RATES)
def test_a_frame_call_shows_three_ordered_seconds_around_its_own(share, frames, fps):
    duration = frames / fps
    timestamp = share * duration
    seconds = frame_seconds(timestamp, duration, fps)
    assert len(seconds) == 3 and increases(seconds)
    assert seconds[0] >= 0 and seconds[-1] <= duration
    shown = nearest_frames(seconds, fps, frames)
    assert shown == list(range(shown[0], shown[0] + 3))  # three neighbours, none twice
    assert min(abs(index / fps - timestamp) for index in shown) <= 1 / fps + 1e-6


@pytest.mark.parametrize(
    "timestamp, shown", [(0, [0, 1, 2]), (0.06, [0, 1, 2]), (2.0, [49, 50, 51]), (3.9, [96, 97, 98]), (4, [97, 98, 99])]
)
def test_a_frame_call_shows_the_three_nearest_frames(timestamp, shown):
    assert nearest_frames(frame_seconds(timestamp, 4.0, 25), 25, 100) == shown


@given(DURATIONS, st.floats(0, 30_000), st.floats(0, 30_000))
def test_a_crop_window_lies_inside_the_video_or_is_refused(duration, start, end):
    try:
        window = crop_window(start, end, duration, ToolBudget())
    except ToolError:
        assert end < start or start >= duration or min(end, duration) - start < 1
    else:
        assert window == Window(start, min(end, duration)) and window.length >= min(1, duration)


def test_a_video_shorter_than_the_shortest_window_can_be_cropped_whole():
    assert crop_window(0, 1, 0.8, ToolBudget()) == Window(0, 0.8)


@pytest.mark.parametrize("name", list(ToolBudget.__dataclass_fields__))
@pytest.mark.parametrize("value", [0, -1, "many", math.nan])
def test_budgets_are_positive_numbers(name, value):
    with pytest.raises(ValidationError, match=name):
        replace(ToolBudget(), **{name: value})


CROP = {"start_time": 10, "end_time": 20}
REFUSED = [  # name, arguments, what the message must say
    ("draw", {}, ["no such tool", "the tools are crop_video and get_frame"]),
    ("_show", {"seconds": [1]}, ["no such tool", "the tools are crop_video and get_frame"]),
    ("crop_video", {"start_time": 10}, ["crop_video needs end_time in seconds"]),
    ("crop_video", {**CROP, "end_time": None}, ["crop_video needs end_time in seconds"]),
    ("get_frame", {}, ["get_frame needs timestamp in seconds"]),
    ("get_frame", {"timestamp": 3, "zoom": 2}, ["get_frame takes timestamp and nothing else"]),
    ("crop_video", {**CROP, "path": "a.mp4"}, ["start_time and end_time and nothing else", "never names a file"]),
    ("crop_video", {**CROP, "video": 3}, ["nothing else", "the video is fixed"]),
    ("get_frame", {"timestamp": 3, "where": "/etc/passwd"}, ["nothing else", "never names a file"]),
    ("get_frame", {"timestamp": "/etc/passwd"}, ["needs timestamp as a number of seconds"]),
    *(
        ("crop_video", {**CROP, "start_time": bad}, ["crop_video needs start_time as a number of seconds from 0"])
        for bad in (math.nan, math.inf, -math.inf, -1, "10", True, [10], {"s": 10}, 10**400)
    ),
    ("get_frame", {"timestamp": 145.5}, ["timestamp 145.5", "past the end of the video at 145 s"]),
    ("crop_video", {"start_time": 145, "end_time": 150}, ["start_time 145", "past the end of the video at 145 s"]),
    ("crop_video", {"start_time": 20, "end_time": 10}, ["end_time 10 is before start_time 20", "swap them"]),
    ("crop_video", {"start_time": 20, "end_time": 20.5}, ["the window is 0.5 s long", "crop at least 1 s"]),
    ("crop_video", {"start_time": 144.5, "end_time": 900}, ["the window is 0.5 s long", "crop at least 1 s"]),
]


@pytest.mark.parametrize("name, arguments, said", REFUSED)
def test_a_refused_call_says_what_is_wrong_and_what_to_do(name, arguments, said, environment):
    with pytest.raises(ToolError) as error:
        environment._execute(name, arguments)
    assert all(words in str(error.value) for words in said) and len(str(error.value)) <= 200
    assert [(call.executed, call.message) for call in environment.trace.calls] == [(False, str(error.value))]
    assert environment.trace.last is None


def test_the_sixth_call_is_refused_whatever_the_first_five_were(environment):
    for timestamp in (1, 2, -1, 900, 3):
        try:
            environment.get_frame(timestamp)
        except ToolError:
            assert timestamp in (-1, 900)
    with pytest.raises(ToolError, match="all tool calls are used; answer now"):
        environment.crop_video(0, 10)
    assert [call.executed for call in environment.trace.calls] == [True, True, False, False, True, False]
    assert environment.trace.window is None


def test_calls_keep_to_the_frames_and_pixels_of_their_budget(store, operation, tiny_budget):
    environment = ClinicalVideoEnvironment(store, tiny_budget)
    environment.reset(path=operation.path)
    shown = {
        "skim": (skim(environment), 20, 784),
        "crop": (environment.crop_video(0, 145), 8, 3136),
        "frame": (environment.get_frame(70), 3, 7056),
    }
    for blocks, count, pixels in shown.values():
        sizes = [np.asarray(block["image"]).shape for block in blocks if block["type"] == "image"]
        assert len(sizes) == count
        assert all(height * width <= pixels and height % 28 == width % 28 == 0 for height, width, _ in sizes)
