"""Memory and time of one training step of a model as wide as Qwen2.5-VL-7B, for videos of growing length.

The configuration is Qwen2.5-VL-7B's own (hidden 3584, vocabulary 152 064, its vision tower), cut to two language and
two vision layers, with random weights in bfloat16, LoRA of rank 64 and gradient checkpointing. One video of 224 x 224,
a skim of so many frames (64 tokens each), two crops of eight frames, eight generations. A step is one SFT step on one
trajectory, or one whole GA-GRPO step on one task: rollouts, then the update. No optimiser step: LoRA's costs nothing.

    python benchmarks/wide.py --frames 64 128 256 512

Every step runs in a process of its own. Written to results/wide.json, one row per step and number of frames: `peak_gib`
is the main memory at its highest above that before the step (`weights_gib` and libraries), `process_gib` all of it,
`update_s` the forward and backward pass, `rollout_s` the generation before it. Rows that the file has of this machine
are not measured again: delete it after a change of the code.

Simplified: a random model calls no tool, so that the crops are forced, the second one behind the rollout. The tokenizer
is the tiny one, which takes more tokens for the same words. A 28-layer model keeps 14 times the checkpointed states.
TRL scores the tokens that bear a loss on a GPU, and all tokens on a CPU; here it does as on a GPU.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import av
import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from report import RESULTS, machine, peak_memory, reset_peak_memory, write_results
from transformers import (
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2VLImageProcessorPil,
    TrainingArguments,
    set_seed,
)
from trl import SFTConfig
from trl.trainer import utils as trl_utils

from medscope.agents.attention import FRAME_ATTENTION, PREFIX_ATTENTION
from medscope.agents.encoding import RESPONSE_HEAD, RESPONSE_TAIL, encode_blocks, encode_turn
from medscope.agents.policy import IMAGE_TOKEN, FrameProcessor, Policy, tiny_policy
from medscope.agents.rollout import Rollout, generate
from medscope.environment import FrameStore, ToolBudget
from medscope.environment.environment import step as environment_step
from medscope.environment.grammar import call_text
from medscope.environment.prompts import CHAT_TEMPLATE
from medscope.records import Task, Text, Trajectory, Window
from medscope.rewards import RewardSettings
from medscope.training.examples import ExampleBuilder, collate
from medscope.training.ga_grpo import GAGRPOTrainer
from medscope.training.sft import ResumableSFTTrainer

SIZE, PIXELS = 224, 224 * 224  # of a frame
TURN_TOKENS = 32
ANSWER = "<think>seen</think><answer>yes</answer>"


def write_pattern(path: Path, seconds: int) -> None:
    """A moving test pattern, one frame a second."""
    source = f"testsrc2=size={SIZE}x{SIZE}:rate=1:duration={seconds}"
    with av.open(source, format="lavfi") as pattern, av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=1, options={"preset": "ultrafast", "g": "8"})
        stream.width, stream.height, stream.pix_fmt = SIZE, SIZE, "yuv420p"
        for frame in pattern.decode(video=0):
            container.mux(stream.encode(frame.reformat(format="yuv420p")))
        container.mux(stream.encode())


def wide_config(ids: Mapping[str, int], layers: int = 2, vision_layers: int = 2) -> Qwen2_5_VLConfig:
    """Qwen2.5-VL-7B's configuration with so many layers (its own: 28 and 32) and these ids of control tokens."""
    return Qwen2_5_VLConfig(
        text_config={
            "vocab_size": 152_064, "hidden_size": 3584, "intermediate_size": 18_944, "num_hidden_layers": layers,
            "num_attention_heads": 28, "num_key_value_heads": 4, "max_position_embeddings": 128_000,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]},
            "tie_word_embeddings": False, "bos_token_id": None, "eos_token_id": None, "pad_token_id": None,
        },
        vision_config={
            "depth": vision_layers, "hidden_size": 1280, "intermediate_size": 3420, "num_heads": 16,
            "out_hidden_size": 3584, "window_size": 112,
            "fullatt_block_indexes": list(range(min(8, vision_layers) - 1, vision_layers, 8)),
        },
        image_token_id=ids[IMAGE_TOKEN], video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids[IMAGE_TOKEN], vision_end_token_id=ids[IMAGE_TOKEN], tie_word_embeddings=False,
    )  # fmt: skip


def wide_policy() -> Policy:
    """The configuration cut to 2 + 2 layers, random, with LoRA; ids of the tiny tokenizer."""
    tokenizer = tiny_policy().tokenizer
    config = wide_config(tokenizer.get_vocab())
    torch.set_default_dtype(torch.bfloat16)
    model = Qwen2_5_VLForConditionalGeneration(config)
    torch.set_default_dtype(torch.float32)
    model.model.visual.config._attn_implementation = FRAME_ATTENTION
    model.model.language_model.config._attn_implementation = PREFIX_ATTENTION
    targets = r".*language_model.*\.(q|k|v|o|gate|up|down)_proj"
    model = get_peft_model(model, LoraConfig(r=64, lora_alpha=128, target_modules=targets))
    policy = Policy(model, FrameProcessor(Qwen2VLImageProcessorPil(), tokenizer, CHAT_TEMPLATE))
    policy.bound_activations()
    return policy


def crop(start: float) -> str:
    return "<think>look</think>" + call_text("crop_video", {"start_time": start, "end_time": start + 8})


def sft_step(policy: Policy, task: Task, store: FrameStore, budget: ToolBudget, _: int) -> dict[str, float]:
    """Loss and gradient of one trajectory with two crops, by the trainer of stage II."""
    settings = SFTConfig(
        tempfile.mkdtemp(), bf16=True, activation_checkpointing=True, max_length=None, report_to=[],
        use_cpu=not torch.cuda.is_available(), remove_unused_columns=False, dataloader_pin_memory=False,
        activation_checkpointing_kwargs={"use_reentrant": False}, dataset_kwargs={"skip_prepare_dataset": True},
    )  # fmt: skip
    assert hasattr(trl_utils, "_use_triton"), "TRL decides elsewhere which positions its loss scores"
    trl_utils._use_triton = lambda device: True  # read there for nothing else
    build = ExampleBuilder(policy, store, budget)
    trainer = ResumableSFTTrainer(
        policy.model,
        args=settings,
        train_dataset=Dataset.from_dict({"number": [0]}),
        processing_class=policy.processor,
        data_collator=lambda rows: collate(
            policy, [build(Trajectory(task, (crop(0), crop(16), ANSWER))) for _ in rows]
        ),
    )
    policy.model.activation_checkpointing_enable({"use_reentrant": False})
    policy.model.train()
    batch = trainer._prepare_inputs(next(iter(trainer.get_train_dataloader())))
    start = time.perf_counter()
    with trainer.compute_loss_context_manager():
        loss = trainer.compute_loss(policy.model, batch)
    loss.backward()
    return {"update_s": time.perf_counter() - start, "tokens": batch["input_ids"].numel()}


def two_crops(policy: Policy, tasks, environments, num_generations: int, temperature: float) -> list[Rollout]:
    """An engine: the first crop forced, a sampled turn, then the second crop and the answer written behind it."""
    forced = [[crop(8 * i)] for i in range(len(environments))]
    rollouts = generate(
        policy, tasks, environments, num_generations, temperature=temperature, max_turn_tokens=TURN_TOKENS,
        forced_turns=forced,
    )  # fmt: skip
    for number, rollout in enumerate(rollouts):
        call = crop(8 * number + 4)
        response = environment_step(rollout.environment, call)
        shown = encode_blocks(policy, response, RESPONSE_HEAD, RESPONSE_TAIL)
        rollout.spans += [encode_turn(policy, call), shown, encode_turn(policy, ANSWER)]
        rollout.turns += [call, ANSWER]
        rollout.logps = [-12.0] * sum(rollout.assistant_mask)  # about 1 / vocabulary; of forced tokens there are none
    return rollouts


def ga_grpo_step(
    policy: Policy, task: Task, store: FrameStore, budget: ToolBudget, num_generations: int
) -> dict[str, float]:
    """Rollouts, rewards, loss and gradient of one task, by the trainer of stage III."""
    for parameter in policy.base.model.visual.parameters():
        parameter.requires_grad_(False)
    policy.cache_features = True
    arguments = TrainingArguments(
        tempfile.mkdtemp(), bf16=True, report_to=[], use_cpu=not torch.cuda.is_available(), remove_unused_columns=False
    )
    trainer = GAGRPOTrainer(
        policy, arguments, [task], store, budget, num_generations, 1.0, "none", RewardSettings(), engine=two_crops
    )
    policy.model.activation_checkpointing_enable({"use_reentrant": False})
    policy.model.train()
    start = time.perf_counter()
    with trainer.compute_loss_context_manager():
        experience = trainer.collect([task])
        sampled = time.perf_counter()
        loss = trainer.update_loss(experience, experience.tokens)
    loss.backward()
    completions = sum(len(rollout.completion) for rollout in experience.rollouts)
    tokens = len(experience.rollouts[0].prompt.ids) + completions
    return {"rollout_s": sampled - start, "update_s": time.perf_counter() - sampled, "tokens": tokens}


STEPS = {"sft": sft_step, "ga_grpo": ga_grpo_step}


def measure(step: str, frames: int, num_generations: int) -> dict[str, float | str]:
    """One row, in this process."""
    set_seed(0)
    video = Path(tempfile.mkdtemp()) / "video.mp4"
    seconds = max(frames, 80)  # the crops take the first 76 s
    write_pattern(video, seconds)
    budget = ToolBudget(
        skim_frames=frames, skim_pixels=PIXELS, crop_frames=8, crop_pixels=PIXELS, max_turn_tokens=TURN_TOKENS,
        context_tokens=128_000,
    )  # fmt: skip
    task = Task(
        id="wide", video="wide", path=str(video), question="When does the pattern change?", reference=Text("now"),
        evidence=Window(0, 20), kind="grounding", split="rl", collection="pattern",
    )  # fmt: skip
    policy = wide_policy()
    weights = sum(w.numel() * w.element_size() for w in policy.model.parameters()) / 2**30
    reset_peak_memory()
    before = peak_memory()
    found = STEPS[step](policy, task, FrameStore(), budget, num_generations)
    row = {"peak_gib": peak_memory() - before, "weights_gib": weights, "process_gib": peak_memory(), **found}
    row = {name: round(value, 2) for name, value in row.items()}
    return {"step": step, "frames": frames, "generations": num_generations, **row}


def main() -> None:
    """Command line: see --help."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, nargs="+", default=[64, 128, 256, 512])
    parser.add_argument("--steps", nargs="+", choices=list(STEPS), default=list(STEPS))
    parser.add_argument("--generations", type=int, default=8)
    parser.add_argument("--limit", type=int, default=3600, help="seconds of one step, after which its row says `none`")
    parser.add_argument("--one", action="store_true", help="measure the first step and number in this process")
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measure(arguments.steps[0], arguments.frames[0], arguments.generations)))
        return
    path = RESULTS / "wide.json"
    known = json.loads(path.read_text()) if path.exists() else {"machine": machine(), "rows": []}
    if known["machine"] != machine():
        raise SystemExit(f"{path} was measured on {known['machine']}, this is {machine()}; move the file away")
    rows = [row for row in known["rows"] if row["peak_gib"] is not None]
    measured = {(row["step"], row["frames"], row["generations"]) for row in rows}
    for step in arguments.steps:
        for frames in arguments.frames:
            if (step, frames, arguments.generations) in measured:
                continue
            command = [sys.executable, __file__, "--one", "--steps", step, "--frames", str(frames)]
            command += ["--generations", str(arguments.generations)]
            try:
                done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=arguments.limit)
                row = json.loads(done.stdout.splitlines()[-1])
            except subprocess.TimeoutExpired:
                row = {"step": step, "frames": frames, "generations": arguments.generations}
                row |= {"peak_gib": None, "update_s": None}
            print(row, flush=True)
            rows = sorted([*rows, row], key=lambda row: (list(STEPS).index(row["step"]), row["frames"]))
            write_results("wide", rows, machine())
    print(path)


if __name__ == "__main__":
    main()
