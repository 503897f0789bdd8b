"""Free-text predictions: which are asked, how they are scored and rated, and how predictions were made."""

import pytest
from predicted import crop, prediction, task

from medscope.environment import ToolBudget
from medscope.evaluation import text_metrics
from medscope.evaluation.descriptions import descriptions_table, free_text_groups, rated
from medscope.evaluation.protocol import merged_protocol, protocol

KINDS = ("full", "fine", "temporal", "perception")


@pytest.fixture(autouse=True)
def without_java(monkeypatch):
    """METEOR would start Java, which takes seconds."""
    monkeypatch.setattr(text_metrics.shutil, "which", lambda _: None)


def asked(number, kind, collection="set"):
    return task(number, "the hook cuts the tissue apart", kind=kind, collection=collection, free_text=True)


def test_tasks_are_asked_per_set_and_kind_and_without_tools_only_what_the_skim_shows():
    tasks = [asked(n, kind, name) for name in ("set", "other") for n, kind in enumerate(KINDS * 5)]
    groups = free_text_groups(tasks, 2, tools=True)
    assert [(g[0].collection, g[0].kind, len(g)) for g in groups] == [
        (n, k, 2) for n in ("set", "other") for k in KINDS
    ]
    assert [task.id for task in groups[0]] == ["set:0", "set:16"], "spread over the list, not its first ones"
    assert {g[0].kind for g in free_text_groups(tasks, None, tools=False)} == {"full", "temporal"}
    assert all(len(g) == 5 for g in free_text_groups(tasks, None, tools=True))


def test_the_table_by_hand():
    predictions = [
        prediction(asked(0, "fine"), "the hook cuts the tissue apart", 1.0, [crop(0, 10)]),
        prediction(asked(1, "fine"), "", 0.0),
        prediction(asked(2, "full"), "the hook cuts the tissue apart", 1.0),
    ]
    table = descriptions_table({"sft": predictions})
    assert list(table) == ["set"] and list(table["set"]) == ["fine sft", "full sft"]
    row = table["set"]["fine sft"]
    assert (row["exact"], row["looked"], row["questions"]) == (0.5, 0.5, 2)
    assert row["ROUGE-L"] == pytest.approx(50) and "CI" not in row


def test_descriptions_are_rated_and_reasoning_is_not(endpoint):
    predictions = [prediction(asked(n, kind), "the hook") for n, kind in enumerate(("full", "perception"))]
    ask, server = endpoint(["4"])
    found = rated(predictions, ask)
    assert [p.ratings for p in found] == [{"CI": 4, "DO": 4, "CU": 4, "TU": 4}, {}]
    assert len(server.requests) == 4
    table = descriptions_table({"sft": found})["set"]
    assert table["full sft"]["CI"] == 4 and "CI" not in table["perception sft"]


def test_the_protocol_names_sets_budget_judge_and_decoding(monkeypatch):
    monkeypatch.setenv("MEDSCOPE_JUDGE_MODEL", "a-judge")
    predictions = [prediction(task(n, "x", collection=name, domain=domain), "x")
                   for n, (name, domain) in enumerate((("a", "in"), ("a", "in"), ("b", "out")))]  # fmt: skip
    found = protocol(predictions, ToolBudget(skim_frames=7), "pyav", "llm", temperature=1.0)
    assert found["eval_sets"] == [{"name": "a", "domain": "in", "tasks": 2}, {"name": "b", "domain": "out", "tasks": 1}]
    assert (found["skim_frames"], found["judge"], found["decoder"]) == (7, "a-judge", "pyav")
    assert found["decoding"] == "sampled at temperature 1"
    greedy = protocol(predictions, ToolBudget(skim_frames=7), "pyav", "exact")
    merged = merged_protocol({"sft": greedy, "sft_sampled": found})
    assert merged["skim_frames"] == 7 and merged["judge"] == {"sft": "exact", "sft_sampled": "a-judge"}
