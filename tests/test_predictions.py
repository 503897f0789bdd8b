"""Predictions on disk: self-contained, and enough for every table without a model."""

from dataclasses import replace

import grimp
import pytest
from predicted import crop, prediction, task

from medscope.evaluation.benchmark import (
    METRICS,
    benchmark_table,
    good,
    missed,
    per_question,
    revised,
    score,
    valid_sets,
)
from medscope.evaluation.predictions import Prediction, aligned, by_set
from medscope.files import read_jsonl, write_jsonl
from medscope.records import Text, Timestamp, ToolCall, Window

TASKS = [
    task(0, Window(10, 20), video="a"),
    task(1, "hook", Window(10, 20), video="b"),
    task(2, "hook", Timestamp(5), video="b"),
    task(3, "10-0 nylon suture", Window(0, 10), video="c", collection="other", domain="out"),
]


def answered():
    """By hand: an answer window of IoU .5, looks of IoU .5, 0 and none, a right answer after a frame."""
    frame = ToolCall("get_frame", {"timestamp": 6.0}, Timestamp(6), seconds=(5.9, 6.0, 6.1))
    refused = ToolCall("crop_video", {"start_time": "x"}, message="no number")
    return [
        prediction(TASKS[0], "from 10 to 15 s", 1.0, [crop(10, 30)], tokens=12, confidence=0.25),
        prediction(TASKS[1], "hook", 1.0, [crop(30, 40), refused], tool_frames=8),
        prediction(TASKS[2], "blade", 0.0, [crop(0, 100), frame]),
        prediction(TASKS[3], "a thread", 0.5, system="sft"),
    ]


def counted(scores):
    return {metric: scores[metric].dropna().tolist() for metric in METRICS}


def test_every_metric_by_hand():
    scores = per_question(answered()[:3])
    assert scores.index.tolist() == [t.id for t in TASKS[:3]] and scores["set"].tolist() == ["set"] * 3
    assert counted(scores) == {
        "tg_r30": [1], "tg_r50": [1], "tg_r70": [0], "tg_miou": [0.5],
        "vqa_miou": [0, pytest.approx(2 / 100)], "vqa_acc": [1, 0],
        "evidence_miou": [0.5, 0, pytest.approx(2 / 100)],
        "evidence_recall": [1, 0, 1], "evidence_precision": [0.5, 0, 1],
        "accuracy": [1, 1, 0], "format": [1, 1, 1],
        "calls": [1, 2, 2], "two_looks": [0, 0, 1], "calls_over_minimum": [],
        "recovery": [1], "revision": [0, 0, 0],
    }  # fmt: skip


def test_calls_over_the_minimum_count_tasks_that_say_what_they_need():
    asked = [task(0, "hook", least_calls=2), task(1, "hook", least_calls=1), task(2, "hook")]
    looks = [[crop(0, 10)], [crop(0, 10)] * 3, [crop(0, 10)]]
    scores = per_question([prediction(a, "hook", calls=some) for a, some in zip(asked, looks, strict=True)])
    assert counted(scores)["calls_over_minimum"] == [-1, 2] and scores["video"].tolist() == ["a"] * 3


def test_recovery_is_of_tasks_with_a_refused_call():
    refused = ToolCall("crop_video", {"start_time": "x"}, message="no number")
    asked = [task(n, "hook", video=f"v{n}") for n in range(3)]
    fine, lost = (prediction(a, "hook", calls=[refused, crop(0, 10)]) for a in asked[:2])
    lost = replace(lost, turns=(*lost.turns[:-1], "<think>it</think>"))
    others = [prediction(asked[2], "hook", calls=[crop(0, 10)])]
    assert per_question([fine, lost, *others])["recovery"].dropna().to_dict() == {"set:0": 1, "set:1": 0}
    assert score(others)["recovery"] is None is score(others)["recovery_ci"]


@pytest.mark.parametrize(
    "evidence, looked, wrong, right",
    [
        (Window(10, 20), Window(30, 40), True, False),
        (Window(10, 20), Window(18, 30), True, False),  # IoU .1
        (Window(10, 20), Window(0, 100), False, False),  # IoU .1, and it contains the evidence
        (Window(10, 20), Window(14, 24), False, False),  # IoU .43
        (Window(10, 20), Window(10, 15), False, True),  # IoU .5
        (Timestamp(5), Window(4, 60), False, True),
        (Timestamp(5), Window(6, 8), True, False),
    ],
)
def test_a_crop_is_at_the_wrong_window_good_or_neither(evidence, looked, wrong, right):
    assert (missed(looked, evidence), good(looked, evidence)) == (wrong, right)


@pytest.mark.parametrize(
    "windows, found",
    [([(30, 40), (0, 10)], True), ([(0, 10), (30, 40)], False), ([(30, 40), (50, 60)], False),
     ([(0, 100), (0, 10)], False),
     ([(30, 40)], False), ([], False), ([(30, 40), (60, 70), (1, 10)], True)],
)  # fmt: skip
def test_a_revision_goes_from_a_wrong_window_to_a_good_one(windows, found):
    assert revised(prediction(task(0, "hook"), calls=[crop(*window) for window in windows])) is found


def test_a_refused_first_crop_is_no_first_look():
    refused = ToolCall("crop_video", {"start_time": 30, "end_time": 40}, message="used up")
    assert not revised(prediction(task(0, "hook"), calls=[refused, crop(0, 10)]))


def vqa(**systems):
    return {name: {"set": {"vqa_acc": value}} for name, value in systems.items()}


def test_claims_hold_where_the_oracle_can_answer_and_the_blind_cannot():
    assert valid_sets(vqa(oracle=0.7, blind=0.25)) == {"set": None}
    assert valid_sets(vqa(oracle=0.69, blind=0.25)) == {"set": "VQA of oracle is 0.69, less than 0.7"}
    assert valid_sets(vqa(oracle=0.9, blind=0.3)) == {"set": "VQA of blind is 0.30, more than 0.25"}
    assert valid_sets(vqa(rl=1.0, oracle=0.1)) == {
        "set": "VQA of oracle is 0.10, less than 0.7; VQA of blind was not measured"
    }
    assert valid_sets(vqa(ceiling=0.9, prior=0.1), "ceiling", "prior") == {"set": None}
    assert valid_sets(vqa(oracle=None, blind=0.1)) == {"set": "VQA of oracle was not measured"}


def test_a_text_with_two_numbers_is_no_grounding_task():
    assert counted(per_question(answered()[3:]))["tg_miou"] == []
    assert score(answered()[3:])["tg_miou"] is None


def test_a_grounding_answer_is_scored_against_the_reference_not_the_evidence():
    asked = task(0, Window(10, 20), evidence=Window(0, 100))
    assert score([prediction(asked, "from 10 to 20 s")])["tg_miou"] == 1


def test_tables_from_disk_equal_tables_in_memory(tmp_path):
    predictions = answered()
    write_jsonl(tmp_path / "sft.jsonl", predictions)
    stored = read_jsonl(tmp_path / "sft.jsonl", Prediction)
    assert stored == predictions
    assert benchmark_table({"sft": stored}) == benchmark_table({"sft": predictions})
    assert list(benchmark_table({"sft": stored})["sft"]) == ["set", "other"]
    assert stored[3].task.reference == Text("10-0 nylon suture")


def test_tables_need_no_policy():
    graph = grimp.build_graph("medscope", cache_dir=None)
    tables = [
        "audit",
        "benchmark",
        "comparison",
        "descriptions",
        "protocol",
        "studies.ablations",
        "studies.study",
    ]
    needed = set().union(*(graph.find_upstream_modules(f"medscope.evaluation.{name}") for name in tables))
    assert "medscope.metrics" in needed
    assert not [module for module in needed if module.startswith(("medscope.agents", "medscope.training"))]


def test_the_properties_of_a_prediction():
    first, second, third, fourth = answered()
    assert first.answer == "from 10 to 15 s" and first.window == Window(10, 30)
    assert second.looks == second.calls[:1] and second.last_look == Window(30, 40)
    assert third.last_look == Timestamp(6) and third.window == Window(0, 100)
    assert fourth.last_look is None is fourth.window


def test_a_subset_is_compared_on_its_own_tasks():
    assert [p.task.id for p in aligned(answered(), answered()[1:2])] == ["set:1"]


def test_eval_sets_are_data():
    assert {name: len(some) for name, some in by_set(answered()).items()} == {"set": 3, "other": 1}
