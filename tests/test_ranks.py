"""Work shared by several processes and merged: the same suite and the same predictions as in one."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from flat import LANGUAGE

from medscope.agents.policy import load_policy
from medscope.environment import FrameStore
from medscope.evaluation.predict import predict
from medscope.ranks import gathered, merged, own_part, process_index
from medscope.sources.rendered.camera import write_video
from medscope.sources.rendered.collections import sample_recording
from medscope.sources.rendered.questions import LANGUAGE as NESTED_LANGUAGE
from medscope.suite.build import build_suite
from medscope.suite.suite import Suite
from medscope.training.processes import on_processes


class Drawn:
    """A source that only the first process may draw."""

    language = LANGUAGE

    def __init__(self, *recordings):
        self.made = recordings

    def recordings(self):
        assert process_index() == 0
        return iter(self.made)


def built_and_answered(folder, source, budget, checkpoint):
    """Why trajectories were rejected, and predictions in batches of two tasks."""
    torch.set_num_threads(1)
    import medscope.evaluation.predict as module

    module.MAX_ROWS = 2
    rejected = build_suite(folder, source, FrameStore(), budget, captioned=5)
    tasks = [task for task in Suite(folder).tasks if task.challenging and not task.free_text][:7]
    found = predict(load_policy(checkpoint), tasks, FrameStore(), budget, "shared")
    return gathered((dict(rejected), [(p.task.id, p.turns, p.confidence) for p in found]))


@pytest.mark.slow
def test_the_suite_and_the_predictions_of_three_processes_are_those_of_one(
    caller, operation, clip, tiny_budget, tmp_path, monkeypatch
):
    monkeypatch.setattr("medscope.evaluation.predict.MAX_ROWS", 2)
    source = Drawn(operation, replace(clip, split="warm_up"))
    checkpoint = caller.save(tmp_path / "caller")
    alone = on_processes(1, built_and_answered, tmp_path / "alone", source, tiny_budget, checkpoint)
    every = on_processes(3, built_and_answered, tmp_path / "shared", source, tiny_budget, checkpoint)
    assert len(alone[0][1]) == 7
    for rejected, found in every:
        assert list(rejected.items()) == list(alone[0][0].items())
        assert [row[:2] for row in found] == [row[:2] for row in alone[0][1]]
        assert [row[2] for row in found] == pytest.approx([row[2] for row in alone[0][1]], abs=1e-6)
    files = sorted(file.name for file in (tmp_path / "alone").iterdir())
    assert "trajectories.jsonl" in files and files == sorted(file.name for file in (tmp_path / "shared").iterdir())
    for name in files:
        assert (tmp_path / "shared" / name).read_bytes() == (tmp_path / "alone" / name).read_bytes(), name
    trajectories = (tmp_path / "shared" / "trajectories.jsonl").read_text().splitlines()
    assert len({json.loads(line)["task"]["id"] for line in trajectories}) > 3


def nested_suite(folder, source, budget):
    """Write the suite of nested recordings; how many searches every process made."""
    import medscope.suite.search_warm_up as module

    searched, look = [], module._looks
    module._looks = lambda task, *given: searched.append(task.id) or look(task, *given)
    build_suite(folder, source, FrameStore(), budget, captioned=50, recalled=5, captioned_frames_per_video=2)
    return gathered(len(searched))


@pytest.mark.slow
def test_the_searches_of_nested_recordings_are_shared_by_processes(tiny_budget, tmp_path):
    made = []
    for number in range(2):
        rng = np.random.default_rng(number)
        made.append(sample_recording("clips", f"c{number}", "warm_up", tmp_path / f"{number}.mp4", 16, 0.2, rng))
        write_video(made[-1])
    source, budget = Drawn(*made), replace(tiny_budget, skim_frames=16, max_calls=6)
    source.language = NESTED_LANGUAGE
    one = on_processes(1, nested_suite, tmp_path / "alone", source, budget)
    both = on_processes(2, nested_suite, tmp_path / "shared", source, budget)
    assert sum(both) == one[0] > 8 and max(both) < 0.7 * one[0]
    for file in (tmp_path / "alone").iterdir():
        assert (tmp_path / "shared" / file.name).read_bytes() == file.read_bytes(), file.name


def test_every_item_belongs_to_one_process(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "3")
    parts = []
    for rank in range(3):
        monkeypatch.setenv("RANK", str(rank))
        parts.append(list(own_part("abcdefg")))
    assert parts == [list("adg"), list("be"), list("cf")]


def test_one_process_does_everything_itself():
    assert list(own_part("abc")) == list("abc") and merged("abc") == list("abc") and gathered("abc") == ["abc"]


def test_sampled_answers_are_refused_on_several_processes(caller, store, tiny_budget, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match=r"temperature=0.7 on 2 processes"):
        predict(caller, [], store, tiny_budget, "sft", temperature=0.7)
