"""What replaced calls would earn under every form of the reward, by hand; and the tables by kind and minimum."""

import pytest
from predicted import crop, prediction, task

from medscope.evaluation.breakdown import kinds_table, search_table
from medscope.evaluation.hacking import HACKS, earned, hacking_table
from medscope.records import Timestamp, Window
from medscope.rewards import RewardSettings

LONG = {"a": 100.0}


def rows(*predictions):
    return hacking_table({"rl": predictions}, LONG)["rl set"]


def test_the_reward_of_a_prediction_is_that_of_a_rollout():
    found = prediction(task(0, "hook", Window(0, 10)), "hook", 1.0, [crop(0, 10)])
    assert earned(found, RewardSettings()) == pytest.approx(1 + 1 + 2)  # IoU 1: ten bins of .1 above 1
    assert earned(found, RewardSettings(w_evidence=0)) == 2


def test_a_frame_inside_the_window_is_paid_for_nothing():
    table = rows(prediction(task(0, "hook", Window(0, 10)), "hook", 1.0, [crop(0, 12)]))
    assert table["free_frame"] == pytest.approx({"applies": 1, "paper": 1, "paper_text": 1, "monotone": 1})
    outside = rows(prediction(task(0, "hook", Window(0, 10)), "hook", 1.0, [crop(5, 95)]))
    assert outside["free_frame"]["paper"] == 0
    assert rows(prediction(task(0, "hook"), "hook", 1.0))["free_frame"] == {
        "applies": 0, "paper": None, "paper_text": None, "monotone": None
    }  # fmt: skip


def test_a_crop_of_the_whole_video_is_paid_where_the_evidence_is_an_instant():
    instant = prediction(task(0, "hook", Timestamp(50)), "hook", 1.0, [crop(0, 10)])
    assert rows(instant)["whole_video"]["paper"] == 1
    window = prediction(task(0, "hook", Window(0, 10)), "hook", 1.0)
    table = rows(window)["whole_video"]  # IoU .1, before: no crop
    assert (
        table["paper"] == -1 and table["paper_text"] == pytest.approx(-1.8) and table["monotone"] == pytest.approx(0.2)
    )


def test_the_window_of_the_answer_as_last_crop():
    asked = task(0, Window(0, 10))
    assert rows(prediction(asked, "from 0 to 10 s", 1.0, [crop(50, 60)]))["answer_crop"]["paper"] == pytest.approx(2)
    assert rows(prediction(task(0, "hook"), "hook", 1.0, [crop(50, 60)]))["answer_crop"]["applies"] == 0


def test_the_best_crop_once_more_undoes_a_worse_revision():
    asked = task(0, "hook", Window(0, 10))
    table = rows(prediction(asked, "hook", 1.0, [crop(0, 10), crop(50, 60)]))
    assert table["best_again"]["paper"] == pytest.approx(2) == table["best_again"]["monotone"]
    assert rows(prediction(asked, "hook", 1.0, [crop(50, 60), crop(0, 10)]))["best_again"]["paper"] == 0


def test_a_miss_is_better_than_a_poor_overlap_in_the_forms_of_the_paper_only():
    table = rows(prediction(task(0, "hook", Window(0, 10)), "hook", 1.0, [crop(0, 40)]))["miss"]  # IoU .25
    assert (
        table["paper"] == 1 and table["paper_text"] == pytest.approx(1.5) and table["monotone"] == pytest.approx(-0.5)
    )
    assert rows(prediction(task(0, "hook", Window(0, 10)), "hook", 1.0, [crop(0, 10)]))["miss"]["applies"] == 0


def test_every_hack_is_described_and_has_a_row():
    from medscope.evaluation import hacking

    assert all(f"`{name}`" in hacking.__doc__ for name in HACKS)
    assert set(rows(prediction(task(0, "hook"), "hook"))) == {"as it is", *HACKS}


def test_accuracy_by_kind_above_what_the_blind_reach():
    asked = [task(n, "hook", kind="tool" if n < 4 else "order", video=f"v{n}") for n in range(6)]
    rl = [prediction(t, "hook", float(n != 0)) for n, t in enumerate(asked)]
    blind = [prediction(t, "hook", float(n in (1, 4, 5))) for n, t in enumerate(asked)]
    table = kinds_table({"blind": blind, "rl": rl})["set"]
    assert table["tool rl"]["tasks"] == 4 and table["tool rl"]["accuracy"] == 0.75
    assert table["tool rl"]["above_blind"] == pytest.approx((0.75 - 0.25) / 0.75)
    assert table["tool blind"]["above_blind"] == 0 and table["order rl"]["above_blind"] is None
    assert kinds_table({"rl": rl})["set"]["tool rl"]["above_blind"] is None


def test_calls_by_the_number_that_a_task_needs():
    asked = [task(n, "hook", least_calls=1 + n // 2) for n in range(4)]
    looks = [[crop(0, 1)], [crop(0, 1)] * 2, [crop(0, 1)] * 2, [crop(0, 1)] * 4]
    table = search_table({"rl": [prediction(t, "hook", 1.0, c) for t, c in zip(asked, looks, strict=True)]})["set"]
    assert table["1 rl"] == {"tasks": 2, "calls": 1.5, "two_looks": 0.5, "accuracy": 1}
    assert table["2 rl"]["calls"] == 3 and table["2 rl"]["two_looks"] == 1
