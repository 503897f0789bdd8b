"""Two nodes, as two torchrun agents of this machine with one rendezvous (gloo), through the real entry.

One node is killed after the first checkpoint and started again. The weights of `sft` are then those of one process, to
rounding: gradients are summed in another order. `ga_grpo` draws its rollouts in each process: its weights are those of
two processes that nothing has stopped (tests/test_processes.py compares these with one).
"""

import os
import shutil
import socket
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace

import psutil
import pytest
from flat import LANGUAGE
from house import build_house
from safetensors.torch import load_file

from medscope.environment import FrameStore
from medscope.pipeline.parameters import ROOT, stage_parameters
from medscope.pipeline.train import train_grpo, train_sft
from medscope.suite.build import build_suite
from medscope.training.processes import follow, lead, on_processes

pytestmark = pytest.mark.slow
SAVED = 4  # steps of the first checkpoint
PATIENCE = 1500  # seconds; a machine that does other things is slow
CHANGES = {
    "sft": ("captioned_clips=0", "steps=12", f"save_steps={SAVED}"),
    "ga_grpo": (
        *("start=warm_up", "questions_per_step=2", "num_generations=4", "temperature=1.0", "max_turn_tokens=48"),
        *("steps=9", f"save_steps={SAVED}"),
    ),
}


class Videos:
    """The source of recordings that are on disk."""

    language = LANGUAGE

    def __init__(self, *recordings):
        self.made = recordings

    def recordings(self):
        return iter(self.made)


@pytest.fixture(scope="module")
def home(caller, operation, clip, tiny_budget, tmp_path_factory):
    """A copy of the project with the real notebooks, a suite of three videos and a checkpoint that calls tools."""
    home = build_house(tmp_path_factory.mktemp("cluster") / "home")
    for notebook in ("03_sft.ipynb", "04_ga_grpo.ipynb"):
        shutil.copy(ROOT / "notebooks" / notebook, home / "notebooks")
    smoke = home / "smoke"
    rewarded = replace(operation, video="rewarded", split="rl", group="rewarded")
    build_suite(smoke / "data" / "suite", Videos(operation, clip, rewarded), FrameStore(), tiny_budget)
    (smoke / "data" / "videos").mkdir()
    (smoke / "checkpoints").mkdir()
    caller.save(smoke / "checkpoints" / "warm_up")
    return home


@pytest.fixture
def port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def node(home, port, stage, number):
    """Start the agent of one node: the same words on every node, but who hosts the rendezvous."""
    outside = ("DVC_", "MLFLOW_", "MEDSCOPE_", "PYTHONPATH")  # the house has a package of its own
    kept = {name: value for name, value in os.environ.items() if not name.startswith(outside)}
    kept |= {"GLOO_SOCKET_IFNAME": "lo", "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
    quick = f"is_host={int(number == 0)},keep_alive_interval=2,keep_alive_max_attempt=5"
    with (home / f"node_{number}.log").open("a") as log:
        return subprocess.Popen(
            [
                sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1",
                "--rdzv-backend", "c10d", "--rdzv-endpoint", f"127.0.0.1:{port}", "--rdzv-id", "test",
                "--rdzv-conf", quick, "--local-addr", "127.0.0.1", "--max-restarts", "3",
                "-m", "medscope.pipeline.stage", "--smoke", stage, f"variant={stage}_nodes", *CHANGES[stage],
            ],
            cwd=home, env=kept, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip


def power_off(agent):
    """SIGKILL to an agent and all it has started, as a node that loses power."""
    with suppress(psutil.NoSuchProcess):
        for process in [*psutil.Process(agent.pid).children(recursive=True), psutil.Process(agent.pid)]:
            with suppress(psutil.NoSuchProcess):
                process.kill()
    agent.wait()


def logs(home):
    return "\n".join(f"{log.name}\n{log.read_text()[-3000:]}" for log in sorted(home.glob("node_*.log")))


@pytest.mark.parametrize("stage, train, processes", [("sft", train_sft, 1), ("ga_grpo", train_grpo, 2)])
def test_two_nodes_one_killed_and_restarted_train_the_same_weights(home, port, stage, train, processes):
    agents = [node(home, port, stage, number) for number in (0, 1)]
    checkpoints = home / "smoke" / "checkpoints"
    try:
        saved = home / "smoke" / "scratch" / f"{stage}_nodes"
        deadline = time.monotonic() + PATIENCE
        while not list(saved.glob(f"*/checkpoint-{SAVED}")):
            assert all(agent.poll() is None for agent in agents), logs(home)
            assert time.monotonic() < deadline, logs(home)
            time.sleep(0.02)
        power_off(agents[1])
        assert not (checkpoints / f"{stage}_nodes").exists(), "killed too late to prove anything"
        agents[1] = node(home, port, stage, 1)
        assert [agent.wait(PATIENCE) for agent in agents] == [0, 0], logs(home)
    finally:
        for agent in agents:
            power_off(agent)
    alone = [*CHANGES[stage], f"variant={stage}_alone", f"folder={home / 'smoke'}"]
    on_processes(processes, train, stage_parameters(stage, alone, smoke=True), home / f"{stage}_alone")
    before, nodes, alone = (
        load_file(checkpoints / name / "model.safetensors") for name in ("warm_up", f"{stage}_nodes", f"{stage}_alone")
    )
    worst = max(float((nodes[name] - value).abs().max()) for name, value in alone.items())
    mean = max(float((nodes[name] - value).abs().mean()) for name, value in alone.items())
    moved = max(float((before[name] - value).abs().max()) for name, value in alone.items())
    print(f"largest difference of a weight {worst:.2e}, largest mean of a tensor {mean:.2e}, moved by {moved:.2e}")
    assert moved > 1e-4
    assert mean <= 1e-6


def test_a_launch_from_which_no_node_could_fail_and_come_back_is_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("TORCHELASTIC_USE_AGENT_STORE", "True")  # what torchrun says by default
    for part in (lead, follow):
        with pytest.raises(RuntimeError, match="export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1"):
            part()
    with pytest.raises(ValueError, match="processes=4, the launcher has started 2"):
        on_processes(4, print)
    monkeypatch.setenv("TORCHELASTIC_USE_AGENT_STORE", "False")
    with pytest.raises(RuntimeError, match=r"run by `-m medscope\.pipeline\.stage`"):
        on_processes(2, print)
