"""Trainings that cannot work are refused; trainers log to the run of their stage and leave its status alone."""

import mlflow
import pytest
import torch
from mlflow import MlflowClient
from training_tasks import window_tasks

from medscope.agents.encoding import TokenSpan
from medscope.agents.policy import load_policy, tiny_policy
from medscope.environment import FrameStore
from medscope.rewards import RewardSettings
from medscope.training import ga_grpo
from medscope.training.examples import Example
from medscope.training.precision import check_precision
from medscope.training.sft import fine_tune


def sentence(policy, number):
    text = policy.encode(f"from {number} s")
    return Example((TokenSpan(text), TokenSpan([*text, policy.turn_end], assistant=True)))


@pytest.fixture
def low_policy():
    policy = tiny_policy(seed=0)
    policy.model.to(torch.bfloat16)
    return policy


def test_full_fine_tuning_in_bfloat16_at_a_small_rate_is_refused_with_the_reason(low_policy, tmp_path, tiny_budget):
    with pytest.raises(ValueError, match=r"learning_rate=1e-06 would be rounded away: .* 16 bits .* LoRA"):
        fine_tune(low_policy, [1], [2], lambda n: sentence(low_policy, n), tmp_path, 1, 1, 1e-6)
    with pytest.raises(ValueError, match="learning_rate=9e-06 would be rounded away"):
        ga_grpo.train(
            low_policy, window_tasks("none.mp4", 1), FrameStore(), tiny_budget, tmp_path, RewardSettings(),
            steps=1, questions_per_step=1, num_generations=2, learning_rate=9e-6,
        )  # fmt: skip
    assert list(tmp_path.iterdir()) == []


def test_such_updates_are_really_lost():
    weight = torch.full((100,), 0.02, dtype=torch.bfloat16)
    assert torch.equal(weight - 1e-6, weight) and not torch.equal(weight.float() - 1e-6, weight.float())


def test_larger_rates_float32_and_lora_are_not_refused(low_policy, tmp_path):
    check_precision(low_policy, 1e-5)
    check_precision(tiny_policy(seed=0), 1e-6)
    base = tiny_policy(seed=0).save(tmp_path / "base")
    check_precision(load_policy(base, lora_rank=4, dtype="bfloat16"), 1e-6)


@pytest.mark.slow
def test_a_trainer_logs_to_the_run_of_its_stage_and_leaves_it_running(tmp_path, monkeypatch):
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path / 'mlflow.db'}")
    try:
        client = MlflowClient()
        run = client.create_run(client.create_experiment("tests")).info.run_id
        monkeypatch.setenv("MLFLOW_RUN_ID", run)
        policy = tiny_policy(seed=0)
        log = fine_tune(policy, range(8), range(2), lambda n: sentence(policy, n), tmp_path / "scratch", 2, 4, 1e-3)
        found = client.get_run(run)
        losses = [(metric.step, metric.value) for metric in client.get_metric_history(run, "loss")]
    finally:
        mlflow.set_tracking_uri(before)
    assert found.info.status == "RUNNING" and mlflow.active_run() is None
    assert losses == [(row["step"], row["loss"]) for row in log if "loss" in row] and len(losses) == 2
    assert "eval_loss" in found.data.metrics and not found.data.params
