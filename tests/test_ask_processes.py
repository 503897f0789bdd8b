"""`python -m medscope.ask` as processes: two at once, interrupted ones, and the committed model."""

import json
import os
import signal
import subprocess
import sys
import time
from functools import partial

import pytest
from asked import ANSWER, CROP, Page, serve_fixture, video_fixture  # noqa: F401

from medscope import models
from medscope.agents.model_card import card_warning
from medscope.files import read_jsonl
from medscope.pipeline.parameters import ROOT, declared_parameters
from medscope.records import Trajectory


def start(folder, *words, model="endpoint"):
    """The command as a process of its own, which Ctrl-C ends also where the tests run in the background of a shell."""
    command = [sys.executable, "-m", "medscope.ask", *words, "--model", model, "--out", "out"]
    kept = {**os.environ, "PYTHONPATH": str(ROOT)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    ready = partial(signal.signal, signal.SIGINT, signal.default_int_handler)
    return subprocess.Popen(command, cwd=folder, env=kept, preexec_fn=ready, **pipes)


@pytest.mark.slow
def test_two_asks_at_once_into_one_folder(serve, video, tmp_path):
    serve(ANSWER)
    asks = [start(tmp_path, "film.mp4", "Which tool?") for _ in range(2)]
    assert [process.communicate(timeout=100)[0].splitlines()[0] for process in asks] == ["answer: forceps"] * 2
    assert json.loads((tmp_path / "out" / "ask.json").read_text())["answer"] == "forceps"
    assert Page(tmp_path / "out" / "ask.html").tags.count("svg") == 1
    assert len(list((tmp_path / "out").iterdir())) == 3


@pytest.mark.slow
def test_ctrl_c_keeps_what_was_done(serve, video, tmp_path):
    """The endpoint hangs after the first call; the command is interrupted there."""
    server = serve(CROP, 60.0)
    process, began = start(tmp_path, "film.mp4", "Which tool?", "--json"), time.monotonic()
    while len(server.requests) < 2 and process.poll() is None and time.monotonic() - began < 100:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    out, error = process.communicate(timeout=30)
    assert process.returncode == 130 and not out and "Traceback" not in error
    assert error.splitlines()[-1] == "ask: interrupted (what was done so far is in out/trajectory.jsonl)"
    assert len(read_jsonl(tmp_path / "out" / "trajectory.jsonl", Trajectory)[0].turns) == 1


@pytest.mark.slow
def test_ctrl_c_while_the_policy_of_the_project_is_at_work(tmp_path):
    """It is interrupted as its weights are read, or soon after."""
    words = [str(ROOT / "models" / "example.mp4"), "When?", "--json"]
    process = start(tmp_path, *words, model=str(models.TINY))
    seen = ""
    while "Loading weights" not in seen and process.poll() is None:
        seen += process.stderr.read(1)
    process.send_signal(signal.SIGINT)
    out, error = process.communicate(timeout=300)
    assert process.returncode == 130 and not out and "Traceback" not in error
    assert error.splitlines()[-1] == "ask: interrupted (what was done so far is in out/trajectory.jsonl)"
    assert json.loads((tmp_path / "out" / "ask.json").read_text())["error"] == "interrupted"
    assert len(read_jsonl(tmp_path / "out" / "trajectory.jsonl", Trajectory)) == 1


@pytest.mark.slow
def test_the_committed_model_answers_about_the_committed_video(tmp_path):
    """In a folder of the user, by the command of the documentation, with JSON alone on stdout."""
    question = declared_parameters(ROOT / "notebooks" / "explore.ipynb")["question"]
    command = [sys.executable, "-m", "medscope.ask", "models/example.mp4", question, "--json"]
    (tmp_path / "models").mkdir()
    os.link(ROOT / "models" / "example.mp4", tmp_path / "models" / "example.mp4")
    run = subprocess.run(
        command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    record = json.loads(run.stdout)
    assert record["answer"] and record["calls"] and record["cost"]["frames"] > 0
    assert card_warning(models.TINY) in run.stderr  # a copy elsewhere is a foreign video
