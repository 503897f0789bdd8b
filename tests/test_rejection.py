"""Rejection fine-tuning: which rollouts are kept, and that a killed run goes on to the same trajectories."""

from types import SimpleNamespace

import numpy as np
import pytest
from flat import LANGUAGE
from predicted import crop, task

from medscope.environment.environment import Trace
from medscope.files import write_jsonl
from medscope.records import Trajectory, Window
from medscope.suite.tasks import closed_tasks
from medscope.training import rejection
from medscope.training.rejection import best_of, first_solved

ANSWERED = "<think>seen</think><answer>{}</answer>"
CALL = '<think>look</think><tool_call>{"name": "crop_video", "arguments": {"start_time": 0, "end_time": 9}}</tool_call>'


def rollout(asked, answer="hook", windows=((0, 10),), turns=None):
    """What a rollout holds that is read here."""
    calls = [crop(*window) for window in windows]
    turns = turns or [*[CALL] * len(calls), ANSWERED.format(answer)]
    return SimpleNamespace(task=asked, turns=turns, trace=Trace(calls))


def test_the_first_right_rollout_with_good_evidence_and_format_is_kept():
    first, second = task(0, "hook", Window(0, 10)), task(1, "hook", Window(0, 10))
    fine = rollout(first, windows=((50, 60), (0, 8)))
    found = first_solved(
        [
            rollout(first, "blade"), rollout(first, windows=((0, 30),)), rollout(first, windows=()),
            rollout(first, turns=[CALL, "<answer>hook</answer>"]), fine, rollout(first), rollout(second, "blade"),
        ]
    )  # fmt: skip
    assert found == [Trajectory(first, tuple(fine.turns), tuple(fine.trace.calls))]


def test_portions_that_are_done_are_read_and_an_unsolved_suite_is_refused(tmp_path):
    tasks = [task(n, "hook") for n in range(rejection.PORTION + 1)]
    kept = [Trajectory(t, (CALL, ANSWERED.format("hook")), (crop(0, 10),)) for t in (tasks[0], tasks[-1])]
    for number, trajectory in enumerate(kept):
        write_jsonl(tmp_path / f"{number:05d}.jsonl", [trajectory])
    assert best_of(None, tasks, None, None, tmp_path) == kept
    for number in range(2):
        write_jsonl(tmp_path / f"{number:05d}.jsonl", [])
    with pytest.raises(ValueError, match="none of 9 tasks is solved by 8 rollouts"):
        best_of(None, tasks, None, None, tmp_path)


@pytest.mark.slow
def test_a_killed_run_ends_in_the_same_rollouts(caller, operation, clip, store, tiny_budget, tmp_path, monkeypatch):
    """The judge calls every answer right and every crop good, so that what was sampled is kept."""
    monkeypatch.setattr(rejection, "PORTION", 1)
    monkeypatch.setattr(rejection, "LEAST_IOU", -1.0)
    tasks = [closed_tasks(film, LANGUAGE, np.random.default_rng(0))[0] for film in (operation, clip)]

    def run(folder):
        right = lambda graded: [1.0] * len(graded)  # noqa: E731
        return best_of(caller, tasks, store, tiny_budget, folder, 8, temperature=0.5, judge=right)

    whole = run(tmp_path / "whole")
    (tmp_path / "killed").mkdir()
    (tmp_path / "killed" / "00000.jsonl").write_text((tmp_path / "whole" / "00000.jsonl").read_text())
    assert whole and run(tmp_path / "killed") == whole
