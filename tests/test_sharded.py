"""FSDP2 on CPUs (gloo): SFT and an update of GA-GRPO with sharded weights are those of one process, and saved whole.

accelerate turns FSDP on for GPUs only: its `AcceleratorState` asks for a distributed type that is not MULTI_CPU. The
trainer of this test sets what it would set on GPUs. All else is the real path: accelerate shards, torch gathers.
"""

import os
from pathlib import Path

import pytest
import torch
from accelerate import PartialState
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin
from accelerate.utils.launch import prepare_multi_gpu_env
from training_tasks import ForcedTrainer, KeepGradient, framed_examples, judge_in_turn, window_tasks
from transformers import set_seed

from medscope.agents.policy import load_policy, tiny_policy
from medscope.environment import FrameStore
from medscope.pipeline.parameters import ROOT
from medscope.ranks import is_first_process, process_count
from medscope.rewards import RewardSettings
from medscope.training import ga_grpo, sft
from medscope.training.processes import on_processes
from medscope.training.resume import last_checkpoint
from medscope.training.sharded import shards, whole_state

FILE = ROOT / "presets" / "accelerate" / "fsdp2.yaml"


def launch_environment():
    """What `accelerate launch` with the file sets for every process."""
    words = ["--config_file", str(FILE), "--num_machines", "2", "--num_processes", "16", "--main_process_ip", "host",
             "--main_process_port", "29500", "--rdzv_backend", "c10d", "-m", "medscope.pipeline.stage"]  # fmt: skip
    arguments, *_ = _validate_launch_command(launch_command_parser().parse_args(words))
    assert arguments.use_fsdp
    return prepare_multi_gpu_env(arguments)


class Sharded:
    """A trainer as accelerate sets it up on GPUs."""

    def create_accelerator_and_postprocess(self):
        super().create_accelerator_and_postprocess()
        if process_count() > 1:
            state = self.accelerator.state
            state.fsdp_plugin = FullyShardedDataParallelPlugin()
            state.distributed_type = PartialState._shared_state["distributed_type"] = DistributedType.FSDP
            self.is_fsdp_enabled = True


class ShardedTrainer(Sharded, ForcedTrainer):
    pass


class ShardedSFTTrainer(Sharded, sft.ResumableSFTTrainer):
    pass


def full(tensor):
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def updated(scratch, path, budget, environment):
    """Log row, gradient, and the saved weights after one update; how many modules were sharded."""
    os.environ.update(environment)
    torch.set_num_threads(1)
    ga_grpo.GAGRPOTrainer = ShardedTrainer
    kept = []
    KeepGradient.on_train_end = lambda callback, *_, **__: kept.append(
        {name: full(gradient) for name, gradient in callback.gradient.items()}
    )
    set_seed(0)
    policy = tiny_policy(seed=0)
    log = ga_grpo.train(
        policy, window_tasks(path, 4), FrameStore(), budget, scratch, RewardSettings(), steps=1,
        questions_per_step=4, num_generations=3, learning_rate=1e-4, gradient_checkpointing=True, judge=judge_in_turn,
    )  # fmt: skip
    weights = whole_state(policy.model)
    if is_first_process():
        policy.save(Path(scratch) / "saved", weights)
    assert Path(last_checkpoint(scratch)).name == "checkpoint-1"
    return log[0], kept[0], len(shards(policy.model))


class LeavesAfterItsCheckpoint(ShardedSFTTrainer):
    """Its training ends with the first checkpoint, as if the machine were needed for something else."""

    def _save_checkpoint(self, model, trial):
        super()._save_checkpoint(model, trial)
        self.control.should_training_stop = True


class DoesOnlyTheLastStep(ShardedSFTTrainer):
    """Without its checkpoint it would end in the same losses and weights, from the first step on."""

    def training_step(self, *given, **named):
        assert self.state.global_step == 2, "it began again"
        return super().training_step(*given, **named)


def fine_tuned(scratch, path, environment, trainer=ShardedSFTTrainer):
    """The losses of three steps of SFT on frames and sentences of different length; how many modules were sharded."""
    os.environ.update(environment)
    torch.set_num_threads(1)
    sft.ResumableSFTTrainer = trainer
    policy = tiny_policy(seed=0)
    examples = framed_examples(policy, path, 4)
    log = sft.fine_tune(
        policy, examples, examples[:2], lambda example: example, scratch, steps=3, batch_size=4, learning_rate=1e-4,
        warm_up_steps=1, save_steps=2, gradient_checkpointing=True,
    )  # fmt: skip
    weights = whole_state(policy.model)
    if is_first_process():
        policy.save(Path(scratch) / "saved", weights)
    return [row["loss"] for row in log if "loss" in row], len(shards(policy.model))


def sharding():
    """The environment of the accelerate file, in float32, for a comparison to 1e-5."""
    given = {name: value for name, value in launch_environment().items() if name.startswith(("FSDP", "ACCELERATE"))}
    return {**given, "ACCELERATE_MIXED_PRECISION": "no"}


def assert_saved_weights_are_equal(one, two):
    one, two = (load_policy(folder / "saved").model.state_dict() for folder in (one, two))
    for name, value in one.items():
        assert (two[name] - value).abs().mean() <= 1e-6, name


@pytest.mark.slow
def test_sft_with_sharded_weights_is_that_of_one_process(operation, tmp_path, monkeypatch):
    monkeypatch.setattr(sft, "ResumableSFTTrainer", ShardedSFTTrainer)
    losses, units = on_processes(1, fine_tuned, tmp_path / "one", operation.path, {})
    assert units == 0 and losses[2] < losses[0]
    both, units = on_processes(2, fine_tuned, tmp_path / "two", operation.path, sharding())
    assert units > 4, "the layers were sharded"
    assert both == pytest.approx(losses, rel=1e-5)
    assert_saved_weights_are_equal(tmp_path / "one", tmp_path / "two")
    cut = tmp_path / "cut"
    stopped, _ = on_processes(2, fine_tuned, cut, operation.path, sharding(), LeavesAfterItsCheckpoint)
    assert len(stopped) == 2 and Path(last_checkpoint(cut)).name == "checkpoint-2"
    continued, units = on_processes(2, fine_tuned, cut, operation.path, sharding(), DoesOnlyTheLastStep)
    assert units > 4 and continued == pytest.approx(both, rel=1e-6)
    assert_saved_weights_are_equal(tmp_path / "two", cut)


@pytest.mark.slow
def test_an_update_with_sharded_weights_is_that_of_one_process(operation, tiny_budget, tmp_path, monkeypatch):
    monkeypatch.setattr(ga_grpo, "GAGRPOTrainer", ShardedTrainer)
    monkeypatch.setattr(KeepGradient, "on_train_end", KeepGradient.on_train_end)
    row, gradient, units = on_processes(1, updated, tmp_path / "one", operation.path, tiny_budget, {})
    assert units == 0 and row["grad_norm"] > 0
    both = on_processes(2, updated, tmp_path / "two", operation.path, tiny_budget, sharding())
    assert both[2] > 4, "the layers were sharded"
    assert both[0]["loss"] == pytest.approx(row["loss"], abs=1e-5) and abs(row["loss"]) > 1e-3
    assert both[0]["grad_norm"] == pytest.approx(row["grad_norm"], rel=1e-4)
    for name, value in gradient.items():
        torch.testing.assert_close(both[1][name], value, atol=1e-5, rtol=0, msg=name)
    assert_saved_weights_are_equal(tmp_path / "one", tmp_path / "two")


def test_the_accelerate_file_says_fsdp2(monkeypatch):
    environment = launch_environment()
    for name, value in environment.items():
        if name.startswith("FSDP"):
            monkeypatch.setenv(name, value)
    plugin = FullyShardedDataParallelPlugin()
    assert environment["ACCELERATE_USE_FSDP"] == "true" and environment["ACCELERATE_MIXED_PRECISION"] == "bf16"
    assert plugin.fsdp_version == 2 and plugin.reshard_after_forward and not plugin.cpu_ram_efficient_loading
    assert plugin.transformer_cls_names_to_wrap == ["Qwen2_5_VLDecoderLayer", "Qwen2_5_VLVisionBlock"]
