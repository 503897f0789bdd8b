"""An exact reading of the skim, by hand."""

import pytest
from predicted import prediction, task

from medscope.evaluation.ceilings import exact_skim
from medscope.records import Interval, Recording, Window

# A skim of four frames: at 0, 25, 50 and 75 s.
PHASES = (Interval(Window(0, 20), "cut"), Interval(Window(20, 60), "sew"), Interval(Window(60, 100), "cut"))
RECORDING = Recording("a", "a.mp4", 100.0, PHASES, collection="set")


def ceiling(*predictions):
    return exact_skim(predictions, {"a": RECORDING}, 4)


def test_the_edges_of_a_window_lie_between_frames():
    sew = prediction(task(0, Window(20, 60), subject="sew"), "never")  # the skim says 12.5 to 62.5
    found = ceiling(sew)["set"]
    assert found["tg_miou"] == pytest.approx(40 / 50) and found["accuracy"] == 1
    assert found["tg_r50"] == 1 and found["tg_r70"] == 1
    assert set(found) == {
        f"{c}{ci}" for c in ("tg_r50", "tg_r70", "tg_miou", "vqa_acc", "accuracy") for ci in ("", "_ci")
    }


def test_of_like_labels_it_is_the_first_and_an_event_is_looked_for_in_its_phase():
    which = prediction(task(0, Window(60, 100), subject="tear", within="cut"))  # the skim says 0 to 12.5
    assert ceiling(which)["set"]["accuracy"] == 0


def test_what_no_skim_shows_is_answered_as_without_a_video():
    asked = [prediction(task(0, "hook"), "hook", accuracy=1.0), prediction(task(1, "hook"), "blade", accuracy=0.0)]
    unseen = prediction(task(2, Window(0, 10), subject="burn"), "from 0 to 9 s", accuracy=1.0)
    found = ceiling(*asked, unseen)["set"]
    assert found["vqa_acc"] == 0.5 and found["accuracy"] == pytest.approx(2 / 3) and found["tg_miou"] == 0.9


def test_the_last_window_ends_with_the_video():
    last = prediction(task(0, Window(60, 100), subject="end"))
    phases = (Interval(Window(0, 60), "cut"), Interval(Window(60, 100), "end"))
    found = exact_skim([last], {"a": Recording("a", "a.mp4", 100.0, phases, collection="set")}, 4)
    assert found["set"]["tg_miou"] == pytest.approx(37.5 / 40)  # the skim says 62.5 to 100


def test_every_eval_set_has_its_own():
    assert list(ceiling(prediction(task(0, "x")), prediction(task(1, "x", collection="other")))) == ["set", "other"]
