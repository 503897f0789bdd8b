"""The statistics of the ablation study, by hand."""

import pytest

from medscope.ablation_study import METRICS, against_full, plot

VIDEOS = ["a", "a", "b"]


def run_of(*scores):
    return {metric: (list(scores), VIDEOS) for metric in METRICS}


def test_a_variant_is_compared_with_full_question_by_question():
    full = [run_of(1, 1, 1), run_of(1, 1, 0)]
    row = against_full(full, [run_of(0, 0, 1), run_of(0, 0, 0)])["accuracy"]
    assert row["mean"] == pytest.approx(1 / 6) and row["minus_full"] == pytest.approx(-2 / 3)
    assert row["std"] == pytest.approx(2**0.5 / 6)
    low, high = row["minus_full_ci"]
    assert (low, high) == (-1, 0)  # video a loses 1 on its questions, video b nothing
    assert against_full(full, full)["accuracy"]["minus_full_ci"] == [0, 0]


def test_a_metric_that_a_split_does_not_have_is_left_out():
    run = {name: value for name, value in run_of(1, 1, 1).items() if name != "tg_r70"}
    assert set(against_full([run], [run])) == {"evidence_miou", "accuracy"}


def test_the_plot_is_drawn(tmp_path):
    full, worse = [run_of(1, 1, 1)], [run_of(1, 0, 1)]
    result = {"cataract": {"full": against_full(full, full), "none": against_full(full, worse)}}
    plot(result, tmp_path / "study.png")
    assert (tmp_path / "study.png").stat().st_size > 1000
