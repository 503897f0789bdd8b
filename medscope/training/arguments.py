"""What the trainers of all stages tell transformers alike."""

from pathlib import Path
from typing import Any

import torch


def common_arguments(
    scratch: str | Path, steps: int, learning_rate: float, save_steps: int, seed: int
) -> dict[str, Any]:
    """Arguments of `TrainingArguments`: one checkpoint in `scratch`, a CPU where there is no GPU, reports by MLflow's
    own callback alone."""
    return {
        "output_dir": str(scratch),
        "max_steps": steps,
        "learning_rate": learning_rate,
        "max_grad_norm": 1.0,
        "use_cpu": not torch.cuda.is_available(),
        "save_steps": save_steps,
        "save_total_limit": 1,
        "remove_unused_columns": False,
        "dataloader_pin_memory": False,
        "report_to": [],
        "seed": seed,
        "data_seed": seed,
    }


def supervised_arguments(steps: int, evaluations: int) -> dict[str, Any]:
    """Those of supervised training: a cosine schedule, `evaluations` of the held-out loss, ten or more logs."""
    return {
        "lr_scheduler_type": "cosine_with_min_lr",
        "lr_scheduler_kwargs": {"min_lr_rate": 0.05},
        "eval_strategy": "steps",
        "eval_steps": max(1, steps // evaluations),
        "logging_steps": max(1, min(20, steps // 10)),
    }
