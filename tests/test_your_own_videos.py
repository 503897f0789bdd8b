"""docs/your_own_videos.md: its commands and its code run on films of this test, and its tables name what there is."""

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from dicoms import write_pictures
from media import grey_frames, write_mp4

from medscope.records import Task, Text, Window
from medscope.sources.__main__ import main
from medscope.sources.annotations.formats import FORMATS
from medscope.sources.make import DRAWN, SOURCES
from medscope.suite.splits import assign_splits
from medscope.suite.tasks import closed_tasks

PAGE = (Path(__file__).parents[1] / "docs" / "your_own_videos.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
COMMANDS = [line for line in PAGE.splitlines() if line.startswith("python -m medscope.sources")]
[TABLE] = re.findall(r"^```\n(video,start.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


@pytest.fixture
def data(tmp_path, monkeypatch):
    """/data of the page: three films and a DICOM cine."""
    for name, seed in (("case_07", 0), ("case_08", 1), ("theatre/case_09", 2)):
        path = tmp_path / "videos" / f"{name}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_mp4(path, np.arange(170), np.roll(grey_frames(170), seed, axis=0))
    (tmp_path / "dicom").mkdir()
    write_pictures(tmp_path / "dicom" / "us.dcm", grey_frames(8), FrameTime="40")
    (tmp_path / "phases.csv").write_text(TABLE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_commands(data, capsys):
    assert len(COMMANDS) == 3
    for command in COMMANDS:
        assert main(shlex.split(command.replace("/data", str(data)))[3:]) == 0
        assert {file.name for file in Path("look").iterdir()} == {"manifest.jsonl", "quarantine.jsonl"}
    assert "annotations: 2 of 2 fit a video" in capsys.readouterr().out


def test_the_source_asks_about_the_annotations(data, capsys):
    names = {}
    exec(BLOCKS[0].replace("/data", str(data)), names)
    assert capsys.readouterr().out.startswith("case_07 17")
    [recording] = assign_splits(names["source"].recordings())
    asked = closed_tasks(recording, names["source"].language, np.random.default_rng(0))
    assert [(task.kind, task.subject, task.reference) for task in asked] == [
        ("instrument", "incision", Text("blade")),
        ("grounding", "incision", Window(0, 90)),
        ("order", "incision", Text("closing")),
        ("instrument", "closing", Text("needle")),
        ("grounding", "closing", Window(90, 161.5)),
    ]


def test_corrections():
    task = Task("q1", "case_07", "case_07.mp4", "When?", Text("yes"), Window(10, 20), "grounding", "eval", "ours")
    before, after = BLOCKS[1].split("# ... import it")
    names = {"tasks": [task]}
    exec(before, names)
    [sent] = json.loads(names["text"])
    assert sent["data"]["video"] == "/data/local-files/?d=case_07.mp4"
    sent["annotations"][0]["result"][0]["value"]["ranges"] = [{"start": 301, "end": 500}]
    names["exported"] = json.dumps([sent])
    exec(after.partition("\n")[2], names)
    assert names["tasks"][0].evidence == Window(12, 20) and names["removed"] == []


def test_tables_name_every_format_and_every_source():
    assert all(f"`{name}`" in PAGE for name in FORMATS)
    assert all(f"`{name}`" in PAGE for name in SOURCES if name not in DRAWN)
