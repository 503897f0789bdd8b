"""The evidence audit: what the swapped tools show, what is replayed, and the numbers by hand."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from flat import LANGUAGE
from predicted import crop, prediction, task

from medscope.environment.environment import skim
from medscope.evaluation.audit import (
    SWAPS,
    audit_table,
    calibration_error,
    economy,
    flips_table,
    reliability,
    replay_name,
    risk_coverage,
)
from medscope.evaluation.predict import predict
from medscope.evaluation.replay import SwappedEnvironment, other_videos, replay
from medscope.records import Text, Timestamp, ToolCall, Window
from medscope.suite.tasks import closed_tasks


def bound(swap, recording, other, store, budget):
    swapped = SwappedEnvironment(store, budget, swap, other)
    swapped.reset(path=recording.path)
    return swapped


def shown(environment, start, end):
    blocks = environment.crop_video(start, end)
    return [b["image"] for b in blocks if b["type"] == "image"], [b["text"] for b in blocks if b["type"] == "text"]


@pytest.mark.parametrize("swap", SWAPS)
def test_a_swap_changes_the_frames_or_their_labels_and_nothing_else(
    swap, environment, operation, clip, store, tiny_budget
):
    swapped = bound(swap, operation, clip.path, store, tiny_budget)
    (true, seconds), (other, same) = shown(environment, 30, 60), shown(swapped, 30, 60)
    assert [i.size for i in other] == [i.size for i in true]
    if swap == "labels":
        assert all(np.array_equal(np.asarray(a), np.asarray(b)) for a, b in zip(true, other, strict=True))
        assert sorted(same) == sorted(seconds) and all(a != b for a, b in zip(same, seconds, strict=True))
    else:
        assert same == seconds
        assert all(np.any(np.asarray(a) != np.asarray(b)) for a, b in zip(true, other, strict=True))
    assert swapped.trace == environment.trace and swapped.trace.window == Window(30, 60)
    assert skim(swapped) == skim(environment)


def test_elsewhere_is_half_the_video_later(operation, store, tiny_budget):
    swapped = bound("elsewhere", operation, "", store, tiny_budget)
    images, seconds = shown(swapped, 10, 20)
    later = float(seconds[0].strip(" s")) + operation.duration / 2
    there, _ = store.frames(operation.path, [later], tiny_budget.crop_pixels)
    assert np.array_equal(np.asarray(images[0]), np.asarray(there[0]))


def test_blank_frames_are_grey(store, operation, tiny_budget):
    swapped = bound("blank", operation, "", store, tiny_budget)
    assert all(np.ptp(np.asarray(image)) == 0 for image in shown(swapped, 10, 20)[0])


@pytest.mark.parametrize("swap", SWAPS)
def test_a_swapped_frame_has_a_key_of_its_own(swap, environment, operation, clip, store, tiny_budget):
    """A policy caches features under `info["frame"]`: one key, one picture, also where the other video is resized."""
    swapped = bound(swap, operation, clip.path, store, tiny_budget)
    pictures = {}
    for image in [*shown(environment, 30, 60)[0], *shown(swapped, 30, 60)[0], swapped._swapped((84, 28), 30.0)]:
        same = pictures.setdefault(image.info["frame"], image)
        assert same.size == image.size and np.array_equal(np.asarray(same), np.asarray(image))


def test_another_video_is_of_the_same_collection_and_split(operation, clip):
    first = replace(operation, collection="x", split="eval")
    second = replace(operation, video="second", path="second.mp4", collection="x", split="eval")
    training = replace(operation, video="third", path="third.mp4", collection="x", split="sft")
    alone = replace(clip, collection="y", split="eval")
    assert other_videos([first, second, training, alone]) == {
        first.video: "second.mp4", "second": first.path, "third": "third.mp4", alone.video: alone.path,
    }  # fmt: skip


@pytest.fixture
def right(caller, clip, store, tiny_budget):
    """A right answer after a look: the policy is asked what it was taught, and its own answer is the reference."""
    taught = closed_tasks(clip, LANGUAGE, np.random.default_rng(0))[0]
    (first,) = predict(caller, [taught], store, tiny_budget, "sft")
    return predict(caller, [replace(taught, reference=Text(first.answer))], store, tiny_budget, "sft")


def test_only_right_answers_after_a_look_are_replayed(right, caller, operation, clip, store, tiny_budget):
    assert right[0].accuracy == 1 and right[0].looks
    others = [
        replace(right[0], task=replace(right[0].task, id="wrong"), accuracy=0.5),
        replace(right[0], task=replace(right[0].task, id="blind"), calls=()),
    ]
    partner = replace(clip, video="partner", path=operation.path)
    answer = partial(predict, caller, store=store, budget=tiny_budget)
    replays = replay(answer, right + others, [clip, partner], store, tiny_budget)
    assert [(p.task.id, p.system) for p in replays] == [(right[0].task.id, f"sft/{swap}") for swap in SWAPS]
    assert all(p.turns[0] == right[0].turns[0] for p in replays), "up to the first response it is the same rollout"
    rows = audit_table({"sft": right + others}, {"sft": replays})
    (row,) = rows.values()
    assert row["right"] == 1
    assert [row[f"flip_{swap}"] for swap in SWAPS] == [float(p.accuracy < 1) for p in replays]


def test_a_video_without_another_one_cannot_be_audited(right, caller, clip, store, tiny_budget):
    with pytest.raises(ValueError, match="is the only video of"):
        replay(partial(predict, caller, store=store, budget=tiny_budget), right, [clip], store, tiny_budget)


def test_the_table_of_the_audit_by_hand():
    asked = [task(n, "hook", Window(0, 10), video=f"v{n}") for n in range(4)]
    looks = [crop(0, 10), crop(0, 100), crop(50, 60), crop(0, 10)]
    predictions = [
        prediction(a, "hook", 1.0, [look], tokens=10, tool_frames=8) for a, look in zip(asked, looks, strict=True)
    ]
    predictions[3] = prediction(asked[3], "blade", 0.0, [looks[3]], tokens=10, tool_frames=8)
    kept = {"elsewhere": [1, 1, 0], "other_video": [0, 0.5, 0], "blank": [1, 1, 1]}
    replays = [
        prediction(a, "hook", accuracy, [look], system=replay_name("sft", swap))
        for swap, accuracies in kept.items()
        for a, look, accuracy in zip(asked, looks, accuracies, strict=False)
    ]
    rows = audit_table({"sft": predictions, "rl": predictions}, {"sft": replays})
    assert list(rows) == ["sft set"]
    row = rows["sft set"]
    assert row["right"] == 3
    assert row["contains_evidence"] == pytest.approx(2 / 3)  # the second crop is too large, and contains it
    assert row["evidence_precision"] == pytest.approx((1 + 0.1 + 0) / 3)  # and this says so
    assert row["wrong_window"] == pytest.approx(1 / 3)
    assert (row["flip_elsewhere"], row["flip_other_video"], row["flip_blank"]) == (pytest.approx(1 / 3), 1, 0)
    assert row["flip_blank_ci"] == [0, 0] and row["calls"] == 1 and row["tool_frames"] == 8
    assert "flip_labels" not in row, "files of an older version lack a swap"


def test_flips_by_kind_tell_what_an_answer_rests_on():
    asked = [task(n, "hook", kind="tool" if n < 2 else "when", video=f"v{n}") for n in range(3)]
    predictions = [prediction(a, "hook", 1.0, [crop(0, 10)]) for a in asked]
    kept = {"elsewhere": [0, 1, 0], "other_video": [0, 0, 0], "blank": [0, 0, 0], "labels": [1, 1, 0]}
    replays = [
        prediction(a, "hook", accuracy, system=replay_name("sft", swap))
        for swap, accuracies in kept.items()
        for a, accuracy in zip(asked, accuracies, strict=True)
    ]
    table = flips_table({"sft": predictions}, {"sft": replays})
    assert table["sft set tool"] == {
        "right": 2, "flip_elsewhere": 0.5, "flip_other_video": 1, "flip_blank": 1, "flip_labels": 0
    }  # fmt: skip
    assert table["sft set when"]["flip_labels"] == 1 and flips_table({"sft": predictions}, {"sft": []}) == {}


def test_a_set_without_right_answers_has_empty_cells():
    predictions = [prediction(task(0, "hook"), "blade"), prediction(task(0, "hook", collection="other"), "hook", 1.0)]
    replays = [prediction(predictions[1].task, "hook", 0.0, system=f"sft/{swap}") for swap in SWAPS]
    row = audit_table({"sft": predictions}, {"sft": replays})["sft set"]
    assert row["right"] == 0 and row["flip_blank"] is None is row["contains_evidence_ci"]


def test_a_look_at_a_timestamp_counts_by_its_last_call():
    frame = ToolCall("get_frame", {"timestamp": 5.5}, Timestamp(5.5))
    asked = task(0, "hook", Timestamp(5))
    predictions = [prediction(asked, "hook", 1.0, [crop(50, 60), frame])]
    replays = [prediction(asked, "hook", 1.0, system=f"sft/{swap}") for swap in SWAPS]
    row = audit_table({"sft": predictions}, {"sft": replays})["sft set"]
    assert row["contains_evidence"] == 1 and row["wrong_window"] == 0


def test_economy_reliability_and_risk_by_hand():
    some = [
        prediction(task(n, "x"), "x", accuracy, [crop(0, 10)], confidence=sure, tokens=10, tool_frames=8)
        for n, (accuracy, sure) in enumerate([(1, 0.9), (0, 0.2), (1, 0.4), (1, 0.8)])
    ]
    assert economy(some) == {"calls": 1, "tool_frames": 8, "tokens": 10}
    assert reliability(some, bins=2) == [
        {"confidence": pytest.approx(0.3), "accuracy": 0.5, "answers": 2},
        {"confidence": pytest.approx(0.85), "accuracy": 1.0, "answers": 2},
    ]
    assert calibration_error(some, bins=2) == pytest.approx((0.2 + 0.15) / 2)
    coverage, risk = risk_coverage(some)
    assert coverage.tolist() == [0.25, 0.5, 0.75, 1] and risk.tolist() == [0, 0, 0, 0.25]
