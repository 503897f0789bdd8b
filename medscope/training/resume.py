"""Continue a trainer after a kill, from its newest whole checkpoint, and keep a single process on a single GPU.

Input: the folder of resume checkpoints (`output_dir`). SFT ends in the very weights of an uninterrupted run. GA-GRPO
ends in the same weights to rounding: frame features that were cached before the kill are computed again in other
batches, whose sums differ in the last bits. A finished training is loaded, never repeated.
"""

from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import Trainer, TrainerState, TrainingArguments


def last_checkpoint(scratch: str | Path) -> str | None:
    """The newest whole checkpoint below `scratch`, or None. One cut off by a kill lacks its state file: skipped."""
    whole = [state.parent for state in Path(scratch).glob("checkpoint-*/trainer_state.json")]
    return str(max(whole, key=lambda folder: int(folder.name.split("-")[1]))) if whole else None


class Resumable(Trainer):
    """Mixed in before a trainer class, for what transformers gets wrong here: resume, and one process on many GPUs."""

    def __init__(self, *positional: Any, args: TrainingArguments, **others: Any):
        args._n_gpu = min(args.n_gpu, 1)  # else a process that sees more trains on all, with so many times the batch
        super().__init__(*positional, args=args, **others)

    def train_or_continue(self) -> list[dict[str, float]]:
        """Train to `max_steps`, from the last checkpoint of `output_dir` if there is one; returns the whole log.

        A checkpoint of the last step is only loaded: transformers would train one step more.
        """
        checkpoint = last_checkpoint(self.args.output_dir)
        if checkpoint:
            state = TrainerState.load_from_json(str(Path(checkpoint) / "trainer_state.json"))
            if state.global_step >= self.args.max_steps:
                self._load_from_checkpoint(checkpoint)
                self.state = state
                return state.log_history
        self.train(resume_from_checkpoint=checkpoint)
        return self.state.log_history

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: torch.nn.Module | None = None) -> Any:
        """Load every weight, strictly.

        transformers compares the names in the file with those of the modules, which differ for Qwen2.5-VL (`visual.` is
        `model.visual.`), and goes on with a warning and without the weights.
        """
        model = model or self.model
        if isinstance(model, PeftModel):
            return super()._load_from_checkpoint(resume_from_checkpoint, model)
        saved = type(model).from_pretrained(resume_from_checkpoint, use_safetensors=True, dtype=model.dtype)
        return model.load_state_dict(saved.state_dict(), strict=True)
