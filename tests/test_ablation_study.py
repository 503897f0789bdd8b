"""The statistics of the ablation study, by hand."""

from dataclasses import replace

import numpy as np
import pytest

from medscope.evaluation.studies.ablation_study import METRICS, against_full
from medscope.evaluation.benchmark import outcome
from medscope.reporting.charts import differences
from medscope.reporting.pictures import examples_of
from medscope.suite.tasks import questions


@pytest.fixture
def run_of(operation):
    """`run_of(1, 0, 1)`: outcomes with these scores on questions about the videos a, a and b."""
    question = next(q for q in questions(operation, np.random.default_rng(0)) if q.kind == "grounding")

    def made(*scores, kind="grounding"):
        asked = [replace(question, video=video, kind=kind) for video in ("a", "a", "b")]
        return [
            replace(outcome(q, "", float(score)), crop_iou=float(score), answer_iou=float(score))
            for q, score in zip(asked, scores, strict=True)
        ]

    return made


def test_a_variant_is_compared_with_full_question_by_question(run_of):
    full = [run_of(1, 1, 1), run_of(1, 1, 0)]
    rows = against_full(full, [run_of(0, 0, 1), run_of(0, 0, 0)])
    assert set(rows) == set(METRICS)
    for row in rows.values():
        assert row["mean"] == pytest.approx(1 / 6) and row["minus_full"] == pytest.approx(-2 / 3)
        assert row["std"] == pytest.approx(2**0.5 / 6)
        low, high = row["minus_full_ci"]
        assert (low, high) == (-1, 0)  # video a loses 1 on its questions, video b nothing
    assert against_full(full, full)["accuracy"]["minus_full_ci"] == [0, 0]


def test_a_metric_that_a_split_does_not_have_is_left_out(run_of):
    run = run_of(1, 1, 1, kind="instrument")
    assert set(against_full([run], [run])) == {"evidence_miou", "accuracy"}


def test_the_plot_is_drawn(run_of, tmp_path):
    full, worse = [run_of(1, 1, 1)], [run_of(1, 0, 1)]
    differences({"full": against_full(full, full), "none": against_full(full, worse)}, tmp_path / "study.png")
    assert (tmp_path / "study.png").stat().st_size > 1000


def test_a_video_is_shown_once_among_the_successes_and_once_among_the_failures(run_of):
    right = [replace(o, hit=True) for o in run_of(1, 1, 1, kind="instrument")]
    shown = examples_of({"cataract": right + run_of(0, 0, 0)}, each=2)
    names = {name: (o.question.video, o.accuracy) for name, o in shown.items()}
    assert names == {
        "cataract_success_0": ("a", 1), "cataract_success_1": ("b", 1),
        "cataract_failure_0": ("a", 0), "cataract_failure_1": ("b", 0),
    }  # fmt: skip
