"""What a trainer logs goes to the MLflow run of the stage, which only the launcher starts and ends.

transformers' own MLflow callback ends the run with the training, so that a stage that is killed later would count as
finished. This one only adds metrics. Without the environment variable MLFLOW_RUN_ID (plain papermill, Jupyter) nothing
is logged.
"""

import os
import time
from numbers import Real
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments


class RunMetrics(TrainerCallback):
    """Adds every logged number to the run `run_id`, under its own name and the optimiser step."""

    def __init__(self, run_id: str):
        from mlflow import MlflowClient

        self.client, self.run_id = MlflowClient(), run_id

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: dict[str, float], **_: Any
    ) -> None:
        """Write one batch of metrics, in the first process only."""
        from mlflow.entities import Metric

        if state.is_world_process_zero:
            now = int(1000 * time.time())
            numbers = {name: float(value) for name, value in logs.items() if isinstance(value, Real)}
            metrics = [Metric(name, value, now, state.global_step) for name, value in numbers.items()]
            self.client.log_batch(self.run_id, metrics=metrics)


def run_metrics() -> list[TrainerCallback]:
    """The callback for the stage's MLflow run; none outside of a stage."""
    run_id = os.environ.get("MLFLOW_RUN_ID")
    return [RunMetrics(run_id)] if run_id else []
