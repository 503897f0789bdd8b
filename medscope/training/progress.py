"""One line of progress for a trainer, as text: it shows in a terminal, in a log and in a notebook alike."""

from typing import Any

from tqdm import tqdm
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

SHOWN = ("loss", "reward", "iou", "eval_loss")


class TextProgress(TrainerCallback):
    """A tqdm bar over optimiser steps with the latest of a few logged quantities behind it."""

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, *_: Any, **__: Any) -> None:
        total, start = state.max_steps, state.global_step
        hidden = not state.is_world_process_zero
        self.bar = tqdm(total=total, initial=start, desc="training", unit="step", disable=hidden)
        self.latest: dict[str, float] = {}

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.bar.update(state.global_step - self.bar.n)

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: dict[str, float], **_: Any
    ) -> None:
        self.latest |= {name: round(float(logs[name]), 3) for name in SHOWN if name in logs}
        self.bar.set_postfix(self.latest, refresh=False)

    def on_train_end(self, *_: Any, **__: Any) -> None:
        self.bar.close()


def show_as_text(trainer: Trainer) -> None:
    """Replace whatever progress display the trainer chose for its surroundings."""
    for callback in list(trainer.callback_handler.callbacks):
        if "Progress" in type(callback).__name__ or type(callback).__name__ == "PrinterCallback":
            trainer.remove_callback(callback)
    trainer.add_callback(TextProgress())
