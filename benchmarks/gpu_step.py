"""One GA-GRPO step of a policy: ours and stock TRL's on the same prompt tokens, timed, with memory and operations."""

import copy
import gc
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext

import torch
from datasets import Dataset
from report import peak_memory, reset_peak_memory
from torch.utils.flop_counter import FlopCounterMode
from transformers import TrainingArguments, set_seed
from trl import GRPOConfig, GRPOTrainer

from medscope.agents.encoding import encode_prompt
from medscope.agents.policy import Policy
from medscope.agents.tiles import tile_mlps
from medscope.environment import ClinicalVideoEnvironment, FrameStore, ToolBudget
from medscope.environment.environment import skim
from medscope.environment.prompts import opening
from medscope.records import Task
from medscope.rewards import RewardSettings
from medscope.training.ga_grpo import GAGRPOTrainer

Step = Callable[[], dict[str, float]]


def use_attention(policy: Policy, frames: str, text: str) -> None:
    policy.base.model.visual.config._attn_implementation = frames
    policy.base.model.language_model.config._attn_implementation = text


def synchronize(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def ours(policy: Policy, task: Task, budget: ToolBudget, group: int, device: str) -> Step:
    """Our trainer's rollouts, loss and backward; features are made anew in every step."""
    cuda = device == "cuda"
    arguments = TrainingArguments(
        tempfile.mkdtemp(), bf16=cuda, report_to=[], use_cpu=not cuda, remove_unused_columns=False
    )
    policy.cache_features = True
    tile_mlps(policy.base.model.language_model, policy.gradient_tokens)
    trainer = GAGRPOTrainer(policy, arguments, [task], FrameStore(), budget, group, 1.0, "binary", RewardSettings())
    policy.model.activation_checkpointing_enable({"use_reentrant": False})
    policy.model.train()

    def step() -> dict[str, float]:
        policy.forget_features()
        start = time.perf_counter()
        with trainer.compute_loss_context_manager():
            experience = trainer.collect([task])
            synchronize(device)
            sampled = time.perf_counter()
            loss = trainer.update_loss(experience, experience.tokens)
        loss.backward()
        synchronize(device)
        done = time.perf_counter()
        return {"rollout_s": sampled - start, "update_s": done - sampled, "tokens": float(experience.tokens)}

    return step


def stock_trl(policy: Policy, task: Task, budget: ToolBudget, group: int, device: str) -> Step:
    """TRL's own generation, loss and backward for the very same prompt tokens, with torch's SDPA and whole MLPs.

    TRL would describe what the tools return, too (see ga_grpo_step.py)."""
    for tool in (ClinicalVideoEnvironment.crop_video, ClinicalVideoEnvironment.get_frame):
        tool.__annotations__.pop("return", None)
    cuda = device == "cuda"
    use_attention(policy, "sdpa", "sdpa")
    tile_mlps(policy.base.model.language_model, sys.maxsize)
    environment = ClinicalVideoEnvironment(FrameStore(), budget)
    environment.reset(path=task.path)
    rows = [{"prompt": opening(task.question, skim(environment)), "path": task.path}] * group
    trainer = GRPOTrainer(
        model=policy.model,
        reward_funcs=lambda completions, **_: [float(len(str(c)) % 3) for c in completions],
        args=GRPOConfig(
            tempfile.mkdtemp(), per_device_train_batch_size=group, num_generations=group, beta=0.0,
            scale_rewards="none", loss_type="bnpo", max_completion_length=budget.max_turn_tokens, report_to=[],
            use_cpu=not cuda, bf16=cuda, gradient_checkpointing=True,
        ),
        train_dataset=Dataset.from_list([{"prompt": [{"role": "user", "content": "?"}], "path": task.path}] * 64),
        processing_class=policy.processor,
        environment_factory=lambda: ClinicalVideoEnvironment(FrameStore(), budget),
    )  # fmt: skip
    policy.processor.image_processor.do_resize = False
    trainer.current_gradient_accumulation_steps = 1
    trainer._batch_environments = [None] * group
    theirs = trainer._tokenize_prompts([row["prompt"] for row in rows])[0]
    assert theirs[0] == encode_prompt(policy, rows[0]["prompt"], tools=True).ids, "the prompts differ"
    policy.model.train()

    def step() -> dict[str, float]:
        start = time.perf_counter()
        batch = trainer._generate_and_score_completions(copy.copy(rows))
        synchronize(device)
        sampled = time.perf_counter()
        with trainer.compute_loss_context_manager():
            loss = trainer._compute_loss(policy.model, batch)
        loss.backward()
        synchronize(device)
        done = time.perf_counter()
        tokens = batch["completion_mask"].sum().item()
        return {"rollout_s": sampled - start, "update_s": done - sampled, "tokens": float(tokens)}

    return step


class NoModules(nullcontext):
    """Count for the whole model: torch's own tracker of modules fails on those without gradient."""

    parents = ("Global",)


def measured(step: Step, policy: Policy, peak: float, repeats: int, device: str) -> dict[str, float]:
    """Medians over steps after one to warm up; its memory (GiB) at the highest; its share of the peak."""
    found = []
    reset_memory(device)
    for repeat in range(repeats + 1):
        set_seed(repeat)
        policy.model.zero_grad()
        start = time.perf_counter()
        done = step()
        found.append({"step_s": time.perf_counter() - start, **done})
    row = {name: statistics.median(one[name] for one in found[1:]) for name in found[0]}
    row["peak_gib"] = memory(device)
    policy.model.zero_grad()
    counter = FlopCounterMode(display=False)
    counter.mod_tracker = NoModules()
    with counter:
        step()
    row["tokens_per_s"] = row["tokens"] / row["step_s"]
    return row | {"share": counter.get_total_flops() / row["step_s"] / (peak * 1e12)}


def reset_memory(device: str) -> None:
    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    else:
        reset_peak_memory()


def memory(device: str) -> float:
    return torch.cuda.max_memory_allocated() / 2**30 if device == "cuda" else peak_memory()
