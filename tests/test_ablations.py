"""The tables of the ablations, by hand."""

import pytest
from predicted import crop, prediction, task

from medscope.evaluation.studies.ablations import ablations, read_curves
from medscope.records import Window


def run(*scores, window=True):
    """Answers on tasks about the videos a, a and b: 1 is right and looks at the evidence, 0 neither."""
    predictions = []
    for number, (video, good) in enumerate(zip("aab", scores, strict=True)):
        asked = task(number, Window(0, 10) if window else "hook", Window(0, 10), video=video)
        answer = "from 0 to 10 s" if good else ""
        predictions.append(prediction(asked, answer, float(good), [crop(0, 10)] if good else []))
    return predictions


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
