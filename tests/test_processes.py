"""Two processes (gloo) train as one does with the same global batch."""

import numpy as np
import pytest
import torch
from transformers import set_seed

from medscope.training import ga_grpo
from medscope.agents.context import TokenSpan
from medscope.environment.dialogue import call_text
from medscope.training.ga_grpo import GAGRPOTrainer
from medscope.agents.policy import tiny_policy
from medscope.training.processes import on_processes, process_count, share
from medscope.rewards import RewardSettings
from medscope.agents.rollout import generate
from medscope.training.sft import Example, fine_tune
from medscope.suite.tasks import questions
from medscope.environment.video import FrameStore


def fine_tuned(scratch):
    """Weights and losses after two steps on sentences of different length."""
    torch.set_num_threads(1)
    policy = tiny_policy(seed=0)
    texts = [f"from {i} s" + " to 10 s" * (i % 3) for i in range(8)]
    examples = [Example((TokenSpan(policy.encode(t)), TokenSpan(policy.encode(t), assistant=True))) for t in texts]
    log = fine_tune(policy, examples, examples[:4], scratch / str(process_count()), 2, 4, 1e-4, warm_up_steps=1)
    return policy.model.state_dict(), [(row["loss"], row["grad_norm"]) for row in log if "loss" in row]


class ForcedTrainer(GAGRPOTrainer):
    """Its rollouts do not depend on chance: every member of a group is made to crop another window."""

    def sample(self, asked):
        environments = self.environments[: len(asked) * self.group]
        for i, environment in enumerate(environments):
            environment.reset(path=self.recordings[asked[i // self.group].video].path)
        ends = [5.0 + 30 * (i % self.group) for i in range(len(environments))]
        forced = ["<think>t</think>" + call_text("crop_video", {"start_time": 0.0, "end_time": end}) for end in ends]
        texts = [question.text for question in asked]
        return generate(self.policy, environments, texts, self.group, max_turn_tokens=6, forced_turns=forced)


def reinforced(scratch, recording, budget):
    """Weights and log after two GA-GRPO steps of four questions."""
    torch.set_num_threads(1)
    ga_grpo.GAGRPOTrainer = ForcedTrainer
    set_seed(0)
    policy = tiny_policy(seed=0)
    asked = questions(recording, np.random.default_rng(0))[:8]
    log = ga_grpo.train(
        policy, asked, {recording.video: recording}, FrameStore(), budget, scratch / str(process_count()),
        RewardSettings(), steps=2, questions_per_step=4, group=2, learning_rate=1e-4,
    )  # fmt: skip
    return policy.model.state_dict(), log


def assert_close(weights, expected):
    """Adam moves a weight by the learning rate whatever its gradient: those near 0 may go either way."""
    for name, value in expected.items():
        assert (weights[name] - value).abs().max() <= 4e-4, name
        assert (weights[name] - value).abs().mean() <= 1e-6, name


def test_sft_on_two_processes_equals_one(tmp_path):
    weights, steps = on_processes(1, fine_tuned, tmp_path)
    both_weights, both_steps = on_processes(2, fine_tuned, tmp_path)
    np.testing.assert_allclose(both_steps, steps, rtol=1e-4)
    assert_close(both_weights, weights)


def test_ga_grpo_on_two_processes_equals_one(operation, tiny_budget, tmp_path, monkeypatch):
    monkeypatch.setattr(ga_grpo, "GAGRPOTrainer", ForcedTrainer)
    weights, log = on_processes(1, reinforced, tmp_path, operation, tiny_budget)
    both_weights, both = on_processes(2, reinforced, tmp_path, operation, tiny_budget)
    for row, other in zip(log[:2], both[:2], strict=True):
        for name in ("loss", "reward", "iou", "tool_call_rate", "completion_tokens", "grad_norm"):
            assert other[name] == pytest.approx(row[name], abs=1e-4), name
    assert_close(both_weights, weights)


def test_a_batch_that_cannot_be_shared_is_named(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "3")
    assert share("batch_size", 6) == 2
    with pytest.raises(ValueError, match="questions_per_step=8 cannot be shared by 3 processes"):
        share("questions_per_step", 8)


def test_no_processes_at_all_is_an_error():
    with pytest.raises(ValueError, match="processes=0"):
        on_processes(0, print)
