"""The example of docs/adding_a_source.md, run as it stands there, on videos of this test."""

import re
from pathlib import Path

import numpy as np
from media import grey_frames, write_mp4

from medscope.records import Text, Window
from medscope.sources.source import Source

PAGE = Path(__file__).parents[1] / "docs" / "adding_a_source.md"


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)


def test_the_page_runs_from_a_folder_of_videos_to_tasks_and_trajectories(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("cases").mkdir()
    [table] = blocks("csv")
    for number in range(12):
        write_mp4(f"cases/case_{number:02}.mp4", np.arange(98), grey_frames(98))
        Path(f"cases/case_{number:02}.csv").write_text(table)
    source, build = blocks("python")
    names = {"__name__": "page"}
    exec(source, names)
    exec(build, names)

    suite = names["suite"]
    printed = capsys.readouterr().out
    assert printed == f"{len(suite.tasks)} tasks, {len(suite.trajectories)} trajectories; rejected: {{}}\n"
    example: Source = names["CsvSource"](Path("cases"))
    assert [r.video for r in example.recordings()] == [r.video for r in suite.recordings]
    closed = [task for task in suite.tasks if not task.free_text and task.video == "case_00"]
    assert [(task.kind, task.subject, task.reference) for task in closed] == [
        ("instrument", "incision", Text("blade")),
        ("grounding", "incision", Window(0, 41.5)),
        ("order", "incision", Text("aspiration")),
        ("instrument", "aspiration", Text("probe")),
        ("grounding", "aspiration", Window(41.5, 97)),
    ]
    assert closed[0].collection == "cases" and closed[0].path == "cases/case_00.mp4"
    assert suite.trajectories and all(trajectory.task.split == "sft" for trajectory in suite.trajectories)
