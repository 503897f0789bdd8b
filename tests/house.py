"""A small copy of the project for tests of the launcher: the real package, one toy notebook per stage."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from medscope.pipeline.parameters import NOTEBOOKS, ROOT

TRAINING = ("warm_up", "sft", "ga_grpo")
TOY = """\
from pathlib import Path
from medscope.pipeline.layout import Layout
from medscope.pipeline.parameters import begin

parameters = begin("{stage}", globals())
layout = Layout(folder)
"""
TRAIN = """\
start = {start}
made = layout.new_checkpoint(variant)
made.mkdir(parents=True, exist_ok=True)
(made / "weights").write_text(f"{{start}} {{learning_rate}}")
layout.write_metrics(variant, {{"reward": learning_rate}})
"""
PARAMETERS = """\
world: {decoder: decord}
sft: {learning_rate: 1.0e-3, variant: sft}
ga_grpo: {learning_rate: 1.0e-4, variant: ga_grpo}
ablation: {learning_rate: 5.0e-4}
ablation_overrides: {full: {}, slow: {learning_rate: 1.0e-6}}
"""
PIPELINE = """\
stages:
  warm_up: {cmd: run, deps: [data/suite], outs: [checkpoints/warm_up]}
  sft: {cmd: run, deps: [data/suite, medscope/files.py], outs: [checkpoints/sft]}
  ga_grpo: {cmd: run, deps: [data/suite, checkpoints/sft, medscope/rewards.py], outs: [checkpoints/ga_grpo]}
"""
LOCK = """\
schema: '2.0'
stages:
  synthesize_data: {cmd: run, outs: [{path: data/suite, md5: 11.dir}]}
  sft: {cmd: run, deps: [{path: data/suite, md5: old}], outs: [{path: checkpoints/sft, md5: 22.dir}]}
"""


def build_house(home: Path) -> Path:
    """Write the copy below `home`, with the results of an earlier `make repro` in it."""
    shutil.copytree(ROOT / "medscope", home / "medscope", ignore=shutil.ignore_patterns("__pycache__"))
    (home / "notebooks").mkdir()
    for stage, path in NOTEBOOKS.items():
        declared = 'folder = "smoke"\ndecoder = "decord"\n'
        code = TOY.format(stage=stage)
        if stage in TRAINING:
            declared += f'learning_rate = 1.0e-2\nvariant = "{stage}"\n'
            code += TRAIN.format(start='layout.checkpoint("sft").name' if stage == "ga_grpo" else '"nothing"')
        write_notebook(home / path, declared, code)
    for name, text in {"params.yaml": PARAMETERS, "dvc.yaml": PIPELINE, "dvc.lock": LOCK}.items():
        (home / name).write_text(text)
    (home / "data" / "suite").mkdir(parents=True)
    (home / "data" / "suite" / "tasks.jsonl").write_text("{}\n")
    for name in ("sft", "ga_grpo"):
        (home / "checkpoints" / name).mkdir(parents=True)
        (home / "checkpoints" / name / "weights").write_text("an hour of training")
        (home / "metrics").mkdir(exist_ok=True)
        (home / "metrics" / f"{name}.json").write_text('{"reward": 1.0}')
    return home


def write_notebook(path: Path, parameters: str, code: str) -> None:
    shared = {"cell_type": "code", "outputs": [], "execution_count": None}
    cells = [
        {**shared, "id": "parameters", "metadata": {"tags": ["parameters"]}, "source": parameters},
        {**shared, "id": "code", "metadata": {}, "source": code},
    ]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    path.write_text(json.dumps({"cells": cells, "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}))


def results(home: Path) -> dict[str, str]:
    """Path -> hash of everything that belongs to the pipeline's results."""
    files = [file for name in ("data", "checkpoints", "metrics", "outputs") for file in (home / name).rglob("*")]
    return {str(file): hashlib.sha256(file.read_bytes()).hexdigest() for file in files if file.is_file()}


def call(home: Path, *words: str, **environment: str) -> subprocess.CompletedProcess:
    """Run `python -m ...` in the copy."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("DVC_", "MLFLOW_", "MEDSCOPE_"))}
    return subprocess.run(
        [sys.executable, "-m", *words], cwd=home, env=kept | environment, capture_output=True, text=True
    )
