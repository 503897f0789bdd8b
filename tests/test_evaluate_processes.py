"""Notebook 06's work in several processes: what they write is what one writes; an endpoint is asked by one."""

import shutil
from dataclasses import replace

import pytest
from flat import LANGUAGE

from medscope.environment import FrameStore
from medscope.evaluation.predictions import Prediction
from medscope.files import read_jsonl, write_jsonl
from medscope.pipeline.evaluate import answer_suite
from medscope.pipeline.parameters import stage_parameters
from medscope.records import Task, Text
from medscope.suite.build import build_suite
from medscope.training.processes import on_processes


class Drawn:
    """A source of recordings for evaluation."""

    language = LANGUAGE

    def __init__(self, *recordings):
        self.made = [replace(recording, split="eval") for recording in recordings]

    def recordings(self):
        return iter(self.made)


def asked(folder, **changes):
    return stage_parameters("evaluate", [f"folder={folder}", *(f"{k}={v}" for k, v in changes.items())], smoke=True)


def say_yes(file):
    """Every question of an operation is answered by "yes", as the policy answers all: then there is much to replay."""
    tasks = read_jsonl(file, Task)
    yes = [replace(t, reference=Text("yes")) if isinstance(t.reference, Text) and not t.free_text else t for t in tasks]
    write_jsonl(file, yes)


@pytest.mark.slow
def test_two_processes_write_what_one_writes(caller, operation, tiny_budget, tmp_path):
    """The same turns, replays and descriptions; a confidence may differ in its last digits."""
    written = []
    for processes in (1, 2):
        home = tmp_path / str(processes)
        again = replace(operation, video="again", path=str(shutil.copy(operation.path, tmp_path / "again.mp4")))
        drawn = Drawn(operation, replace(again, group="again"))
        build_suite(home / "data" / "suite", drawn, FrameStore(), tiny_budget, captioned=0)
        say_yes(home / "data" / "suite" / "tasks.jsonl")
        caller.save(home / "checkpoints" / "caller")
        answered = on_processes(processes, answer_suite, asked(home, checkpoint="caller", processes=processes))
        files = [home / "predictions" / f"sft{part}.jsonl" for part in ("", ".audit", ".free_text")]
        found = [read_jsonl(file, Prediction) for file in files]
        assert [len(part) for part in found] == [
            len(part) for part in (answered.predictions, answered.replays, answered.described)
        ]
        written.append([[(p.task.id, p.system, p.turns, p.calls, p.accuracy) for p in part] for part in found])
    assert written[0] == written[1] and all(len(part) > 3 for part in written[0])


def test_an_endpoint_is_refused_on_several_processes(tmp_path, monkeypatch, operation, tiny_budget):
    build_suite(tmp_path / "data" / "suite", Drawn(operation), FrameStore(), tiny_budget, captioned=0)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match=r"processes=2: an endpoint is asked by one process"):
        answer_suite(asked(tmp_path, model="endpoint", checkpoint="''"))
