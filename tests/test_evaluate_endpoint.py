"""Slow: the stage `evaluate` asks an endpoint through the launcher, is cut off in the middle, and goes on."""

import json
import os
import re
import subprocess
import sys
from dataclasses import replace

import pytest
from chat_server import call, text
from media import write_mp4
from predicted import task
from test_predict_endpoint import PROBE, Model

from medscope.evaluation.audit import SWAPS
from medscope.evaluation.predictions import Prediction
from medscope.evaluation.quarantine import read_quarantine
from medscope.files import read_jsonl, write_jsonl
from medscope.pipeline.parameters import ROOT
from medscope.records import Recording, Window
from medscope.reporting.leaderboard import gather

pytestmark = pytest.mark.slow
CROP = call("crop_video", {"start_time": 2, "end_time": 6}, "look")
ANSWERS = {f"n{n}": [CROP, text("seen <answer>yes</answer>")] for n in range(6)}


@pytest.fixture
def home(tmp_path):
    """A folder with a suite of two films and six tasks."""
    films = [str(write_mp4(tmp_path / f"{name}.mp4", range(12))) for name in "ab"]
    videos = [Recording(v, path, 12.0, (), "set", "in", "eval") for v, path in zip("ab", films, strict=True)]
    asked = [
        replace(task(n, "yes", Window(2, 6), video="ab"[n % 2]), path=films[n % 2], question=f"task n{n}?")
        for n in range(6)
    ]
    write_jsonl(tmp_path / "home" / "data" / "suite" / "recordings.jsonl", videos)
    write_jsonl(tmp_path / "home" / "data" / "suite" / "tasks.jsonl", asked)
    return tmp_path / "home"


def evaluate(home, server, *words):
    given = ("system=gpt", "checkpoint=''", "model=endpoint", "decoder=pyav", "free_text_tasks=0", "skim_frames=6")
    more = ("tasks_per_set=-1", "audit_tasks=2", "in_flight=2", "max_turn_tokens=200", f"folder={home}", *words)
    own = {
        "MEDSCOPE_MODEL_URL": server.url, "MEDSCOPE_MODEL_MODEL": "m", "MEDSCOPE_ANSWERS_CACHE": str(home / "answers"),
        "MLFLOW_TRACKING_URI": f"sqlite:///{home / 'mlflow.db'}",
    }  # fmt: skip
    return subprocess.run(
        [sys.executable, "-m", "medscope.pipeline.stage", "--smoke", "evaluate", *given, *more],
        cwd=ROOT, env={**os.environ, **own}, capture_output=True, text=True,
    )  # fmt: skip


def questions(server):
    found = [re.search(r"task (\w+)\?", json.dumps(r["messages"])) for r in server.requests]
    return [match[1] for match in found if match]


def test_a_stage_that_was_cut_off_goes_on_and_asks_nothing_twice(home):
    first = Model({name: list(replies) for name, replies in ANSWERS.items()} | {"n3": 401, "n5": [CROP, text("yes?")]})
    try:
        run = evaluate(home, first)
        assert run.returncode != 0 and "StepStopped: gpt: 1 tasks have no answer" in run.stderr, run.stderr[-2000:]
        assert not (home / "predictions" / "gpt.jsonl").exists()
    finally:
        first.close()
    second = Model({"n3": [CROP, text("<answer>yes</answer>")], **{f"n{n}": "no" for n in (0, 1, 2, 4)}})
    try:
        prices = "endpoint={calls: native, price_in: 2.0, price_out: 10.0}"
        run = evaluate(home, second, prices)
        assert run.returncode == 0, run.stderr[-2000:]
    finally:
        second.close()
    benchmark = [q for q in questions(second) if q in ("n3", "n5")]
    assert "n5" not in benchmark, "a reply in quarantine is not asked for again"
    file = home / "predictions" / "gpt.jsonl"
    found, (left_out,) = read_jsonl(file, Prediction), read_quarantine(file)
    assert [p.accuracy for p in found] == [1.0] * 5 and left_out.task.question == "task n5?"
    assert all(p.looks for p in found) and "neither one tool call" in left_out.reason
    replays = read_jsonl(home / "predictions" / "gpt.audit.jsonl", Prediction)
    assert {p.system for p in replays} == {f"gpt/{swap}" for swap in SWAPS} and len(replays) == 2 * len(SWAPS)
    protocol = json.loads((home / "predictions" / "gpt.protocol.json").read_text())
    assert protocol["eval_sets"] == [{"name": "set", "domain": "in", "tasks": 5, "quarantined": 1}]
    assert (protocol["skim_frames"], protocol["context_tokens"]) == (6, 32768)
    assert protocol["system"]["model"] == "m" and protocol["usage"]["dollars"] > 0
    (group,), bad = gather([home])
    assert not bad and [(row.quarantined, row.tasks, row.rank) for row in group.rows] == [(1, 6, None)]
    sent = len(second.requests)
    assert PROBE in json.dumps(second.requests[0]["messages"]) and sent == len(second.requests)
