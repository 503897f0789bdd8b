"""A batch gives the same update however it is cut: processes (gloo), accumulation, packing, chunks of logits."""

import numpy as np
import pytest
import torch
from training_tasks import ForcedTrainer, KeepGradient, framed_examples, judge_in_turn, window_tasks
from transformers import set_seed

from medscope.agents.policy import tiny_policy
from medscope.environment import FrameStore
from medscope.ranks import process_count, share
from medscope.rewards import RewardSettings
from medscope.training import ga_grpo, update
from medscope.training.processes import on_processes
from medscope.training.sft import fine_tune


def as_it_is(example):
    """The builder of records that are examples already."""
    return example


def fine_tuned(scratch, path, accumulation=1, tiled=False):
    """Weights and losses after two steps on four dialogues of different length, in one batch or in several."""
    torch.set_num_threads(1)
    policy = tiny_policy(seed=0)
    if tiled:
        policy.activation_bytes = 30_000  # MLPs and tower read three tokens at a time
        policy.bound_activations()
        assert policy.gradient_tokens == 3
    examples = framed_examples(policy, path, 8)
    scratch = scratch / str(process_count())
    settings = {"gradient_accumulation": accumulation, "warm_up_steps": 1}
    log = fine_tune(policy, examples, examples[:4], as_it_is, scratch, 2, 4 // accumulation, 1e-4, **settings)
    return policy.model.state_dict(), [(row["loss"], row["grad_norm"]) for row in log if "loss" in row]


def reinforced(scratch, path, budget):
    """Weights and log after two GA-GRPO steps of four questions."""
    torch.set_num_threads(1)
    ga_grpo.GAGRPOTrainer = ForcedTrainer
    set_seed(0)
    policy = tiny_policy(seed=0)
    log = ga_grpo.train(
        policy, window_tasks(path, 8), FrameStore(), budget, scratch / str(process_count()), RewardSettings(),
        steps=2, questions_per_step=4, num_generations=2, learning_rate=1e-4,
    )  # fmt: skip
    return policy.model.state_dict(), log


def one_update(scratch, path, budget, questions_per_step, accumulation, packed, chunked):
    """Log row and gradient of one update on four tasks whose rollouts differ in length."""
    torch.set_num_threads(1)
    ga_grpo.GAGRPOTrainer = ForcedTrainer
    update.LOGIT_ELEMENTS = 5000 if chunked else 1 << 25  # 5000: some ten tokens
    set_seed(0)
    policy, kept = tiny_policy(seed=0), []
    KeepGradient.on_train_end = lambda callback, *_, **__: kept.append(callback.gradient)
    log = ga_grpo.train(
        policy, window_tasks(path, 4), FrameStore(), budget, scratch, RewardSettings(), steps=1,
        questions_per_step=questions_per_step, num_generations=3, learning_rate=1e-4,
        gradient_accumulation=accumulation, gradient_checkpointing=packed, judge=judge_in_turn,
    )  # fmt: skip
    return log[0], kept[0]


def assert_close(weights, expected):
    """Adam moves a weight by the learning rate whatever its gradient: those near 0 may go either way."""
    for name, value in expected.items():
        assert (weights[name] - value).abs().max() <= 4e-4, name
        assert (weights[name] - value).abs().mean() <= 1e-6, name


@pytest.mark.slow
@pytest.mark.parametrize("processes, accumulation, tiled", [(2, 1, False), (1, 4, True), (2, 2, True)])
def test_sft_is_the_same_however_a_batch_is_cut(processes, accumulation, tiled, operation, tmp_path):
    weights, steps = on_processes(1, fine_tuned, tmp_path / "whole", operation.path)
    cut = (operation.path, accumulation, tiled)
    other_weights, other_steps = on_processes(processes, fine_tuned, tmp_path / "cut", *cut)
    np.testing.assert_allclose(other_steps, steps, rtol=1e-5)
    assert_close(other_weights, weights)


@pytest.fixture
def restored(monkeypatch):
    """What the functions above change in this process is changed back."""
    monkeypatch.setattr(ga_grpo, "GAGRPOTrainer", ForcedTrainer)
    monkeypatch.setattr(update, "LOGIT_ELEMENTS", update.LOGIT_ELEMENTS)
    monkeypatch.setattr(KeepGradient, "on_train_end", KeepGradient.on_train_end)


@pytest.mark.slow
def test_ga_grpo_on_two_processes_equals_one(operation, tiny_budget, tmp_path, restored):
    weights, log = on_processes(1, reinforced, tmp_path, operation.path, tiny_budget)
    both_weights, both = on_processes(2, reinforced, tmp_path, operation.path, tiny_budget)
    for row, other in zip(log[:2], both[:2], strict=True):
        for name in ("loss", "reward", "iou", "tool_call_rate", "completion_tokens", "grad_norm"):
            assert other[name] == pytest.approx(row[name], abs=1e-4), name
    assert_close(both_weights, weights)


@pytest.mark.parametrize(
    "processes, questions_per_step, accumulation, packed, chunked",
    [
        pytest.param(1, 2, 2, False, False, marks=pytest.mark.slow),
        pytest.param(1, 1, 4, False, True, marks=pytest.mark.slow),
        pytest.param(1, 4, 1, True, True, marks=pytest.mark.slow),
        pytest.param(1, 2, 2, True, False, marks=pytest.mark.slow),
        pytest.param(2, 4, 1, False, True, marks=pytest.mark.slow),
        pytest.param(2, 2, 2, True, True, marks=pytest.mark.slow),
    ],
)
def test_a_batch_is_the_same_update_however_it_is_cut(
    processes,
    questions_per_step,
    accumulation,
    packed,
    chunked,
    whole_batch,
    operation,
    tiny_budget,
    tmp_path,
    restored,
):
    whole, whole_gradient = whole_batch
    cut = (questions_per_step, accumulation, packed, chunked)
    row, gradient = on_processes(processes, one_update, tmp_path, operation.path, tiny_budget, *cut)
    assert row["loss"] == pytest.approx(whole["loss"], abs=1e-5) and abs(whole["loss"]) > 1e-3
    assert row["grad_norm"] == pytest.approx(whole["grad_norm"], rel=1e-4)
    assert row["reward"] == pytest.approx(whole["reward"], abs=1e-5)
    for name, value in whole_gradient.items():
        torch.testing.assert_close(gradient[name], value, atol=1e-5, rtol=0, msg=name)


@pytest.fixture(scope="module")
def whole_batch(operation, tiny_budget, tmp_path_factory):
    """The update of four tasks at once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ga_grpo, "GAGRPOTrainer", ForcedTrainer)
        patch.setattr(update, "LOGIT_ELEMENTS", update.LOGIT_ELEMENTS)
        patch.setattr(KeepGradient, "on_train_end", KeepGradient.on_train_end)
        return one_update(tmp_path_factory.mktemp("whole"), operation.path, tiny_budget, 4, 1, False, False)


def test_a_batch_that_cannot_be_shared_is_named(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "3")
    assert share("batch_size", 6) == 2
    with pytest.raises(ValueError, match="questions_per_step=8 cannot be shared by 3 processes"):
        share("questions_per_step", 8)


def test_no_processes_at_all_is_an_error():
    with pytest.raises(ValueError, match="processes=0"):
        on_processes(0, print)
