"""One MLflow run per run of a stage: parameters, commit, hashes of its inputs, metrics, notebook, how it ended.

The launcher alone decides the status. Trainers log their curves to the same run from the kernel, and the integration of
transformers calls a run FINISHED when the training ends; so every run that a launcher has really ended carries the tag
`ended`. A launcher that was killed cannot set it: the next one on the same host does, with the status KILLED.
"""

import json
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import psutil
from mlflow.entities import Run

from medscope.pipeline.layout import Layout
from medscope.pipeline.parameters import ROOT, Parameters
from medscope.pipeline.provenance import recorded_hash, recorded_hashes, stage_inputs


def store_folder() -> Path:
    """Where mlflow.db lies: in the main repository, also for an experiment that DVC runs in a temporary copy of it."""
    return Path(os.environ.get("DVC_ROOT") or ROOT)


def start(name: str, parameters: Parameters, layout: Layout) -> str:
    """Open the run `name` in the experiment of the layout's folder; returns its id for the kernel."""
    if "MLFLOW_TRACKING_URI" not in os.environ:
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{store_folder() / 'mlflow.db'}"
    mlflow.set_tracking_uri(os.environ["MLFLOW_TRACKING_URI"])
    experiment = "-".join(["medscope", *(part for part in layout.root.parts if part != "/")])
    if mlflow.get_experiment_by_name(experiment) is None:
        uri = mlflow.get_tracking_uri()
        beside = Path(uri.removeprefix("sqlite:///")).resolve().with_name("mlruns").as_uri()
        mlflow.create_experiment(experiment, beside if uri.startswith("sqlite:///") else None)
    mlflow.set_experiment(experiment)
    mark_killed_runs()
    run = mlflow.start_run(run_name=name, log_system_metrics=True)
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout.strip()
    own = {"stage": parameters.stage, "git_commit": commit, "host": socket.gethostname(), "pid": str(os.getpid())}
    mlflow.set_tags(own | input_hashes(parameters, layout))
    mlflow.log_params({f"stage.{key}": value for key, value in parameters.items()})
    return run.info.run_id


def input_hashes(parameters: Parameters, layout: Layout) -> dict[str, str]:
    """`data.suite` -> MD5 and the like, for every input that the run reads from the pipeline's own files.

    They are those of the stages that made the inputs (dvc.lock); what a run has in a folder of its own has none.
    """
    recorded = recorded_hashes()
    own = [path for path in stage_inputs(parameters) if layout.find(path) == Path(path)]
    hashes = {path: recorded_hash(path, recorded) for path in own}
    return {path.replace("/", "."): found for path, found in hashes.items() if found}


def end(status: str, name: str, layout: Layout, outputs: Path, since: float) -> None:
    """Keep the outputs and the numbers of every metrics file that was written `since` (seconds); set the status.

    The numbers of metrics/<name>.json are called `result.`, so that variants of a stage compare; others as their file.
    """
    try:
        mlflow.log_artifacts(str(outputs))
        folder = layout.root / "metrics"
        for file in sorted(folder.rglob("*.json")) if status == "FINISHED" else ():
            if file.stat().st_mtime >= since:
                own = file == folder / f"{name}.json"
                mlflow.log_metrics(dict(flat(json.loads(file.read_text()), "result" if own else file.stem)))
                mlflow.log_artifact(str(file))
    finally:
        mlflow.set_tag("ended", status)
        mlflow.end_run(status)


def mark_killed_runs() -> None:
    """Runs of this host whose launcher died before it could end them become KILLED."""
    client = mlflow.MlflowClient()
    for experiment in client.search_experiments():
        host = f"tags.host = '{socket.gethostname()}'"
        page = None
        while page is None or page.token:
            page = client.search_runs([experiment.experiment_id], host, page_token=page and page.token)
            for run in page:
                if "ended" not in run.data.tags and not launcher_lives(run):
                    client.set_tag(run.info.run_id, "ended", "KILLED")
                    client.set_terminated(run.info.run_id, "KILLED")


def launcher_lives(run: Run) -> bool:
    """Whether the process that opened the run still exists; another one may bear its number by now."""
    try:
        return psutil.Process(int(run.data.tags["pid"])).create_time() * 1000 <= run.info.start_time
    except psutil.NoSuchProcess:
        return False


def flat(value: Any, name: str) -> Iterator[tuple[str, float]]:
    """The numbers of a nested dict with dotted names."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from flat(inner, f"{name}.{key}")
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield name, float(value)
