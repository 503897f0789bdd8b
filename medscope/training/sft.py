"""Stages I and II: supervised fine-tuning on TRL's SFTTrainer, loss on the model's own tokens only.

Examples are pieces as a rollout would produce them, token for token, so that training and acting never differ.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset
from tqdm import tqdm
from trl import SFTConfig, SFTTrainer

from medscope.agents.context import TokenSpan
from medscope.environment.dialogue import execute_call, opening
from medscope.environment.environment import ClinicalVideoEnvironment
from medscope.agents.policy import Policy
from medscope.training.processes import is_first_process, share
from medscope.training.progress import show_as_text
from medscope.records import WarmUpExample, Task, Trajectory
from medscope.training.resume import Resumable
from medscope.agents.rollout import RESPONSE_HEAD, RESPONSE_TAIL, encode_blocks, encode_prompt
from medscope.pipeline.stage import report_to
from medscope.suite.build import Suite
from medscope.suite.warm_up import warm_up_blocks
from medscope.environment.video import FrameStore

IGNORED = -100  # label of a token that bears no loss


@dataclass(frozen=True)
class Example:
    """One dialogue ready to train on: its pieces in order."""

    pieces: tuple[TokenSpan, ...]


Examples = tuple[list[Example], list[Example]]  # for training, held out
MOST_HELD_OUT = 320  # examples; the curves need no more


def warm_up_example(policy: Policy, lesson: WarmUpExample, path: str, store: FrameStore) -> Example:
    """A warm-up lesson: its frames (or captions) and question, then the teacher's turn."""
    messages = opening(lesson.text, warm_up_blocks(lesson, path, store), tools=False)
    return Example((encode_prompt(policy, messages, tools=False), _spoken(policy, lesson.turn)))


def trajectory_example(
    policy: Policy, trajectory: Trajectory, question: Task, path: str, environment: ClinicalVideoEnvironment
) -> Example:
    """A trajectory, its calls executed again so that the frames are those that the environment really shows."""
    environment.reset(path=path)
    pieces = [encode_prompt(policy, opening(question.text, environment._skim(), trajectory.tools), trajectory.tools)]
    for turn in trajectory.turns:
        pieces.append(_spoken(policy, turn))
        if response := execute_call(environment, turn):
            pieces.append(encode_blocks(policy, response, RESPONSE_HEAD, RESPONSE_TAIL))
    return Example(tuple(pieces))


def _spoken(policy: Policy, turn: str) -> TokenSpan:
    return TokenSpan([*policy.encode(turn), policy.turn_end], assistant=True)


HELD_OUT_EVERY = 20  # every 20th video of a split (or captioned lesson) is held out from training, for the curves


def warm_up_examples(policy: Policy, suite: Suite, store: FrameStore, captioned: bool) -> Examples:
    """The captioned or the framed lessons as examples: for training, and held out."""
    lessons = [lesson for lesson in suite.lessons if bool(lesson.captions) == captioned]
    made = []
    for number, lesson in enumerate(tqdm(lessons, desc="lessons", unit="lesson", disable=not is_first_process())):
        path = "" if captioned else suite.recordings_by_video[lesson.video].path
        made.append((lesson.video or str(number), warm_up_example(policy, lesson, path, store)))
    return _hold_out(made)


def trajectory_examples(policy: Policy, suite: Suite, environment: ClinicalVideoEnvironment) -> Examples:
    """All trajectories as examples: for training, and on held-out videos."""
    made = []
    for trajectory in tqdm(suite.trajectories, desc="trajectories", unit="trajectory", disable=not is_first_process()):
        recording, question = suite.recording(trajectory), suite.questions[trajectory.question]
        example = trajectory_example(policy, trajectory, question, recording.path, environment)
        made.append((recording.video, example))
    return _hold_out(made)


def clip_examples(policy: Policy, suite: Suite, store: FrameStore, count: int) -> list[Example]:
    """`count` of the warm-up's lessons on short captioned clips (the ClinVideo-Cap of stage II), evenly spread."""
    paths = {video: r.path for video, r in suite.recordings_by_video.items() if "clips" in r.family}
    lessons = [lesson for lesson in suite.lessons if lesson.video in paths]
    chosen = np.linspace(0, len(lessons) - 1, min(count, len(lessons))).round().astype(int)
    return [warm_up_example(policy, lessons[i], paths[lessons[i].video], store) for i in chosen]


def _hold_out(made: list[tuple[str, Example]]) -> Examples:
    held_out = set(list(dict.fromkeys(source for source, _ in made))[::HELD_OUT_EVERY])
    training = [example for source, example in made if source not in held_out]
    return training, [example for source, example in made if source in held_out][:MOST_HELD_OUT]


def collate(policy: Policy, examples: list[Example]) -> dict[str, torch.Tensor]:
    """A batch padded on the right: ids, labels (only what the model speaks), mask, frame patches."""
    width = max(sum(len(piece.ids) for piece in example.pieces) for example in examples)
    ids = torch.full((len(examples), width), policy.tokenizer.pad_token_id)
    labels, mask = torch.full_like(ids, IGNORED), torch.zeros_like(ids)
    images = []
    for row, example in enumerate(examples):
        start = 0
        for piece in example.pieces:
            here = slice(start, start + len(piece.ids))
            ids[row, here], mask[row, here] = torch.tensor(piece.ids), 1
            if piece.assistant:
                labels[row, here] = ids[row, here]
            images += piece.images
            start = here.stop
    kinds = (ids == policy.image_token).int()
    batch = {"input_ids": ids, "labels": labels, "attention_mask": mask, "mm_token_type_ids": kinds}
    if images:
        batch |= policy.processor.image_processor(images, do_resize=False, return_tensors="pt")
    return batch


class ResumableSFTTrainer(Resumable, SFTTrainer):
    """TRL's trainer, continued after a kill."""


def fine_tune(
    policy: Policy,
    examples: list[Example],
    held_out: list[Example],
    scratch: str | Path,
    steps: int,
    batch_size: int,
    learning_rate: float,
    gradient_accumulation: int = 1,
    warm_up_steps: int = 50,
    weight_decay: float = 0.01,
    evaluations: int = 4,
    save_steps: int = 200,
    seed: int = 0,
    bf16: bool = False,
    gradient_checkpointing: bool = False,
) -> list[dict[str, float]]:
    """Train in place with AdamW and a cosine schedule, resuming from `scratch` after a kill; returns the log.

    `batch_size` is that of all processes together.
    """
    settings = SFTConfig(
        output_dir=str(scratch),
        max_steps=steps,
        per_device_train_batch_size=share("batch_size", batch_size),
        per_device_eval_batch_size=share("batch_size", batch_size),
        gradient_accumulation_steps=gradient_accumulation,
        learning_rate=learning_rate,
        lr_scheduler_type="cosine_with_min_lr",
        lr_scheduler_kwargs={"min_lr_rate": 0.05},
        warmup_steps=warm_up_steps,
        adam_beta2=0.98,
        weight_decay=weight_decay,
        max_grad_norm=1.0,
        bf16=bf16,
        activation_checkpointing=gradient_checkpointing,
        activation_checkpointing_kwargs={"use_reentrant": False},
        use_cpu=not torch.cuda.is_available(),
        eval_strategy="steps",
        eval_steps=max(1, steps // evaluations),
        logging_steps=max(1, min(20, steps // 10)),
        save_steps=save_steps,
        save_total_limit=1,
        max_length=None,
        remove_unused_columns=False,
        dataset_kwargs={"skip_prepare_dataset": True},
        dataloader_pin_memory=False,
        report_to=report_to(),
        seed=seed,
        data_seed=seed,
    )
    every = examples + held_out
    trainer = ResumableSFTTrainer(
        policy.model,
        args=settings,
        train_dataset=Dataset.from_dict({"number": list(range(len(examples)))}),
        eval_dataset=Dataset.from_dict({"number": list(range(len(examples), len(every)))}),
        processing_class=policy.processor,
        data_collator=lambda rows: collate(policy, [every[row["number"]] for row in rows]),
    )
    # The mean over the tokens of all processes and accumulated batches: TRL's loss can, Qwen2.5-VL's own could not.
    trainer.model_accepts_loss_kwargs = True
    show_as_text(trainer)
    history = trainer.train_or_continue()
    policy.forget_features()
    return history
