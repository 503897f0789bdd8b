"""Everything that only a GPU can say, in one command (`make gpu-check`): results/gpu.json and results/gpu.md.

1. The tests that are marked `gpu`.
2. The highest rate of a bfloat16 matrix product: the measured peak.
3. One GA-GRPO step of a model shaped like Qwen2.5-VL-7B (28 + 32 layers, random bfloat16 weights, LoRA of rank 64,
   gradient checkpointing) for 64 and 256 frames and 8 rollouts, against stock TRL on the same prompt tokens. A random
   model calls no tool, so that each rollout is one turn of so many tokens on both sides.
4. Attention of a packed group, forward and backward: flex_attention and masked SDPA against `training.packed`.
5. Rollouts by vLLM in this process, where it is installed.

Without a GPU it says so and exits with 1. `--tiny --device cpu` runs all lines but those of CUDA with the tiny model,
and writes nothing. `share` is floating-point operations (counted by torch on a step of its own) over time and peak.
"""

import argparse
import copy
import gc
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from importlib.util import find_spec
from pathlib import Path
from typing import Any

os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")

import torch
from datasets import Dataset
from gpu_attention import attention
from peft import LoraConfig, get_peft_model
from report import RESULTS, machine, peak_memory, reset_peak_memory, write_results
from torch.utils.flop_counter import FlopCounterMode
from transformers import Qwen2_5_VLForConditionalGeneration, Qwen2VLImageProcessorPil, TrainingArguments, set_seed
from trl import GRPOConfig, GRPOTrainer
from wide import PIXELS, wide_config, write_pattern

from medscope.agents.attention import FRAME_ATTENTION, PREFIX_ATTENTION
from medscope.agents.encoding import encode_prompt
from medscope.agents.policy import FrameProcessor, Policy, tiny_policy
from medscope.agents.vllm_engine import make_engine
from medscope.environment import ClinicalVideoEnvironment, FrameStore, ToolBudget
from medscope.environment.environment import skim
from medscope.environment.prompts import CHAT_TEMPLATE, opening
from medscope.records import Task, Text, Window
from medscope.rewards import RewardSettings
from medscope.training.ga_grpo import GAGRPOTrainer

NO_GPU = "no CUDA GPU is visible to torch: nothing was checked and nothing was measured"
Step = Callable[[], dict[str, float]]


def seven_b(device: str) -> Policy:
    """Qwen2.5-VL-7B's own configuration with random bfloat16 weights and LoRA of rank 64; the tiny tokenizer."""
    tokenizer = tiny_policy().tokenizer
    torch.set_default_dtype(torch.bfloat16)
    with torch.device(device):
        model = Qwen2_5_VLForConditionalGeneration(wide_config(tokenizer.get_vocab(), 28, 32))
    torch.set_default_dtype(torch.float32)
    return with_lora(model, Qwen2VLImageProcessorPil(), tokenizer)


def with_lora(model: Qwen2_5_VLForConditionalGeneration, images: Any, tokenizer: Any) -> Policy:
    targets = r".*language_model.*\.(q|k|v|o|gate|up|down)_proj"
    model.model.visual.requires_grad_(False)
    lora = get_peft_model(model, LoraConfig(r=64, lora_alpha=128, target_modules=targets))
    policy = Policy(lora, FrameProcessor(images, tokenizer, CHAT_TEMPLATE))
    use_attention(policy, FRAME_ATTENTION, PREFIX_ATTENTION)
    return policy


def use_attention(policy: Policy, frames: str, text: str) -> None:
    policy.base.model.visual.config._attn_implementation = frames
    policy.base.model.language_model.config._attn_implementation = text


def synchronize(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def matmul_peak(device: str, size: int) -> float:
    """The best of ten products [size, size] x [size, size] in bfloat16, in 1e12 operations a second."""
    a, b = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    seconds = []
    for _ in range(12):
        synchronize(device)
        start = time.perf_counter()
        a @ b
        synchronize(device)
        seconds.append(time.perf_counter() - start)
    return 2 * size**3 / min(seconds[2:]) / 1e12


def ours(policy: Policy, task: Task, budget: ToolBudget, group: int, device: str) -> Step:
    """Our trainer's rollouts, loss and backward; features are made anew in every step."""
    cuda = device == "cuda"
    arguments = TrainingArguments(
        tempfile.mkdtemp(), bf16=cuda, report_to=[], use_cpu=not cuda, remove_unused_columns=False
    )
    policy.cache_features = True
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
    """TRL's own generation, loss and backward for the very same prompt tokens, with torch's SDPA."""
    cuda = device == "cuda"
    use_attention(policy, "sdpa", "sdpa")
    environment = ClinicalVideoEnvironment(FrameStore(), budget)
    environment.reset(path=task.path)
    rows = [{"prompt": opening(task.question, skim(environment), tools=False)}] * group
    trainer = GRPOTrainer(
        model=policy.model,
        reward_funcs=lambda completions, **_: [float(len(str(c)) % 3) for c in completions],
        args=GRPOConfig(
            tempfile.mkdtemp(), per_device_train_batch_size=group, num_generations=group, beta=0.0,
            scale_rewards="none", loss_type="bnpo", max_completion_length=budget.max_turn_tokens, report_to=[],
            use_cpu=not cuda, bf16=cuda, gradient_checkpointing=True,
        ),
        train_dataset=Dataset.from_list([{"prompt": [{"role": "user", "content": "?"}]}] * 64),
        processing_class=policy.processor,
    )  # fmt: skip
    policy.processor.image_processor.do_resize = False
    trainer.current_gradient_accumulation_steps = 1
    theirs = trainer._tokenize_prompts([row["prompt"] for row in rows])[0]
    assert theirs[0] == encode_prompt(policy, rows[0]["prompt"], tools=False).ids, "the prompts differ"
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


def steps(options: argparse.Namespace, peak: float) -> list[dict[str, Any]]:
    """A row per number of frames: ours beside TRL's, and how many times faster ours is."""
    rows = []
    for frames in options.frames:
        task, budget = task_of(frames, options)
        row: dict[str, Any] = {"check": "ga_grpo_step", "frames": frames, "group": options.group}
        for name, engine in (("ours", ours), ("trl", stock_trl)):
            policy = policy_of(options)
            try:
                found = measured(
                    engine(policy, task, budget, options.group, options.device), policy, peak, options.repeats,
                    options.device,
                )  # fmt: skip
                row |= {f"{name}_{key}": round(value, 4) for key, value in found.items()}
            except torch.OutOfMemoryError:
                row[f"{name}_step_s"] = "out of memory"
            del policy
            reset_memory(options.device)
        if all(isinstance(row[f"{name}_step_s"], float) for name in ("ours", "trl")):
            row["ratio"] = round(row["trl_step_s"] / row["ours_step_s"], 2)
        rows.append(row)
        print(row, flush=True)
    return rows


def policy_of(options: argparse.Namespace) -> Policy:
    set_seed(0)
    if not options.tiny:
        return seven_b(options.device)
    tiny = tiny_policy()
    return with_lora(tiny.model.to(options.device), tiny.processor.image_processor, tiny.tokenizer)


def task_of(frames: int, options: argparse.Namespace) -> tuple[Task, ToolBudget]:
    video = Path(tempfile.mkdtemp()) / "pattern.mp4"
    write_pattern(video, frames)
    pixels = 784 if options.tiny else PIXELS
    budget = ToolBudget(
        skim_frames=frames, skim_pixels=pixels, crop_frames=8, crop_pixels=pixels, context_tokens=128_000,
        max_turn_tokens=options.tokens,
    )  # fmt: skip
    task = Task(
        id="pattern", video="pattern", path=str(video), question="When does the pattern change?", reference=Text("now"),
        evidence=Window(0, 20), kind="grounding", split="rl", collection="pattern",
    )  # fmt: skip
    return task, budget


def vllm_rollouts(options: argparse.Namespace) -> dict[str, Any]:
    """Seconds of the rollouts of one task by vLLM, which shares the GPU with the policy."""
    row: dict[str, Any] = {"check": "vllm_rollouts", "frames": options.frames[0], "group": options.group}
    if find_spec("vllm") is None:
        return row | {"rollout_s": "vLLM is not installed"}
    task, budget = task_of(options.frames[0], options)
    policy = policy_of(options)
    engine = make_engine("vllm", policy, budget, options.group, 0.5, seed=0)
    environments = [ClinicalVideoEnvironment(FrameStore(), budget) for _ in range(options.group)]
    seconds = []
    for _ in range(options.repeats + 1):
        start = time.perf_counter()
        engine(policy, [task], environments, options.group, temperature=1.0)
        seconds.append(time.perf_counter() - start)
    return row | {"rollout_s": round(statistics.median(seconds[1:]), 3)}


def main() -> int:
    """Command line: see --help. 0: all checked. 1: no GPU, or a test failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, nargs="+", default=[64, 256])
    parser.add_argument("--group", type=int, default=8, help="rollouts of the task")
    parser.add_argument("--tokens", type=int, default=256, help="of a turn")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--tiny", action="store_true", help="the tiny model instead of 7B")
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        print(NO_GPU, file=sys.stderr)
        return 1
    root = Path(__file__).parents[1]
    tests = subprocess.run([sys.executable, "-m", "pytest", "-m", "gpu", "tests/test_gpu.py"], cwd=root).returncode
    peak = matmul_peak(options.device, 256 if options.tiny else 8192)
    rows: list[dict[str, Any]] = [
        {"check": "tests", "passed": tests == 0},
        {"check": "matmul_peak", "tflops": round(peak, 2)},
    ]
    rows += [
        *steps(options, peak),
        *attention(options.device, options.tiny, options.frames, options.group, options.tokens, options.repeats),
        vllm_rollouts(options),
    ]
    if options.device == "cuda":
        write_results("gpu", rows, machine())
        print(RESULTS / "gpu.json")
    else:
        print(f"a dry run without a GPU: nothing is written to {RESULTS}")
    return tests


if __name__ == "__main__":
    sys.exit(main())
