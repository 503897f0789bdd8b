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
import os
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")

import torch
from gpu_attention import attention
from gpu_step import measured, ours, reset_memory, stock_trl, synchronize, use_attention
from peft import LoraConfig, get_peft_model
from report import RESULTS, machine, write_results
from transformers import (
    Qwen2_5_VLForConditionalGeneration,
    Qwen2VLImageProcessorPil,
    Qwen2VLVideoProcessor,
    set_seed,
)
from wide import PIXELS, wide_config, write_pattern

from medscope.agents.attention import FRAME_ATTENTION, PREFIX_ATTENTION
from medscope.agents.policy import FrameProcessor, Policy, load_policy, tiny_policy
from medscope.agents.vllm_engine import make_engine
from medscope.environment import ClinicalVideoEnvironment, FrameStore, ToolBudget
from medscope.environment.prompts import CHAT_TEMPLATE
from medscope.records import Task, Text, Window

NO_GPU = "no CUDA GPU is visible to torch: nothing was checked and nothing was measured"


def bare(options: argparse.Namespace) -> tuple[Qwen2_5_VLForConditionalGeneration, Any, Any]:
    """The model without LoRA, its image processor and the tiny tokenizer: Qwen2.5-VL-7B's own configuration with random
    bfloat16 weights, or the tiny model."""
    set_seed(0)
    tiny = tiny_policy()
    if options.tiny:
        return tiny.model.to(options.device), tiny.processor.image_processor, tiny.tokenizer
    torch.set_default_dtype(torch.bfloat16)
    with torch.device(options.device):
        model = Qwen2_5_VLForConditionalGeneration(wide_config(tiny.tokenizer.get_vocab(), 28, 32))
    torch.set_default_dtype(torch.float32)
    return model, Qwen2VLImageProcessorPil(), tiny.tokenizer


def with_lora(model: Qwen2_5_VLForConditionalGeneration, images: Any, tokenizer: Any) -> Policy:
    targets = r".*language_model.*\.(q|k|v|o|gate|up|down)_proj"
    model.model.visual.requires_grad_(False)
    lora = get_peft_model(model, LoraConfig(r=64, lora_alpha=128, target_modules=targets))
    policy = Policy(lora, FrameProcessor(images, tokenizer, CHAT_TEMPLATE))
    use_attention(policy, FRAME_ATTENTION, PREFIX_ATTENTION)
    return policy


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
    return with_lora(*bare(options))


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
    folder = Path(tempfile.mkdtemp()) / "weights"  # vLLM reads them from disk
    base, images, tokenizer = bare(options)
    Policy(base, FrameProcessor(images, tokenizer, CHAT_TEMPLATE)).save(folder)
    Qwen2VLVideoProcessor().save_pretrained(folder)  # every Qwen2.5-VL checkpoint has one
    del base
    reset_memory(options.device)
    policy = load_policy(folder, lora_rank=64, dtype="bfloat16")
    engine = make_engine("vllm", policy, budget, options.group, 0.5, seed=0)
    environments = [ClinicalVideoEnvironment(FrameStore(), budget) for _ in range(options.group)]
    seconds = []
    for _ in range(options.repeats + 1):
        start = time.perf_counter()
        engine(policy, [task], environments, options.group, temperature=1.0)
        seconds.append(time.perf_counter() - start)
    return row | {"rollout_s": round(statistics.median(seconds[1:]), 3)}


def main() -> int:
    """Command line: see --help. 0: all checked. 1: no GPU, or a test or a check failed."""
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
    checks: dict[str, Callable[[], list[dict[str, Any]]]] = {
        "ga_grpo_step": lambda: steps(options, peak),
        "attention": lambda: attention(
            options.device, options.tiny, options.frames, options.group, options.tokens, options.repeats
        ),
        "vllm_rollouts": lambda: [vllm_rollouts(options)],
    }
    failed = False
    for name, check in checks.items():
        try:
            rows += check()
        except Exception as error:  # what the others have measured is kept
            traceback.print_exc()
            rows.append({"check": name, "failed": f"{type(error).__name__}: {error}"[:200]})
            failed = True
        if options.device == "cuda":
            write_results("gpu", rows, machine())
    print(RESULTS / "gpu.json" if options.device == "cuda" else f"a dry run: nothing is written to {RESULTS}")
    return int(tests != 0 or failed)


if __name__ == "__main__":
    sys.exit(main())
