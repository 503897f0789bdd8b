"""IoU, recall and precision of evidence."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from medscope.metrics import (
    evidence_precision,
    evidence_recall,
    evidence_window,
    recall_at,
    temporal_iou,
)
from medscope.records import Timestamp, Window

WINDOWS = st.tuples(st.floats(0, 1e4), st.floats(0, 1e4)).map(sorted).map(lambda ends: Window(*ends))


@pytest.mark.parametrize(
    "a, b, iou",
    [
        ((0, 10), (0, 10), 1),
        ((0, 10), (5, 15), 1 / 3),
        ((0, 10), (0, 5), 0.5),
        ((2, 4), (0, 10), 0.2),
        ((0, 10), (10, 20), 0),
        ((0, 10), (15, 20), 0),
        ((5, 5), (0, 10), 0),
        ((5, 5), (5, 5), 1),
        ((5, 5), (6, 6), 0),
    ],
)
def test_temporal_iou_by_hand(a, b, iou):
    assert temporal_iou(Window(*a), Window(*b)) == pytest.approx(iou)


@given(WINDOWS, WINDOWS)
def test_temporal_iou_is_a_symmetric_share(a, b):
    assert 0 <= temporal_iou(a, b) <= 1
    assert temporal_iou(a, b) == temporal_iou(b, a)
    assert temporal_iou(a, a) == 1


@given(WINDOWS, WINDOWS, st.integers(0, 1000))
def test_temporal_iou_does_not_depend_on_where_the_video_starts(a, b, shift):
    assume(max(a.end, b.end) - min(a.start, b.start) > 0.01)
    moved = temporal_iou(Window(a.start + shift, a.end + shift), Window(b.start + shift, b.end + shift))
    assert moved == pytest.approx(temporal_iou(a, b), abs=1e-6)


@pytest.mark.parametrize("time, window", [(5, (4, 6)), (0.5, (0, 1.5)), (0, (0, 1))])
def test_a_timestamp_becomes_a_window_inside_the_video(time, window):
    assert evidence_window(Timestamp(time)) == Window(*window)


def test_the_window_of_a_window_is_itself():
    assert evidence_window(Window(1, 2)) == Window(1, 2)


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7])
def test_recall_is_inclusive_at_exact_values(threshold):
    exact = [temporal_iou(Window(0, threshold * length), Window(0, length)) for length in (1, 3, 7, 10, 33)]
    assert recall_at(exact, threshold) == [1] * 5
    assert recall_at([threshold - 1e-6, 0, 1], threshold) == [0, 0, 1]


@pytest.mark.parametrize(
    "evidence, looked, recall, precision",
    [
        (Window(10, 20), None, 0, 0),
        (Window(10, 20), Window(10, 15), 1, 1),
        (Window(10, 20), Window(10, 14.9), 0, 1),
        (Window(10, 20), Window(0, 100), 1, 0.1),
        (Window(10, 20), Window(15, 35), 1, 0.25),
        (Window(10, 20), Window(20, 40), 0, 0),
        (Window(10, 20), Window(30, 40), 0, 0),
        (Window(10, 20), Timestamp(10), 1, 1),
        (Window(10, 20), Timestamp(20.1), 0, 0),
        (Window(5, 5), Window(10, 20), 0, 0),  # half of nothing is covered only by a look at its instant
        (Window(5, 5), Window(4, 6), 1, 0),
        (Window(4, 6), Window(5, 5), 0, 1),  # an instant inside of the evidence
        (Timestamp(5), Window(5, 9), 1, 0.25),
        (Timestamp(5), Window(5.1, 6.1), 0, pytest.approx(0.9)),
        (Timestamp(5), Timestamp(6), 1, 1),
        (Timestamp(5), Timestamp(6.1), 0, 0),
        (Timestamp(0), Timestamp(0), 1, 1),
    ],
)
def test_evidence_recall_and_precision_by_hand(evidence, looked, recall, precision):
    assert evidence_recall(looked, evidence) == recall
    assert evidence_precision(looked, evidence) == precision


def test_a_crop_of_a_whole_hour_has_full_recall_and_almost_no_precision():
    hour = Window(0, 3600)
    assert evidence_recall(hour, Timestamp(1800)) == 1 == evidence_recall(hour, Window(1800, 1836))
    assert evidence_precision(hour, Timestamp(1800)) == pytest.approx(2 / 3600)
    assert evidence_precision(hour, Window(1800, 1836)) == pytest.approx(0.01)
