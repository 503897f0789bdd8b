"""The tables of the ablations, by hand."""

import pytest
from predicted import crop, prediction, task

from medscope.evaluation.studies.ablations import COMPARED, ablations, against_full, differences_table, read_curves
from medscope.records import Window


def run(*scores, window=True):
    """Answers on tasks about the videos a, a and b: 1 is right and looks at the evidence, 0 neither."""
    predictions = []
    for number, (video, good) in enumerate(zip("aab", scores, strict=True)):
        asked = task(number, Window(0, 10) if window else "hook", Window(0, 10), video=video)
        answer = "from 0 to 10 s" if good else ""
        predictions.append(prediction(asked, answer, float(good), [crop(0, 10)] if good else []))
    return predictions


def test_a_variant_is_compared_with_full_task_by_task():
    full = [run(1, 1, 1), run(1, 1, 0)]
    rows = against_full(full, [run(0, 0, 1), run(0, 0, 0)])
    assert set(rows) == set(COMPARED)
    for row in rows.values():
        assert row["mean"] == pytest.approx(1 / 6) and row["minus_full"] == pytest.approx(-2 / 3)
        assert row["std"] == pytest.approx(2**0.5 / 6)
        low, high = row["minus_full_ci"]
        assert (low, high) == (-1, 0)  # video a loses 1 on its tasks, video b nothing
    assert against_full(full, full)["accuracy"]["minus_full_ci"] == [0, 0]


def test_a_metric_that_a_set_does_not_have_is_left_out():
    texts = [run(1, 1, 1, window=False)]
    assert set(against_full(texts, texts)) == {"evidence_miou", "accuracy"}


def test_the_differences_of_every_set_and_variant():
    table = differences_table({"full": [run(1, 1, 1)], "none": [run(1, 1, 0)]})
    assert list(table) == ["set"] and list(table["set"]) == ["full", "none"]
    assert table["set"]["none"]["accuracy"]["minus_full"] == pytest.approx(-1 / 3)
    assert table["set"]["none"]["accuracy"]["std"] == 0


def test_the_table_holds_means_over_seeds_and_the_start_on_the_same_tasks():
    start = [*run(0, 0, 1), prediction(task(9, "hook", video="c"), "", 1.0)]
    found = ablations({"full": [run(1, 1, 1), run(1, 1, 0)]}, start)
    assert found["table"]["full"]["set accuracy"] == pytest.approx(5 / 6)
    assert found["sft"]["set"]["accuracy"] == pytest.approx(1 / 3), (
        "the task that the variants were not asked is left out"
    )
    assert [run["set"]["accuracy"] for run in found["runs"]["full"]] == [1, pytest.approx(2 / 3)]
    assert "set vqa_acc" not in found["table"]["full"]


def test_curves_are_read_with_gaps(tmp_path):
    file = tmp_path / "run.csv"
    file.write_text("step,iou,eval_loss\n1,0.5,\n2,0.75,0.25\n")
    assert read_curves(file) == [{"step": 1, "iou": 0.5}, {"step": 2, "iou": 0.75, "eval_loss": 0.25}]
    with pytest.raises(FileNotFoundError, match=r"other\.csv"):
        read_curves(tmp_path / "other.csv")
