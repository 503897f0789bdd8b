"""What a CPU says, a GPU says too. `make gpu-check` runs these; they skip without a GPU."""

import copy

import pytest
import torch

from medscope.agents.rollout import generate
from medscope.environment import ClinicalVideoEnvironment
from medscope.records import Task, Text, Window
from medscope.training.update import completion_logps

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")]


@pytest.fixture
def task(operation):
    return Task(
        id="gpu", video=operation.video, path=operation.path, question="When is it?", reference=Text("now"),
        evidence=Window(0, 10), kind="grounding", split="rl", collection="gpu",
    )  # fmt: skip


def answers(policy, task, store, budget):
    environments = [ClinicalVideoEnvironment(store, budget) for _ in range(2)]
    return generate(policy, [task], environments, 2, max_turn_tokens=24)


def test_greedy_turns_and_their_logps_are_those_of_the_cpu(caller, task, store, tiny_budget):
    gpu = copy.deepcopy(caller)
    gpu.model.to("cuda")
    there, here = answers(gpu, task, store, tiny_budget), answers(caller, task, store, tiny_budget)
    assert [rollout.turns for rollout in there] == [rollout.turns for rollout in here]
    on_gpu, on_cpu = completion_logps(gpu, there, 2)[0], completion_logps(caller, here, 2)[0]
    torch.testing.assert_close(on_gpu.cpu(), on_cpu, atol=1e-3, rtol=0)
