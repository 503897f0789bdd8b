"""Contrasts of systems, gains, and what is withheld: by hand."""

from dataclasses import replace

import numpy as np
import pytest
from predicted import crop, prediction, task

from medscope.evaluation.benchmark import per_question
from medscope.evaluation.comparison import contrast, difference_text, gains_table, row
from medscope.records import ToolCall, Window

TASKS = [task(n, "hook", Window(0, 10), video=f"v{n // 2}") for n in range(8)]


def answers(*accuracies, tasks=TASKS):
    return [prediction(t, "hook", float(a), [crop(0, 10)]) for t, a in zip(tasks, accuracies, strict=True)]


def run(*accuracies, tasks=TASKS):
    return per_question(answers(*accuracies, tasks=tasks))


def elsewhere(scores):
    """The same questions about other videos, as in another world."""
    return scores.assign(video="other/" + scores["video"])


def test_a_contrast_is_paired_by_seed_and_question():
    after, before = [run(*[1] * 8), run(*[1] * 4, *[0] * 4)], [run(*[1] * 4, *[0] * 4), run(*[0] * 8)]
    found = contrast({"rl": after, "sft": before}, {"rl": 1, "sft": -1}, ["accuracy", "evidence_miou", "tg_miou"])
    assert list(found) == ["accuracy", "evidence_miou"], "no task counts for tg_miou"
    assert found["accuracy"].mean == 0.5 and found["accuracy"].per_seed == (0.5, 0.5)
    assert found["evidence_miou"].mean == 0 and found["evidence_miou"].ci == (0, 0)
    reordered = contrast({"rl": after, "sft": [some.iloc[::-1] for some in before]}, {"rl": 1, "sft": -1}, ["accuracy"])
    assert reordered["accuracy"] == found["accuracy"]


def test_a_system_of_one_run_stands_against_every_seed():
    found = contrast(
        {"rl": [run(*[1] * 8), run(*[0] * 8)], "sft": [run(*[1, 0] * 4)]}, {"rl": 1, "sft": -1}, ["accuracy"]
    )
    assert found["accuracy"].per_seed == (0.5, -0.5)


def test_an_interaction_is_a_contrast_of_four():
    runs = {
        "both": [run(*[1] * 8)],
        "one": [run(*[1] * 4, *[0] * 4)],
        "two": [run(*[1] * 4, *[0] * 4)],
        "none": [run(*[0] * 8)],
    }
    weights = {"both": 1, "one": -1, "two": -1, "none": 1}
    assert contrast(runs, weights, ["accuracy"])["accuracy"].mean == 0


def test_systems_of_other_videos_are_independent_and_those_of_one_are_paired():
    rng = np.random.default_rng(0)
    first, second = run(*rng.integers(0, 2, 8)), run(*rng.integers(0, 2, 8))
    paired = contrast({"a": [first], "b": [second]}, {"a": 1, "b": -1}, ["accuracy"])["accuracy"]
    apart = contrast({"a": [first], "b": [elsewhere(second)]}, {"a": 1, "b": -1}, ["accuracy"])["accuracy"]
    assert paired.mean == apart.mean
    alone = [contrast({"a": [some], "0": [run(*[0] * 8)]}, {"a": 1, "0": -1}, ["accuracy"])["accuracy"].se
             for some in (first, second)]  # fmt: skip
    assert apart.se == pytest.approx((alone[0] ** 2 + alone[1] ** 2) ** 0.5, rel=1e-6)
    four = {"a": [first], "b": [first], "c": [elsewhere(second)], "d": [elsewhere(second)]}
    gap = contrast(four, {"a": 1, "b": -1, "c": -1, "d": 1}, ["accuracy"])["accuracy"]
    assert gap.mean == 0 == gap.se, "within a world the pairs cancel"


@pytest.mark.parametrize(
    "runs, weights, metric, message",
    [
        ({"a": [run(*[1] * 8)]}, {"a": 1}, "accuracy", "add up to 0, not to 1"),
        ({"a": [run(*[1] * 8)] * 2, "b": [run(*[1] * 8)] * 3}, {"a": 1, "b": -1}, "accuracy", "as many seeds"),
        ({"a": [run(*[1] * 8)], "b": [run(*[1] * 7, tasks=TASKS[:7])]}, {"a": 1, "b": -1}, "accuracy", "no prediction"),
        ({"a": [run(*[1] * 8)], "b": [per_question([])]}, {"a": 1, "b": -1}, "accuracy", "no prediction"),
    ],
)
def test_what_cannot_be_compared_is_refused(runs, weights, metric, message):
    with pytest.raises(ValueError, match=message):
        contrast(runs, weights, [metric])


def test_a_task_with_two_predictions_is_refused():
    twice = run(1, 1, tasks=[TASKS[0], TASKS[0]])
    with pytest.raises(ValueError, match="b has two predictions for set:0"):
        contrast({"a": [run(1, tasks=TASKS[:1])], "b": [twice]}, {"a": 1, "b": -1}, ["accuracy"])


def test_a_metric_of_other_tasks_in_every_run_is_refused():
    refused = ToolCall("crop_video", {}, message="no number")
    before = answers(*[1] * 8)
    after = [replace(before[0], calls=(refused, crop(0, 10))), *before[1:]]
    with pytest.raises(ValueError, match="recovery counts other tasks"):
        contrast({"a": [per_question(after)], "b": [per_question(before)]}, {"a": 1, "b": -1}, ["recovery"])


def test_the_row_of_metrics_says_what_is_excluded():
    found = row(contrast({"a": [run(*[1] * 8)], "b": [run(*[1, 0] * 4)]}, {"a": 1, "b": -1}, ["accuracy"])["accuracy"])
    assert found == {"mean": 0.5, "ci": [0.5, 0.5], "per_seed": [0.5], "p": 0.0, "no_larger_than": 0.5}
    one = [task(0, "hook")]
    alone = row(
        contrast({"a": [run(1, tasks=one)], "b": [run(0, tasks=one)]}, {"a": 1, "b": -1}, ["accuracy"])["accuracy"]
    )
    assert (alone["mean"], alone["ci"], alone["p"], alone["no_larger_than"]) == (1, None, None, None)
    assert difference_text(1.0, None) == "+1.000"


def test_gains_are_withheld_on_a_set_without_claims():
    asked = [*TASKS, *(task(n, "hook", collection="far", video=f"w{n}") for n in range(3))]
    before, after = answers(*[0, 1] * 4, 0, 0, 1, tasks=asked), answers(*[1] * 11, tasks=asked)
    gains = gains_table(before, after, {"set": None, "far": "VQA of oracle is 0.50, less than 0.7"})
    assert gains["set"]["accuracy"] == "+0.500 [+0.500, +0.500]"
    assert gains["far"] == {"withheld": "VQA of oracle is 0.50, less than 0.7"}
    assert gains_table(before, after)["far"]["accuracy"].startswith("+0.667 [")
    with pytest.raises(ValueError, match="no prediction for far:0"):
        gains_table(before[:8], after)
