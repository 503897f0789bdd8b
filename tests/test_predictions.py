"""Predictions on disk: self-contained, and enough for every table without a model."""

import grimp
import pytest
from predicted import crop, prediction, task

from medscope.evaluation.benchmark import benchmark_table, gains_table, paired, per_question, score
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


def test_every_metric_by_hand():
    columns = {name: values for name, (values, _) in per_question(answered()[:3]).items()}
    assert columns == {
        "tg_r30": [1], "tg_r50": [1], "tg_r70": [0], "tg_miou": [0.5],
        "vqa_miou": [0, pytest.approx(2 / 100)], "vqa_acc": [1, 0],
        "evidence_miou": [0.5, 0, pytest.approx(2 / 100)],
        "evidence_recall": [1, 0, 1], "evidence_precision": [0.5, 0, 1],
        "accuracy": [1, 1, 0], "format": [1, 1, 1], "tool_calls": [1, 2, 2],
    }  # fmt: skip


def test_a_text_with_two_numbers_is_no_grounding_task():
    assert per_question(answered()[3:])["tg_miou"] == ([], [])
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
        "descriptions",
        "protocol",
        "studies.ablations",
        "studies.baselines",
        "studies.seeds",
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


def test_a_paired_difference_needs_the_same_tasks_in_any_order():
    after, before = answered()[:3], answered()[2::-1]
    assert paired([after], [before], ["accuracy"])["accuracy"]["mean"] == 0
    with pytest.raises(ValueError, match="sft has no prediction for set:2, which sft has"):
        paired([after], [before[1:]], ["accuracy"])


def test_a_subset_is_compared_on_its_own_tasks():
    assert [p.task.id for p in aligned(answered(), answered()[1:2])] == ["set:1"]


def test_gains_per_eval_set_by_hand():
    before, after = answered(), answered()
    after[0] = prediction(TASKS[0], "from 10 to 20 s", 1.0, [crop(10, 20)])
    gains = gains_table(before, after)
    assert gains["set"]["tg_r70"] == "+1.000 [+1.000, +1.000]"
    assert gains["set"]["evidence_miou"].startswith("+0.167 [+0.000, ")
    assert "tg_r70" not in gains["other"] and gains["other"]["accuracy"] == "+0.000 [+0.000, +0.000]"


def test_eval_sets_are_data():
    assert {name: len(some) for name, some in by_set(answered()).items()} == {"set": 3, "other": 1}
