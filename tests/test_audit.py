"""The evidence audit: what the swapped tools show, and numbers by hand."""

from dataclasses import replace

import numpy as np
import pytest

from medscope.evaluation.audit import (
    SWAPS,
    SwappedEnvironment,
    audit,
    calibration_error,
    economy,
    other_videos,
    reliability,
    risk_coverage,
)
from medscope.evaluation.benchmark import Outcome
from medscope.records import ToolCall, Window
from medscope.suite.tasks import questions


def shown(environment, start, end):
    blocks = environment.crop_video(start, end)
    return [b["image"] for b in blocks if b["type"] == "image"], [b["text"] for b in blocks if b["type"] == "text"]


@pytest.mark.parametrize("swap", SWAPS)
def test_a_swap_changes_the_frames_and_nothing_else(swap, environment, operation, clip, store, tiny_budget):
    swapped = SwappedEnvironment(store, tiny_budget, swap, clip.path)
    swapped.reset(path=operation.path)
    (true, seconds), (other, same) = shown(environment, 30, 60), shown(swapped, 30, 60)
    assert same == seconds and [i.size for i in other] == [i.size for i in true]
    assert all(np.any(np.asarray(a) != np.asarray(b)) for a, b in zip(true, other, strict=True))
    assert swapped._window == environment._window == Window(30, 60)
    assert swapped._skim() == environment._skim()


def test_elsewhere_is_half_the_video_later(environment, operation, store, tiny_budget):
    swapped = SwappedEnvironment(store, tiny_budget, "elsewhere", "")
    swapped.reset(path=operation.path)
    images, seconds = shown(swapped, 10, 20)
    later = float(seconds[0].strip(" s")) + operation.duration / 2
    there, _ = store.frames(operation.path, [later], tiny_budget.crop_pixels)
    assert np.array_equal(np.asarray(images[0]), np.asarray(there[0]))


def test_blank_frames_are_grey(store, operation, tiny_budget):
    swapped = SwappedEnvironment(store, tiny_budget, "blank", "")
    swapped.reset(path=operation.path)
    assert all(np.ptp(np.asarray(image)) == 0 for image in shown(swapped, 10, 20)[0])


def test_another_video_is_of_the_same_family(operation, clip):
    second = replace(operation, video="second", path="second.mp4")
    found = other_videos({r.video: r for r in (operation, clip, second)})
    assert found == {operation.video: "second.mp4", "second": operation.path, clip.video: clip.path}


def outcomes_of(recording, accuracies, confidences=None):
    asked = questions(recording, np.random.default_rng(0))
    call = ToolCall("crop_video", {"start_time": 0, "end_time": 10}, executed=True)
    confidences = confidences or [0.5] * len(accuracies)
    return [
        Outcome(
            asked[i % len(asked)], ("t",), (call,), a, 1.0, 0.0, 0.2, hit=i == 0, confidence=c, tokens=10, tool_frames=8
        )
        for i, (a, c) in enumerate(zip(accuracies, confidences, strict=True))
    ]


def test_the_audit_replays_right_answers_only(policy, operation, store, tiny_budget):
    recordings = {operation.video: operation}
    found = audit(
        policy, outcomes_of(operation, [1, 1, 0.5, 0]), recordings, store, replace(tiny_budget, max_turn_tokens=4), 9
    )
    assert found["right"] == 2 and found["contains_evidence"] == 0.5 and found["wrong_window"] == 0.5
    assert all(found[f"flip_{swap}"] == 1 for swap in SWAPS)  # an untrained policy is never right
    nothing = audit(policy, [], recordings, store, tiny_budget, 9)
    assert nothing["right"] == 0 and nothing["flip_blank"] is None


def test_economy_reliability_and_risk_by_hand(operation):
    some = outcomes_of(operation, [1, 0, 1, 1], [0.9, 0.2, 0.4, 0.8])
    assert economy(some) == {"calls": 1, "tool_frames": 8, "tokens": 10}
    assert reliability(some, bins=2) == [
        {"confidence": pytest.approx(0.3), "accuracy": 0.5, "answers": 2},
        {"confidence": pytest.approx(0.85), "accuracy": 1.0, "answers": 2},
    ]
    assert calibration_error(some, bins=2) == pytest.approx((0.2 + 0.15) / 2)
    coverage, risk = risk_coverage(some)
    assert coverage.tolist() == [0.25, 0.5, 0.75, 1] and risk.tolist() == [0, 0, 0, 0.25]
