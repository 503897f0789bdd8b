"""The files that verl reads. What verl does with them: tests/test_verl.py, in verl's environment (make verl-test)."""

import json
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet
import pytest
import yaml
from PIL import Image

from medscope.exports.__main__ import main
from medscope.exports.verl.rows import FRAMES, ROWS, TEMPLATE, TOOL_FILE, export_verl
from medscope.files import write_jsonl
from medscope.records import Task, Text, Window
from medscope.suite.suite import Suite


@pytest.fixture
def suite(operation, tmp_path):
    recording = replace(operation, split="rl")
    task = Task(
        id="one", video=recording.video, path=recording.path, question="What is used?", reference=Text("probe"),
        evidence=Window(10, 20), kind="instrument", split="rl", collection="ours",
    )  # fmt: skip
    write_jsonl(tmp_path / "suite" / "recordings.jsonl", [recording])
    write_jsonl(tmp_path / "suite" / "tasks.jsonl", [task, replace(task, id="two", question="And now?")])
    return Suite(tmp_path / "suite")


def test_rows_hold_the_prompt_the_frames_and_the_task(suite, tiny_budget, tmp_path, operation):
    assert export_verl(suite, tmp_path / "out", tiny_budget) == 2
    rows = pyarrow.parquet.read_table(tmp_path / "out" / ROWS).to_pylist()
    text = rows[0]["prompt"][1]["content"]
    assert text.count("<image>") == len(rows[0]["images"]) == tiny_budget.skim_frames
    assert text.endswith("\nWhat is used? Look closely first.") and f" end {operation.duration:g}s" in text
    assert rows[0]["images"] == rows[1]["images"], "the frames of a video are written once"
    frame = rows[0]["images"][0]
    with Image.open(frame["image"]) as image:
        assert image.width * image.height <= frame["max_pixels"] == tiny_budget.skim_pixels
    task = json.loads(rows[0]["extra_info"]["task"])
    assert task["reference"] == {"text": "probe"} and task["evidence"] == {"start": 10.0, "end": 20.0}
    assert "probe" not in json.dumps(rows[0]["prompt"]), "the prompt gives the answer away"
    kwargs = rows[0]["extra_info"]["tools_kwargs"]
    assert {one["create_kwargs"]["path"] for one in kwargs.values()} == {operation.path}


def test_tools_hold_the_budget(suite, tiny_budget, tmp_path):
    export_verl(suite, tmp_path, tiny_budget)
    tools = yaml.safe_load((tmp_path / TOOL_FILE).read_text("utf-8"))["tools"]
    assert [tool["tool_schema"]["function"]["name"] for tool in tools] == ["crop_video", "get_frame"]
    assert all(tool["config"]["budget"]["crop_frames"] == tiny_budget.crop_frames for tool in tools)
    assert "tool_response" in (tmp_path / TEMPLATE).read_text("utf-8")


def test_an_export_goes_on_with_the_frames_that_it_has(suite, tiny_budget, tmp_path):
    export_verl(suite, tmp_path, tiny_budget)
    [folder] = (tmp_path / FRAMES).iterdir()
    before = folder.stat().st_mtime_ns
    export_verl(suite, tmp_path, tiny_budget)
    assert folder.stat().st_mtime_ns == before
    export_verl(suite, tmp_path, replace(tiny_budget, skim_frames=4))
    assert len(list((tmp_path / FRAMES).iterdir())) == 2


def test_the_benchmark_is_never_exported(suite, tiny_budget, tmp_path):
    tasks = [replace(task, split="eval") for task in suite.tasks]
    with pytest.raises(ValueError, match="split eval"):
        export_verl(suite, tmp_path / "out", tiny_budget, tasks)
    assert not (tmp_path / "out" / ROWS).exists()


def test_command_line(suite, tmp_path, capsys):
    budget = tmp_path / "budget.json"
    budget.write_text('{"skim_frames": 3, "skim_pixels": 784}')
    assert main(["verl", str(suite.folder), "--out", str(tmp_path / "out"), "--budget", str(budget)]) == 0
    assert "2 tasks" in capsys.readouterr().out
    assert len(list(Path(tmp_path / "out" / FRAMES).rglob("*.jpg"))) == 3
