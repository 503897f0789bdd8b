"""Stages I and II: supervised fine-tuning on TRL's SFTTrainer, loss on assistant tokens only.

Input: a policy and records of the suite (see `examples`). Output: the policy trained in place, and the trainer's log.
Run by notebooks 02 and 03, or `python -m medscope.pipeline.stage warm_up` and `.. sft`. Frames are decoded and texts
tokenised when a batch needs them.

Simplified: rows are padded, not packed. Examples come in random order, or with `lengths` those of like length together.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset
from torch.utils.data import Sampler
from trl import SFTConfig, SFTTrainer

from medscope.agents.policy import Policy
from medscope.ranks import share
from medscope.suite.lazy import Joined
from medscope.training.arguments import common_arguments, supervised_arguments
from medscope.training.examples import Example, LazyExamples, collate
from medscope.training.optimizers import optimizer_class
from medscope.training.order import WholeOrder, grouped_by_length
from medscope.training.precision import check_precision
from medscope.training.progress import show_as_text
from medscope.training.resume import Resumable
from medscope.training.tracking import run_metrics


class ResumableSFTTrainer(Resumable, SFTTrainer):
    """TRL's trainer, continued after a kill; reads its examples in `order` if it is given one."""

    order: Sequence[int] | None = None

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> Sampler[int] | None:
        return super()._get_train_sampler(train_dataset) if self.order is None else WholeOrder(self.order)


def fine_tune(
    policy: Policy,
    training: Sequence[Any],
    held_out: Sequence[Any],
    build: Callable[[Any], Example],
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
    lengths: Sequence[int] | None = None,
    optimizer: str = "adamw",
    loader_workers: int = 0,
) -> list[dict[str, float]]:
    """Train in place with a cosine schedule, resuming from `scratch` after a kill; returns the log.

    `optimizer` is adamw or muon (see `optimizers`).
    `loader_workers` processes decode and tokenise ahead of the training (0: it does so itself).
    `training` and `held_out` are records of which `build` makes examples when they are needed. `batch_size` is that of
    all processes together. With `lengths`, about the tokens of every training record, a batch holds examples of like
    length. Raises ValueError where it cannot be shared by the processes, and where the learning rate is
    too small for the weights' precision.
    """
    check_precision(policy, learning_rate)
    betas = (0.9, 0.98)
    settings = SFTConfig(
        **common_arguments(scratch, steps, learning_rate, save_steps, seed),
        **supervised_arguments(steps, evaluations),
        per_device_train_batch_size=share("batch_size", batch_size),
        per_device_eval_batch_size=share("batch_size", batch_size),
        gradient_accumulation_steps=gradient_accumulation,
        warmup_steps=warm_up_steps,
        adam_beta1=betas[0],
        adam_beta2=betas[1],
        weight_decay=weight_decay,
        bf16=bf16,
        activation_checkpointing=gradient_checkpointing,
        activation_checkpointing_kwargs={"use_reentrant": False},
        max_length=None,
        dataset_kwargs={"skip_prepare_dataset": True},
        dataloader_num_workers=loader_workers,
        dataloader_prefetch_factor=1 if loader_workers else None,  # a batch of frames is large
    )
    examples = LazyExamples(Joined(training, held_out), build)
    numbers = list(range(len(examples)))  # TRL takes Arrow tables only: its rows are the numbers of examples
    trainer = ResumableSFTTrainer(
        policy.model,
        args=settings,
        train_dataset=Dataset.from_dict({"number": numbers[: len(training)]}),
        eval_dataset=Dataset.from_dict({"number": numbers[len(training) :]}),
        processing_class=policy.processor,
        data_collator=lambda rows: collate(policy, [examples[row["number"]] for row in rows]),
        callbacks=run_metrics(),
        optimizer_cls_and_kwargs=optimizer_class(optimizer, lr=learning_rate, betas=betas, weight_decay=weight_decay),
    )
    # The mean over the tokens of all processes and accumulated batches: TRL's loss can, Qwen2.5-VL's own could not.
    trainer.model_accepts_loss_kwargs = True
    if lengths is not None:
        trainer.order = grouped_by_length(lengths, batch_size * gradient_accumulation, steps, seed)
    show_as_text(trainer)
    history = trainer.train_or_continue()
    policy.forget_features()
    return history
