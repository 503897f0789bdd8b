"""One whole GA-GRPO step (rollouts, rewards, update) against stock TRL's GRPO, side by side in one process.

Same model, prompts, environment, temperature and budget. The tiny policy is first taught to call a tool and then
to answer, so that both sides run two turns. Ratios count; seconds are those of this machine.

    python benchmarks/ga_grpo_step.py --frames 16 64 256 --groups 2 4 8 16
"""

import argparse
import copy
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")

import numpy as np
import torch
from datasets import Dataset
from report import machine, peak_memory, plot_steps, reset_peak_memory, write_results
from transformers import TrainingArguments
from trl import GRPOConfig, GRPOTrainer

from medscope.agents.encoding import encode_prompt
from medscope.agents.policy import Policy, tiny_policy
from medscope.environment import ClinicalVideoEnvironment, FrameStore, ToolBudget
from medscope.environment.environment import skim
from medscope.environment.grammar import call_text
from medscope.environment.prompts import opening
from medscope.records import Recording, Task, Trajectory, Window
from medscope.rewards import RewardSettings
from medscope.sources.rendered.camera import write_video
from medscope.sources.rendered.collections import sample_recording
from medscope.sources.rendered.questions import LANGUAGE
from medscope.suite.nested_tasks import nested_tasks
from medscope.suite.tasks import GROUNDING
from medscope.training.examples import collate, trajectory_example
from medscope.training.ga_grpo import GAGRPOTrainer

Step = Callable[[], dict[str, float]]
SKIM = 24  # with which the video is drawn; the prompts show any number of its frames
TURN_TOKENS = 48


@dataclass(frozen=True)
class Setting:
    """What both sides are given."""

    tasks: list[Task]
    store: FrameStore
    budget: ToolBudget
    num_generations: int


def long_recording(folder: Path) -> Recording:
    """A rendered procedure of more than 256 s with four phases or more to ask for."""
    for seed in range(1000):
        rng = np.random.default_rng(seed)
        recording = sample_recording("procedures", f"long_{seed}", "eval", folder / "long.mp4", SKIM, 0.2, rng)
        if recording.duration > 256 and len(grounding_tasks(recording)) >= 4:
            write_video(recording)
            return recording
    raise RuntimeError("no long recording in 1000 draws")


def grounding_tasks(recording: Recording) -> list[Task]:
    tasks = nested_tasks(recording, LANGUAGE, np.random.default_rng(0))
    return [task for task in tasks if task.kind == GROUNDING]


def taught_policy(setting: Setting) -> Policy:
    """The tiny policy after it has learned to crop and answer on these very prompts."""
    policy, environment = tiny_policy(), ClinicalVideoEnvironment(setting.store, setting.budget)
    examples = []
    for number, task in enumerate(setting.tasks):
        window = Window(10 * number, 10 * number + 20)
        call = call_text("crop_video", {"start_time": window.start, "end_time": window.end})
        turns = (f"<think>find {task.subject}</think>{call}", "<think>seen</think><answer>yes</answer>")
        examples.append(trajectory_example(policy, Trajectory(task, turns), environment))
    batch = collate(policy, examples)
    optimiser = torch.optim.AdamW(policy.model.parameters(), lr=3e-3)
    for _ in range(60):
        policy.model(**batch).loss.backward()
        optimiser.step()
        optimiser.zero_grad()
    for parameter in policy.base.model.visual.parameters():
        parameter.requires_grad_(False)
    return policy


def ours(policy: Policy, setting: Setting) -> Step:
    """Our trainer's loss and backward; frame features are forgotten before every step."""
    arguments = TrainingArguments(tempfile.mkdtemp(), per_device_train_batch_size=len(setting.tasks), report_to=[])
    policy.cache_features = True
    trainer = GAGRPOTrainer(
        policy,
        arguments,
        setting.tasks,
        setting.store,
        setting.budget,
        setting.num_generations,
        1.0,
        "none",
        RewardSettings(),
    )

    def step() -> dict[str, float]:
        policy.forget_features()
        start = time.perf_counter()
        experience = trainer.collect(setting.tasks)
        sampled = time.perf_counter()
        trainer.update_loss(experience, experience.tokens).backward()
        done = {name: values[-1] for name, values in trainer.recent.items()}
        return {
            "rollout_s": sampled - start,
            "update_s": time.perf_counter() - sampled,
            "tokens": done["completion_tokens"],
            "calls": done["tool_calls"],
        }

    return step


def stock_trl(policy: Policy, setting: Setting) -> Step:
    """TRL's own generation, tool loop, loss and backward on the same environment.

    Both sides read the very same prompt tokens: TRL would otherwise enlarge the small frames (four times the tokens)
    and describe what the tools return, too.
    """
    for tool in (ClinicalVideoEnvironment.crop_video, ClinicalVideoEnvironment.get_frame):
        tool.__annotations__.pop("return", None)
    rows = []
    for task in setting.tasks:
        environment = ClinicalVideoEnvironment(setting.store, setting.budget)
        environment.reset(path=task.path)
        messages = opening(task.question, skim(environment), tools=True)
        rows += [{"prompt": messages, "path": task.path}] * setting.num_generations
    trainer = GRPOTrainer(
        model=policy.model,
        reward_funcs=lambda completions, **_: [float(len(str(c)) % 3) for c in completions],
        args=GRPOConfig(
            tempfile.mkdtemp(), per_device_train_batch_size=len(rows), num_generations=setting.num_generations,
            beta=0.0, scale_rewards="none", loss_type="bnpo", max_completion_length=4 * TURN_TOKENS + 200, report_to=[],
            use_cpu=True, bf16=False, gradient_checkpointing=False, max_tool_calling_iterations=2,
        ),
        train_dataset=Dataset.from_list([{"prompt": [{"role": "user", "content": "?"}], "path": rows[0]["path"]}] * 64),
        processing_class=policy.processor,
        environment_factory=lambda: ClinicalVideoEnvironment(setting.store, setting.budget),
    )  # fmt: skip
    policy.processor.image_processor.do_resize = False
    trainer.current_gradient_accumulation_steps = 1
    trainer.generation_config.max_new_tokens = TURN_TOKENS
    trainer._batch_environments = [None] * len(rows)
    theirs = trainer._tokenize_prompts([row["prompt"] for row in rows])[0]
    assert theirs[0] == encode_prompt(policy, rows[0]["prompt"], tools=True).ids, "the prompts differ"

    def step() -> dict[str, float]:
        start = time.perf_counter()
        batch = trainer._generate_and_score_completions(copy.copy(rows))
        sampled = time.perf_counter()
        trainer._compute_loss(policy.model, batch).backward()
        return {
            "rollout_s": sampled - start,
            "update_s": time.perf_counter() - sampled,
            "tokens": (batch["tool_mask"] * batch["completion_mask"]).sum().item() / len(rows),
            "calls": trainer._metrics["train"]["tools/call_frequency"][-1],
        }

    return step


def timed(step: Step, policy: Policy, repeats: int) -> dict[str, float]:
    """Medians over steps after one to warm up, and the highest memory of the process while they ran."""
    found: list[dict[str, float]] = []
    reset_peak_memory()
    for repeat in range(repeats + 1):
        torch.manual_seed(repeat)
        policy.model.zero_grad()
        start = time.perf_counter()
        done = step()
        found.append({"step_s": time.perf_counter() - start, **done})
    medians = {name: statistics.median(one[name] for one in found[1:]) for name in found[0]}
    return {**medians, "peak_gib": peak_memory()}


def main() -> None:
    """Command line: see --help."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, nargs="+", default=[16, 64, 256])
    parser.add_argument("--groups", type=int, nargs="+", default=[2, 4, 8, 16])
    parser.add_argument("--questions", type=int, default=4, help="tasks per step")
    parser.add_argument("--repeats", type=int, default=8)
    parser.add_argument("--trl-most", type=int, default=2048, help="frames x group beyond which TRL is left out")
    arguments = parser.parse_args()
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    recording, store, rows = long_recording(Path(tempfile.mkdtemp())), FrameStore(), []
    tasks = grounding_tasks(recording)[: arguments.questions]
    for frames in arguments.frames:
        budget = ToolBudget(
            skim_frames=frames, skim_pixels=784, crop_frames=8, crop_pixels=3136, frame_pixels=7056,
            max_turn_tokens=TURN_TOKENS,
        )  # fmt: skip
        policy = taught_policy(Setting(tasks, store, budget, 1))
        for group in arguments.groups:
            setting = Setting(tasks, store, budget, group)
            row = {"frames": frames, "group": group, "questions": len(tasks)}
            for name, engine in (("ours", ours), ("trl", stock_trl)):
                if name == "trl" and frames * group > arguments.trl_most:
                    continue
                fresh = copy.deepcopy(policy)
                found = timed(engine(fresh, setting), fresh, arguments.repeats)
                row |= {f"{name}_{key}": round(value, 3) for key, value in found.items()}
            row["ours_rollouts_per_s"] = round(len(tasks) * group / row["ours_rollout_s"], 1)
            if "trl_step_s" in row:
                row["trl_rollouts_per_s"] = round(len(tasks) * group / row["trl_rollout_s"], 1)
                row["ratio"] = round(row["trl_step_s"] / row["ours_step_s"], 2)
            rows.append(row)
            print(row, flush=True)
            write_results("ga_grpo_step", rows, machine())
    plot_steps("ga_grpo_step", rows)


if __name__ == "__main__":
    main()
