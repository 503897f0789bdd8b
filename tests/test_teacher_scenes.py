"""Scene boundaries in seconds, beside annotated intervals."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from media import packaged_video, write_mp4
from real_data import real_file
from teacher_items import do

from medscope.records import Interval, Recording, Window
from medscope.suite.teachers.endpoint.scenes import Film, SceneStep, label_of, scene_cuts, segment_windows

pytest_plugins = ["teacher_fixtures"]


def test_annotated_edges_and_cuts_bound_the_segments_short_are_merged_long_are_split():
    intervals = [Interval(Window(10, 30), "a"), Interval(Window(30, 32), "b")]
    windows = segment_windows(100, [11, 50, 51, 99.5], intervals, 4, 20)
    # 10 | 11 and 30 | 32 are short: the cut at 11 goes first, then b joins its shorter neighbour
    edges = [w.start for w in windows] + [windows[-1].end]
    assert edges[0] == 0 and edges[-1] == 100 and {10.0, 30.0} & set(edges)
    assert 11 not in edges and 99.5 not in edges
    assert all(4 <= w.length <= 20 + 1e-6 for w in windows)
    assert label_of(Window(12, 28), intervals) == "a" and label_of(Window(60, 70), intervals) == ""


def test_a_cut_goes_before_an_annotated_edge():
    windows = segment_windows(20, [9], [Interval(Window(10, 20), "a")], 4, 20)
    assert windows == [Window(0, 10), Window(10, 20)]


@given(
    st.floats(0.5, 5000),
    st.lists(st.floats(0, 6000), max_size=8),
    st.lists(st.tuples(st.floats(0, 6000), st.floats(0, 500)), max_size=6),
)
def test_segments_have_no_gaps_and_fair_lengths(duration, cuts, spans):
    intervals = [Interval(Window(start, start + length), "x") for start, length in spans]
    windows = segment_windows(duration, cuts, intervals, 4, 60)
    assert windows[0].start == 0 and windows[-1].end == duration
    assert all(a.end == b.start for a, b in pairwise(windows))
    assert all(w.length <= 60.01 for w in windows)
    assert len(windows) == 1 or all(w.length >= min(4, duration) - 0.01 for w in windows)


@pytest.fixture
def cut_film(tmp_path):
    """Red for 3 s, green for 3 s, blue for 2 s, at 10 frames a second, with noise."""
    colours = np.repeat(np.array([[200, 30, 30], [30, 200, 30], [30, 30, 200]]), [30, 30, 20], axis=0)
    frames = np.broadcast_to(colours[:, None, None], (80, 64, 96, 3))
    noise = np.random.default_rng(0).integers(-5, 6, frames.shape)
    return str(write_mp4(tmp_path / "cut.mp4", np.arange(80) / 10, (frames + noise).astype(np.uint8)))


def test_scene_cuts_in_seconds(cut_film):
    pytest.importorskip("scenedetect", reason="extra teacher")
    assert scene_cuts(cut_film) == pytest.approx([3.0, 6.0], abs=0.2)
    recording = Recording("cut", cut_film, 8.0, (), "films")
    scenes = do(SceneStep(shortest=1.5, longest=6), Film(recording, "c"))
    assert [w.start for w in scenes.windows] == pytest.approx([0, 3, 6], abs=0.2)


def test_scene_cuts_of_real_films():
    pytest.importorskip("scenedetect", reason="extra teacher")
    assert scene_cuts(str(packaged_video("bikes.mp4"))) == pytest.approx([1.2, 5.6, 7.6], abs=0.3)
    assert scene_cuts(str(packaged_video("bigbuckbunny.mp4"))) == []  # one take
    assert scene_cuts(str(real_file("endo.mp4"))) == []  # one take


def test_a_file_that_is_no_video_is_rejected(tmp_path):
    pytest.importorskip("scenedetect", reason="extra teacher")
    (tmp_path / "list.mp4").write_text("ffconcat version 1.0\nfile /etc/passwd\n")
    film = Film(Recording("list", str(tmp_path / "list.mp4"), 8.0, (), "films"), "c")
    assert do(SceneStep(), film).reason.startswith("the video cannot be read: ")
