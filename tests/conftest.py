"""Fixtures: budget, two flat recordings on disk, an environment, the tiny policy, an endpoint on this machine."""

import os
import tempfile
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest
import torch
from browser import page  # noqa: F401  a fixture
from filelock import FileLock
from flat import LANGUAGE, flat_clip, flat_operation
from hypothesis import settings
from server import Server

from medscope.environment import ClinicalVideoEnvironment, FrameStore, ToolBudget
from medscope.environment.grammar import call_text
from medscope.records import Trajectory

settings.register_profile("tests", deadline=None, derandomize=True)  # the same examples on every machine
settings.load_profile("tests")

WORKER = os.environ.get("PYTEST_XDIST_WORKER", "")  # gw0, gw1, .. with -n
BUDGET = ToolBudget(skim_frames=20, skim_pixels=784, crop_frames=8, crop_pixels=3136, frame_pixels=7056)


def pytest_configure(config):
    """Indices of videos go to a folder of the run. A worker of xdist, with all that its tests start, keeps to one core:
    more threads than cores are slow."""
    kept = tempfile.TemporaryDirectory()
    os.environ["MEDSCOPE_INDEX_CACHE"] = kept.name
    config.add_cleanup(kept.cleanup)
    if WORKER and hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[int(WORKER.removeprefix("gw")) % len(cores)]})
        os.environ["OMP_NUM_THREADS"] = "1"
        torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny_budget():
    return BUDGET


@pytest.fixture(scope="session")
def operation(tmp_path_factory):
    """A flat operation of 145 s: six phases, evidence in windows."""
    return flat_operation(tmp_path_factory.mktemp("rendered"))


@pytest.fixture(scope="session")
def clip(tmp_path_factory):
    """A flat clip of 8 s: three events, evidence in moments."""
    return flat_clip(tmp_path_factory.mktemp("rendered"))


@pytest.fixture(params=["operation", "clip"])
def recording(request):
    """The operation, then the clip."""
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="session")
def store():
    return FrameStore()


@pytest.fixture
def environment(store, operation):
    """An environment bound to the operation, nothing called yet."""
    environment = ClinicalVideoEnvironment(store, BUDGET)
    environment.reset(path=operation.path)
    return environment


@pytest.fixture(scope="session")
def policy():
    from medscope.agents.policy import tiny_policy

    return tiny_policy()


@pytest.fixture(scope="session")
def caller(store, tiny_budget, operation, clip, tmp_path_factory):
    """A tiny policy that calls tools of its own accord, in turns of different length: it has learned four dialogues
    with tools and one without.

    It is trained once (7 s), by one of the workers that need it.
    """
    from medscope.agents.policy import load_policy

    own = tmp_path_factory.getbasetemp()
    saved = (own.parent if WORKER else own) / "caller"
    with FileLock(f"{saved}.lock") if WORKER else nullcontext():
        if not saved.exists():
            train_caller(store, tiny_budget, operation, clip).save(saved)
    policy = load_policy(saved)
    policy.model.train()
    return policy


def train_caller(store, budget, operation, clip):
    from medscope.agents.policy import tiny_policy
    from medscope.suite.tasks import closed_tasks
    from medscope.training.examples import Example, collate, trajectory_example
    from medscope.training.optimizers import MuonWithAdamW

    policy, environment = tiny_policy(), ClinicalVideoEnvironment(store, budget)
    windows = [(1.0, 3.0), (0.0, 6.0), (5.0, 2.0), (2.0, 5.0)]
    examples = []
    for number, (start, end) in enumerate(windows):
        recording = (operation, clip)[number % 2]
        turns = (
            f"<think>{'look ' * (1 + 3 * number)}</think>"
            + call_text("crop_video", {"start_time": start, "end_time": end}),
            "<think>seen</think>" + call_text("get_frame", {"timestamp": start}),
            "<think>seen</think><answer>yes</answer>",
        )
        task = closed_tasks(recording, LANGUAGE, np.random.default_rng(0))[0]
        trajectory = Trajectory(task, turns[: 3 if number % 2 else 2] if number else (turns[0], turns[2]))
        spans = trajectory_example(policy, trajectory, environment).spans
        spans = tuple(replace(span, assistant=n % 2 == 1) for n, span in enumerate(spans))  # refused turns, too
        examples.append(Example(spans))
    examples.append(trajectory_example(policy, Trajectory(task, turns[2:], tools=False), environment))
    batch = collate(policy, examples)
    optimiser = MuonWithAdamW(policy.model, lr=3e-3, betas=(0.9, 0.95), weight_decay=0.0)
    for _ in range(26):
        policy.model(**batch).loss.backward()
        optimiser.step()
        optimiser.zero_grad()
    return policy


@pytest.fixture
def endpoint(monkeypatch, tmp_path):
    """`endpoint(replies)`: a client of a real server with these replies (a number: that status), and the server."""
    from medscope.evaluation.endpoint import Endpoint

    servers = []

    def made(replies, **settings):
        server = Server(replies)
        servers.append(server)
        monkeypatch.setenv("MEDSCOPE_JUDGE_URL", server.url)
        monkeypatch.setenv("MEDSCOPE_JUDGE_MODEL", "judge")
        return Endpoint(tmp_path / "cache", **settings), server

    yield made
    for server in servers:
        server.close()
