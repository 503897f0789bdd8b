"""Continue a trainer after a kill, from its newest whole checkpoint, and keep a single process on a single GPU.

Input: the folder of resume checkpoints (`output_dir`), which all machines share. SFT ends in the very weights of an
uninterrupted run. GA-GRPO ends in the same weights to rounding: frame features that were cached before the kill are
computed again in other batches, whose sums differ in the last bits. A finished training is loaded, never repeated.
"""

import shutil
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import Trainer, TrainerState, TrainingArguments

from medscope.ranks import gathered, is_first_process

PARTS = "parts"  # below `output_dir`: checkpoints that are being written


def last_checkpoint(scratch: str | Path) -> str | None:
    """The newest checkpoint below `scratch`, or None; one cut off by a kill is still among the parts."""
    whole = [folder.parent for folder in Path(scratch).glob("checkpoint-*/trainer_state.json")]
    return str(max(whole, key=_step)) if whole else None


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.split("-")[1])


class Resumable(Trainer):
    """Mixed in before a trainer class, for what transformers gets wrong here: resume, and one process on many GPUs."""

    def __init__(self, *positional: Any, args: TrainingArguments, **others: Any):
        args._n_gpu = min(args.n_gpu, 1)  # else a process that sees more trains on all, with so many times the batch
        super().__init__(*positional, args=args, **others)

    def train_or_continue(self) -> list[dict[str, float]]:
        """Train to `max_steps`, from the last checkpoint of `output_dir` if there is one; returns the whole log.

        The first process chooses the checkpoint for all. One of the last step is only loaded: transformers would train
        one step more.
        """
        checkpoint = gathered(last_checkpoint(self.args.output_dir))[0]
        if checkpoint:
            state = TrainerState.load_from_json(str(Path(checkpoint) / "trainer_state.json"))
            if state.global_step >= self.args.max_steps:
                self._load_from_checkpoint(checkpoint)
                self.state = state
                gathered(None)  # all have read it: the caller may clear the folder now
                return state.log_history
        self.train(resume_from_checkpoint=checkpoint)
        return self.state.log_history

    def _save_checkpoint(self, model: torch.nn.Module, trial: Any) -> None:
        """Write among the parts, and move it once every process has written its share: it is there whole or not at all.

        transformers writes in place, the state of the first process before the random states of the others.
        """
        scratch = Path(self.args.output_dir)
        self.args.output_dir = str(scratch / PARTS)
        try:
            super()._save_checkpoint(model, trial)
        finally:
            self.args.output_dir = str(scratch)
        gathered(None)  # all have written
        if is_first_process():
            written = scratch / PARTS / f"checkpoint-{self.state.global_step}"
            older = list(scratch.glob("checkpoint-*"))
            written.rename(scratch / written.name)
            for folder in older:
                shutil.rmtree(folder)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: torch.nn.Module | None = None) -> Any:
        """Load every weight, strictly.

        transformers compares the names in the file with those of the modules, which differ for Qwen2.5-VL (`visual.` is
        `model.visual.`), and goes on with a warning and without the weights.
        """
        model = model or self.model
        if isinstance(model, PeftModel) or self.is_fsdp_enabled:
            return super()._load_from_checkpoint(resume_from_checkpoint, model)
        saved = type(model).from_pretrained(resume_from_checkpoint, use_safetensors=True, dtype=model.dtype)
        return model.load_state_dict(saved.state_dict(), strict=True)
