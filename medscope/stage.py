"""Run one stage: `python -m medscope.stage sft` executes notebooks/03_sft.ipynb with the `sft` section of params.yaml.

The launcher demands equal key sets of notebook and section, keeps the executed notebook in outputs/<stage>/, opens one
MLflow run (parameters, git commit, hashes of the inputs, metrics, notebook) and shows the notebook's own progress.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = {
    "synthesize_data": "01_synthesize_data",
    "warm_up": "02_warm_up",
    "sft": "03_sft",
    "ga_grpo": "04_ga_grpo",
    "ablations": "05_ablations",
    "evaluate": "06_evaluate",
}


class StageError(ValueError):
    """Parameters and notebook do not agree, or the stage is unknown."""


def declared_parameters(notebook: Path) -> dict[str, Any]:
    """Names and defaults in the notebook's `parameters` cell."""
    cells = json.loads(notebook.read_text())["cells"]
    sources = ["".join(c["source"]) for c in cells if "parameters" in c["metadata"].get("tags", [])]
    if len(sources) != 1:
        raise StageError(f"{notebook} has {len(sources)} cells tagged `parameters`, it needs one")
    values: dict[str, Any] = {}
    exec(sources[0], {}, values)  # our own notebook: literals only, checked by the tests
    return values


def stage_parameters(stage: str, overrides: list[str], file: Path = ROOT / "params.yaml") -> dict[str, Any]:
    """The section of params.yaml with `name=value` overrides, checked against the notebook's declared names."""
    if stage not in NOTEBOOKS:
        raise StageError(f"there is no stage {stage!r}; choose one of {', '.join(NOTEBOOKS)}")
    given = dict(yaml.safe_load(file.read_text()).get(stage) or {})
    for override in overrides:
        name, _, value = override.partition("=")
        given[name] = yaml.safe_load(value)
    notebook = ROOT / "notebooks" / f"{NOTEBOOKS[stage]}.ipynb"
    declared = declared_parameters(notebook)
    unknown, missing = sorted(set(given) - set(declared)), sorted(set(declared) - set(given))
    if unknown or missing:
        problems = [f"unknown: {', '.join(unknown)}"] * bool(unknown) + [f"missing: {', '.join(missing)}"] * bool(
            missing
        )
        raise StageError(f"parameters of {stage} in {file} do not match {notebook.name}: {'; '.join(problems)}")
    return given


def report_to() -> list[str]:
    """Where trainers log: to the stage's MLflow run if there is one, else nowhere (plain papermill or Jupyter)."""
    return ["mlflow"] if os.environ.get("MLFLOW_RUN_ID") else []


def last_checkpoint(scratch: str | Path) -> str | None:
    """The newest whole checkpoint below `scratch`, or None. One cut off by a kill lacks its state file: skipped."""
    whole = [state.parent for state in Path(scratch).glob("checkpoint-*/trainer_state.json")]
    return str(max(whole, key=lambda folder: int(folder.name.split("-")[1]))) if whole else None


def fingerprint(parameters: dict[str, Any], inputs: list[str]) -> str:
    """A short hash of parameters and input files: resume checkpoints of another configuration are never continued."""
    digest = hashlib.sha256(json.dumps(parameters, sort_keys=True, default=str).encode())
    for item in inputs:
        files = sorted(p for p in Path(item).rglob("*") if p.is_file()) if Path(item).is_dir() else [Path(item)]
        for file in files:
            digest.update(file.name.encode() + file.read_bytes())
    return digest.hexdigest()[:12]


def data_hashes(stage: str) -> dict[str, str]:
    """MD5 of every dependency of the stage as recorded in dvc.lock (empty before the first `dvc repro`)."""
    lock = ROOT / "dvc.lock"
    stages = yaml.safe_load(lock.read_text())["stages"] if lock.exists() else {}
    deps = stages.get(stage, {}).get("deps", [])
    return {
        f"data.{d['path'].replace('/', '.')}": d.get("md5", "") for d in deps if d["path"].startswith(("data", "check"))
    }


def run(stage: str, overrides: list[str], output: Path | None = None) -> Path:
    """Execute a stage from the repository root inside an MLflow run; returns the executed notebook."""
    import mlflow
    import papermill

    parameters = stage_parameters(stage, overrides)
    os.chdir(ROOT)
    output = output or Path("outputs") / stage / f"{NOTEBOOKS[stage]}.ipynb"
    output.parent.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("MLFLOW_TRACKING_URI", f"sqlite:///{ROOT / 'mlflow.db'}")
    mlflow.set_tracking_uri(os.environ["MLFLOW_TRACKING_URI"])
    mlflow.set_experiment("medscope")
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip()
    with mlflow.start_run(run_name=stage) as active:
        mlflow.set_tags({"stage": stage, "git_commit": commit, **data_hashes(stage)})
        mlflow.log_params({f"stage.{name}": value for name, value in parameters.items()})
        environment = {"MLFLOW_RUN_ID": active.info.run_id, "MLFLOW_FLATTEN_PARAMS": "TRUE"}
        os.environ.update(environment)
        try:
            papermill.execute_notebook(
                f"notebooks/{NOTEBOOKS[stage]}.ipynb",
                str(output),
                parameters=parameters,
                kernel_name="python3",
                cwd=str(ROOT),
                log_output=True,
                progress_bar=sys.stderr.isatty(),
                stdout_file=sys.stdout,
                stderr_file=sys.stderr,
            )
        finally:
            for name in environment:
                os.environ.pop(name)
            if output.exists():
                mlflow.log_artifact(str(output))
        for file in sorted(output.parent.glob("*")):
            if file.suffix in (".png", ".json", ".csv", ".html"):
                mlflow.log_artifact(str(file))
    return output


def main() -> None:
    """Command line: `python -m medscope.stage STAGE [name=value ...]`."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("stage", choices=list(NOTEBOOKS))
    parser.add_argument("overrides", nargs="*", metavar="name=value")
    parser.add_argument("--output", type=Path, help="where the executed notebook goes")
    arguments = parser.parse_args()
    try:
        print(run(arguments.stage, arguments.overrides, arguments.output))
    except StageError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
