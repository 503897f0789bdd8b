"""A trainer killed at any checkpoint ends in the weights of one that was not: SFT to the bit, GA-GRPO to rounding."""

from dataclasses import replace

import pytest
import torch
from training_tasks import judge_in_turn, window_tasks
from transformers import TrainerCallback, TrainingArguments, set_seed

from medscope.agents.encoding import TokenSpan
from medscope.agents.policy import load_policy, tiny_policy
from medscope.environment import FrameStore
from medscope.rewards import RewardSettings
from medscope.training import ga_grpo
from medscope.training.examples import Example
from medscope.training.resume import Resumable, last_checkpoint
from medscope.training.sft import fine_tune

STEPS, SAVED = 4, 2
pytestmark = pytest.mark.slow  # every test trains


class Killed(Exception):
    """Raised where a kill would fall: right after a checkpoint was written."""


class KillAt(TrainerCallback):
    def __init__(self, step: int):
        self.step = step

    def on_save(self, args, state, control, **_):
        if state.global_step == self.step:
            raise Killed


def trained(scratch, monkeypatch, kill_at=None, base=None, lengths=None):
    """The tiny policy (LoRA on the checkpoint `base`) after `STEPS` on invented sentences, and its log."""
    set_seed(0)
    policy = load_policy(base, lora_rank=4) if base else tiny_policy(seed=0)
    examples = [
        Example(
            (
                TokenSpan(policy.encode(f"from {i} s")),
                TokenSpan([*policy.encode(f"to {i}"), policy.turn_end], assistant=True),
            )
        )
        for i in range(24)
    ]
    with monkeypatch.context() as patch:
        if kill_at:
            patch.setattr("medscope.training.sft.show_as_text", lambda trainer: trainer.add_callback(KillAt(kill_at)))
        log = fine_tune(
            policy, examples, examples[:4], lambda example: example, scratch, STEPS, 4, 1e-2,
            warm_up_steps=1, save_steps=SAVED, lengths=lengths,
        )  # fmt: skip
    return policy.model.state_dict(), log


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        return trained(tmp_path_factory.mktemp("whole"), patch)


@pytest.mark.parametrize("step", [SAVED, STEPS])
def test_a_killed_trainer_ends_in_the_same_weights_and_log(uninterrupted, step, tmp_path, monkeypatch):
    with pytest.raises(Killed):
        trained(tmp_path, monkeypatch, kill_at=step)
    weights, log = trained(tmp_path, monkeypatch)
    whole, whole_log = uninterrupted
    for name, value in whole.items():
        assert torch.equal(value, weights[name]), name
    losses = [row["loss"] for row in whole_log if "loss" in row]
    assert len(losses) == STEPS and [row["loss"] for row in log if "loss" in row] == losses


def test_examples_grouped_by_length_go_on_in_their_order(uninterrupted, tmp_path, monkeypatch):
    lengths = [number % 7 for number in range(24)]
    whole, _ = trained(tmp_path / "whole", monkeypatch, lengths=lengths)
    with pytest.raises(Killed):
        trained(tmp_path / "killed", monkeypatch, kill_at=SAVED, lengths=lengths)
    resumed, _ = trained(tmp_path / "killed", monkeypatch, lengths=lengths)
    assert all(torch.equal(value, resumed[name]) for name, value in whole.items())
    assert any(not torch.equal(value, uninterrupted[0][name]) for name, value in whole.items()), "another order"


def test_lora_resumes_to_the_same_weights(tmp_path, monkeypatch):
    base = tiny_policy(seed=0).save(tmp_path / "base")
    whole, _ = trained(tmp_path / "whole", monkeypatch, base=base)
    with pytest.raises(Killed):
        trained(tmp_path / "killed", monkeypatch, kill_at=SAVED, base=base)
    resumed, _ = trained(tmp_path / "killed", monkeypatch, base=base)
    assert any("lora_" in name for name in whole)
    for name, value in whole.items():
        assert torch.equal(value, resumed[name]), name


def reinforced(scratch, path, budget, monkeypatch, kill_at=None):
    """The tiny policy after `STEPS` sampled updates, and its log."""
    set_seed(0)
    policy = tiny_policy(seed=0)
    with monkeypatch.context() as patch:
        if kill_at:
            patch.setattr(ga_grpo, "show_as_text", lambda trainer: trainer.add_callback(KillAt(kill_at)))
        log = ga_grpo.train(
            policy, window_tasks(path, 8), FrameStore(), replace(budget, max_turn_tokens=8), scratch, RewardSettings(),
            steps=STEPS, questions_per_step=2, num_generations=3, learning_rate=1e-2, save_steps=SAVED,
            judge=judge_in_turn,
        )  # fmt: skip
    return policy.model.state_dict(), [row for row in log if "reward" in row]


@pytest.fixture(scope="module")
def uninterrupted_ga_grpo(operation, tiny_budget, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        return reinforced(tmp_path_factory.mktemp("whole"), operation.path, tiny_budget, patch)


@pytest.mark.parametrize("step", [SAVED, STEPS])
def test_a_killed_ga_grpo_ends_in_the_same_weights_to_rounding(
    uninterrupted_ga_grpo, step, operation, tiny_budget, tmp_path, monkeypatch
):
    with pytest.raises(Killed):
        reinforced(tmp_path, operation.path, tiny_budget, monkeypatch, kill_at=step)
    weights, log = reinforced(tmp_path, operation.path, tiny_budget, monkeypatch)
    whole, whole_log = uninterrupted_ga_grpo
    start = tiny_policy(seed=0).model.state_dict()
    assert max((whole[name] - start[name]).abs().max() for name in whole) > 1e-3  # it has learned something
    assert [row["step"] for row in log] == [row["step"] for row in whole_log] == [1, 2, 3, 4]
    for row, other in zip(log, whole_log, strict=True):
        assert row["entropy"] == pytest.approx(other["entropy"], abs=1e-5)  # of the same rollouts
    for name, value in whole.items():
        torch.testing.assert_close(weights[name], value, atol=1e-5, rtol=1e-4, msg=name)


def test_a_finished_training_is_loaded_and_not_repeated(uninterrupted, tmp_path, monkeypatch):
    trained(tmp_path, monkeypatch)
    monkeypatch.setattr(Resumable, "train", lambda *_, **__: pytest.fail("trained again"))
    weights, log = trained(tmp_path, monkeypatch)
    assert all(torch.equal(value, weights[name]) for name, value in uninterrupted[0].items())
    assert log[-1]["step"] == STEPS


def test_a_checkpoint_cut_off_by_a_kill_is_skipped(tmp_path):
    for step, whole in ((2, True), (4, False)):
        (tmp_path / f"checkpoint-{step}").mkdir()
        if whole:
            (tmp_path / f"checkpoint-{step}" / "trainer_state.json").write_text("{}")
    assert last_checkpoint(tmp_path) == str(tmp_path / "checkpoint-2")
    assert last_checkpoint(tmp_path / "nowhere") is None


def test_a_process_that_sees_several_gpus_trains_on_one(policy, tmp_path):
    settings = TrainingArguments(str(tmp_path), per_device_train_batch_size=3, report_to=[])
    assert settings.n_gpu in (0, 1)
    settings._n_gpu = 4  # what transformers finds on a machine with four
    trainer = Resumable(policy.model, args=settings)
    assert trainer.args.n_gpu == 1 and trainer.args.train_batch_size == 3
