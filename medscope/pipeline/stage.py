"""Run one stage: `python -m medscope.pipeline.stage sft` executes notebooks/03_sft.ipynb with the `sft` section of params.yaml.

The launcher demands equal key sets of notebook and section, keeps the executed notebook in outputs/<stage>/, opens one
MLflow run (parameters, git commit, hashes of the inputs, metrics, notebook) and shows the notebook's own progress.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from medscope.reporting import page

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


def read_parameters(file: Path = ROOT / "params.yaml") -> dict[str, Any]:
    return yaml.safe_load(file.read_text())


def stage_parameters(stage: str, overrides: Sequence[str] = (), variant: str | None = None) -> dict[str, Any]:
    """The section of params.yaml, changed by an ablation `variant` and by `name=value` overrides.

    Raises StageError naming every parameter that the notebook does not declare, that the section lacks, or that is not
    of the notebook's type.
    """
    given = dict(read_parameters().get(stage) or {})
    if variant:
        variants = read_parameters()["ablation_overrides"]
        if variant not in variants:
            raise StageError(f"there is no variant {variant!r}; choose one of {', '.join(variants)}")
        given |= {**read_parameters()["ablation"], **variants[variant]}
    for override in overrides:
        name, equals, value = override.partition("=")
        if not equals:
            raise StageError(f"{override!r} is not of the form name=value")
        given[name] = yaml.safe_load(value)
    if variant:
        given["variant"] = f"ablation/{variant}_{given['seed']}"
    declared = declared_parameters(ROOT / "notebooks" / f"{NOTEBOOKS[stage]}.ipynb")
    check_keys(stage, given, declared)
    return {name: typed(f"{stage}.{name}", value, declared[name]) for name, value in given.items()}


def check_keys(stage: str, given: dict[str, Any], declared: dict[str, Any]) -> None:
    """Equal key sets, or a StageError that names the difference."""
    unknown, missing = sorted(set(given) - set(declared)), sorted(set(declared) - set(given))
    problems = [f"unknown: {', '.join(unknown)}"] * bool(unknown) + [f"missing: {', '.join(missing)}"] * bool(missing)
    if problems:
        raise StageError(f"section {stage} of params.yaml and its notebook do not match; {'; '.join(problems)}")


def typed(name: str, value: Any, declared: Any) -> Any:
    """`value` in the type that the notebook declares (YAML reads 1e-4 as text), or a StageError that names it."""
    kind = type(declared)
    if kind is float and not isinstance(value, bool):
        try:
            return float(value)
        except (TypeError, ValueError):
            pass
    elif type(value) is kind:
        return value
    raise StageError(f"{name} is {value!r}, the notebook declares a {kind.__name__} such as {declared!r}")


def report_to() -> list[str]:
    """Where trainers log: to the stage's MLflow run if there is one, else nowhere (plain papermill or Jupyter)."""
    return ["mlflow"] if os.environ.get("MLFLOW_RUN_ID") else []


def fingerprint(parameters: dict[str, Any], inputs: Iterable[Path] = ()) -> str:
    """A short hash of parameters and inputs (files, folders): what was made of others is never continued or reused."""
    digest = hashlib.sha256(json.dumps(parameters, sort_keys=True).encode())
    found = (file for path in inputs for file in (path, *path.rglob("*")) if file.is_file())
    for file in sorted(found):
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


def run(stage: str, parameters: dict[str, Any]) -> Path:
    """Execute a stage from the repository root inside an MLflow run; returns the executed notebook.

    A stage that fails leaves its notebook, with the error in it, and a failed MLflow run.
    """
    import mlflow
    import papermill

    os.chdir(ROOT)
    name = parameters.get("variant", stage)
    home = Path(parameters["folder"])
    folder = home / "outputs" / name
    folder.mkdir(parents=True, exist_ok=True)
    executed = folder / f"{NOTEBOOKS[stage]}.ipynb"
    os.environ.setdefault("MLFLOW_TRACKING_URI", f"sqlite:///{ROOT / 'mlflow.db'}")
    mlflow.set_experiment("-".join(["medscope", *home.parts]))
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip()
    with mlflow.start_run(run_name=name) as active:
        mlflow.set_tags({"stage": stage, "git_commit": commit, **data_hashes(name)})
        mlflow.log_params({f"stage.{key}": value for key, value in parameters.items()})
        os.environ["MLFLOW_RUN_ID"] = active.info.run_id
        os.environ.setdefault("TQDM_MININTERVAL", "5")  # seconds between updates of a progress bar in the log
        finished = False
        try:
            papermill.execute_notebook(
                f"notebooks/{NOTEBOOKS[stage]}.ipynb",
                str(executed),
                parameters=parameters,
                kernel_name="python3",
                cwd=str(ROOT),
                progress_bar=False,
                log_output=True,
                stdout_file=sys.stdout,
                stderr_file=sys.stderr,
            )
            finished = True
        finally:
            del os.environ["MLFLOW_RUN_ID"]
            if executed.exists():
                page.export(executed, finished)
            mlflow.log_artifacts(str(folder))
        metrics = home / "metrics" / f"{name}.json"
        if metrics.exists():
            mlflow.log_metrics(dict(_flat(json.loads(metrics.read_text()))))
            mlflow.log_artifact(str(metrics))
    return executed


def train_variant(stage: str, variant: str, changes: dict[str, Any]) -> Path:
    """The checkpoint `variant` of notebook 03 or 04 with `changes`; trained if it is missing.

    Trained again, too, if its parameters or anything that dvc.yaml lists for the stage has changed since: data, the
    checkpoint from which it starts, the code of the rewards.
    """
    words = [f"{name}={value}" for name, value in {**changes, "variant": variant}.items()]
    parameters = stage_parameters(stage, words)
    inputs = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"][stage]["deps"]
    made = ROOT / parameters["folder"]  # data and checkpoints; the suite stands for its videos
    paths = [(made if path.startswith(("data", "checkpoints")) else ROOT) / path for path in inputs]
    source = fingerprint(parameters, [path for path in paths if path != made / "data" / "videos"])
    checkpoint = made / "checkpoints" / variant
    stamp = checkpoint.with_name(checkpoint.name + ".made_from")
    if not (checkpoint.exists() and stamp.exists() and stamp.read_text() == source):
        stamp.unlink(missing_ok=True)
        run(stage, parameters)
        stamp.write_text(source)
    return checkpoint


def _flat(value: Any, name: str = "held_out") -> Iterator[tuple[str, float]]:
    """The numbers of a nested dict with dotted names."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _flat(inner, f"{name}.{key}")
    elif isinstance(value, int | float):
        yield name, float(value)


def smoke_chain() -> list[tuple[str, dict[str, Any]]]:
    """Every stage in order with the notebooks' own values; of the ablations two variants."""
    own = {stage: declared_parameters(ROOT / "notebooks" / f"{name}.ipynb") for stage, name in NOTEBOOKS.items()}
    chain = [(stage, own[stage]) for stage in ("synthesize_data", "warm_up", "sft", "ga_grpo")]
    overrides = read_parameters()["ablation_overrides"]
    for variant in own["ablations"]["variants"]:
        chain.append(("ga_grpo", {**own["ga_grpo"], **overrides[variant], "variant": f"ablation/{variant}_0"}))
    return [*chain, ("ablations", own["ablations"]), ("evaluate", own["evaluate"])]


def parse(words: Sequence[str] | None = None) -> tuple[argparse.ArgumentParser, argparse.Namespace]:
    """The command line; `name=value` may stand before or after the options."""
    parser = argparse.ArgumentParser(prog="python -m medscope.pipeline.stage", description=__doc__)
    parser.add_argument("stage", choices=[*NOTEBOOKS, "all"])
    parser.add_argument("overrides", nargs="*", metavar="name=value", help="parameters instead of those of params.yaml")
    parser.add_argument("--variant", help="a variant of `ablation_overrides` in params.yaml (stage ga_grpo)")
    parser.add_argument("--smoke", action="store_true", help="the notebook's own small values, in smoke/")
    return parser, parser.parse_intermixed_args(words)


def main() -> None:
    """Command line: see `python -m medscope.pipeline.stage --help`."""
    parser, arguments = parse()
    try:
        if arguments.smoke:
            chain = smoke_chain()
            chain = chain if arguments.stage == "all" else [link for link in chain if link[0] == arguments.stage][:1]
        elif arguments.stage == "all":
            raise StageError("`all` is for --smoke; the real chain is `dvc repro`")
        else:
            parameters = stage_parameters(arguments.stage, arguments.overrides, arguments.variant)
            chain = [(arguments.stage, parameters)]
    except StageError as error:
        parser.error(str(error))
    for stage, parameters in chain:
        print(f"== {parameters.get('variant', stage)}", flush=True)
        print(run(stage, parameters), flush=True)


if __name__ == "__main__":
    main()
