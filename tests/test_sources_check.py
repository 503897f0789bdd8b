"""Which annotations are possible, which are quarantined and why, and how their videos are found."""

import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from real_data import real_file

from medscope.records import Interval, Window
from medscope.sources.annotations.annotation import Annotation
from medscope.sources.annotations.check import Videos, check
from medscope.sources.annotations.formats import Stated, read_annotations
from medscope.sources.manifest import VideoFile


def video(name="case_1", duration=100.0, fps=25.0):
    return VideoFile(name, f"/in/{name}.mp4", duration, fps, 64, 64, "h264", name, name, (0.0,), 1, 1)


def stated(start=1.0, end=2.0, label="cut", name="case_1", **fields):
    return Stated("a.csv", Annotation(name, start, end, label, "line 2", **fields))


@pytest.mark.parametrize(
    ("start", "end", "words"),
    [
        (5, 4, "it ends at 4 s, before it starts at 5 s"),
        (5, 5, "it ends where it starts, at 5 s"),
        (-1, 4, "it starts at -1 s, before the video"),
        (1, 101.1, "it ends at 101.1 s, past the end of case_1 at 100.00 s"),
        (100, 100.5, "it starts at 100 s, past the end"),
        (100, None, "it starts at 100 s, past the end"),
        (math.nan, 4, "not finite"),
        (1, math.inf, "not finite"),
        (1e308, None, "past the end"),
    ],
)
def test_impossible(start, end, words):
    checked = check([stated(start, end)], [video()])
    assert checked.intervals == {}
    [record] = checked.impossible
    assert record.path == "a.csv" and record.reason.startswith("line 2: ") and words in record.reason


def test_an_end_within_a_second_is_cut_and_an_open_end_is_that_of_the_video():
    checked = check([stated(1, 100.9), stated(2, None)], [video()])
    assert [interval.window for interval in checked.intervals["case_1"]] == [Window(1, 100), Window(2, 100)]


def test_nested_intervals_are_legal_and_ordered_by_start():
    checked = check([stated(10, 20, "inner"), stated(5, 50, "outer"), stated(5, 6, "first")], [video()])
    assert [interval.label for interval in checked.intervals["case_1"]] == ["outer", "first", "inner"]
    assert checked.impossible == [] and checked.considered == 3


def test_frames_are_those_of_the_video():
    checked = check([stated(50, 100, frames=True)], [video(fps=50)])
    assert checked.intervals["case_1"][0].window == Window(1, 2)
    assert "at 120 s" in check([stated(50, 3000, frames=True)], [video()]).impossible[0].reason


def test_unknown_videos_are_reported_once_each():
    checked = check([stated(name="x"), stated(name="x", start=0), stated(name="y")], [video()])
    assert [record.reason for record in checked.unknown] == [
        "the video 'x' is not in the manifest (2 intervals)",
        "the video 'y' is not in the manifest (1 intervals)",
    ]


def test_a_declared_duration_counts_only_without_the_video():
    late = stated(1, 60.5, duration=60)
    assert "past the end of the video at 60 s as the file itself states" in check([late], []).impossible[0].reason
    assert check([late], [video()]).impossible == []  # the video itself is longer than its annotation file says


def test_labels_levels_splits_and_exclusions():
    entries = [
        stated(1, 2, "3", level="phase", split="test"),
        stated(1, 2, "3", level="step"),
        stated(1, 2, "9", level="step", attributes={"tool": "hook"}),
        stated(1, 2, name="videos/broken.mp4", level="step"),
        stated(1, 2, level="other"),
    ]
    checked = check(
        entries,
        [video(), video("broken")],
        {"phase:3": "suture", "3": "knot"},
        ["phase", "step"],
        {"broken": "is broken"},
    )
    assert checked.intervals == {
        "case_1": (
            Interval(Window(1, 2), "suture"),
            Interval(Window(1, 2), "knot"),
            Interval(Window(1, 2), "9", {"tool": "hook"}),
        )
    }
    assert checked.splits == {"case_1": "test"} and checked.considered == 4
    assert checked.unknown[0].reason == "the video 'videos/broken.mp4' is broken (1 intervals)"


def test_how_a_video_is_found():
    index = Videos([video("a/one"), video("b/one"), video("b/two"), video("three.v2"), video("one/x"), video("x")])

    def found(name):
        return [video.video for video in index.find(name)]

    assert found("b/one") == found("b/one.mp4") == found("data/b/one.mkv") == found("b\\one.mp4") == ["b/one"]
    assert found("two") == found("./two.mp4") == found("/elsewhere/two") == ["b/two"]
    assert found("three.v2") == found("three.v2.avi") == ["three.v2"]
    assert found("one") == ["a/one", "b/one"]
    assert found("x") == ["x"]  # its whole name, before the end of another
    assert found("four") == found("") == []
    ambiguous = check([stated(name="one")], [video("a/one"), video("b/one")])
    assert "not enough to tell a/one, b/one apart" in ambiguous.unknown[0].reason


def test_the_180_impossible_segments_of_nurvid():
    entries, _ = read_annotations(real_file("NurViD_annotations.json"), "nurvid")
    checked = check(entries, [])
    assert len(checked.impossible) == 180
    kinds = Counter("past the end" in r.reason or "where it starts" in r.reason for r in checked.impossible)
    assert kinds == {True: 180}
    [empty] = [r.reason for r in checked.impossible if "where it starts" in r.reason]
    assert empty.startswith("xsqaL7c22q8, annotations[") and "12.38" in empty
    assert any("6Ayxz5p7GBs" in r.reason and "53.06 s" in r.reason and "5 s" in r.reason for r in checked.impossible)


def test_real_multibypass_has_nothing_to_quarantine():
    entries, _ = read_annotations(real_file("MultiBypass140_BBP02.mp4.json"), "multibypass140")
    last = max(s.annotation.end for s in entries)
    checked = check(entries, [video("BBP02", last)], levels=["phase"])
    assert checked.impossible == [] and len(checked.intervals["BBP02"]) == 24
    labels = [interval.label for interval in checked.intervals["BBP02"]]
    assert "out_of_body" in labels


times = st.floats(allow_nan=True, allow_infinity=True) | st.integers(-10, 200).map(float)


@given(st.lists(st.tuples(times, st.none() | times, st.booleans()), max_size=6), st.floats(0.1, 1e5), st.floats(1, 240))
def test_whatever_is_stated_every_interval_lies_in_its_video(entries, duration, fps):
    annotations = [stated(start, end, frames=frames) for start, end, frames in entries]
    checked = check(annotations, [video(duration=duration, fps=fps)])
    intervals = checked.intervals.get("case_1", ())
    assert len(intervals) + len(checked.impossible) == len(entries)
    for interval in intervals:
        assert 0 <= interval.window.start < interval.window.end <= duration
