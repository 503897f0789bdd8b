"""Where a run keeps its files, and the few things that every notebook does first.

`Layout(".")` is the pipeline's own layout (data/, checkpoints/, metrics/, outputs/), `Layout("smoke")` the same below
smoke/, so that a smoke run never touches the results of a real one.
"""

import csv
import os
import shutil
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch

from medscope.training.processes import process_count
from medscope.records import Task, write_json
from medscope.pipeline.stage import ROOT, fingerprint
from medscope.suite.build import Suite
from medscope.suite.tasks import CHALLENGING
from medscope.environment.tools import ToolBudget


class Layout:
    """The folders of one run, below `folder`."""

    def __init__(self, folder: str | Path):
        self.root = Path(folder)

    @property
    def suite(self) -> Path:
        return self.root / "data" / "suite"

    @property
    def videos(self) -> Path:
        return self.root / "data" / "videos"

    def checkpoint(self, name: str) -> Path:
        return self.root / "checkpoints" / name

    def output(self, stage: str, name: str) -> Path:
        """A picture or table of a stage."""
        folder = self.root / "outputs" / stage
        folder.mkdir(parents=True, exist_ok=True)
        return folder / name

    def metrics(self, name: str) -> Path:
        return self.root / "metrics" / f"{name}.json"

    def write_metrics(self, name: str, value: Any) -> None:
        write_json(self.metrics(name), value)

    def curves(self, name: str) -> Path:
        return self.root / "metrics" / "curves" / f"{name}.csv"

    def write_curves(self, name: str, history: list[dict[str, float]], quantities: list[str]) -> None:
        """What a trainer logged of `quantities`, one row per step, for `dvc plots` and the ablations."""
        rows: dict[float, dict[str, float]] = {}
        for row in history:
            rows.setdefault(row["step"], {}).update({name: row[name] for name in quantities if name in row})
        self.curves(name).parent.mkdir(parents=True, exist_ok=True)
        with self.curves(name).open("w", newline="") as file:
            writer = csv.DictWriter(file, ["step", *quantities])
            writer.writeheader()
            writer.writerows({"step": step, **row} for step, row in rows.items() if row)

    def scratch(self, name: str, parameters: dict[str, Any], *inputs: Path) -> Path:
        """Where a trainer keeps resume checkpoints: a folder per parameters and inputs: no other run is continued."""
        return self.root / "scratch" / name / fingerprint(parameters, inputs)

    def clear_scratch(self, name: str) -> None:
        """Forget the resume checkpoints of a stage that has ended."""
        shutil.rmtree(self.root / "scratch" / name, ignore_errors=True)


def plain(notebook: dict[str, Any]) -> dict[str, Any]:
    """The parameters of a notebook: the plain values among its `globals()`."""
    return {k: v for k, v in notebook.items() if isinstance(v, int | float | str) and not k.startswith("_")}


def tool_budget(notebook: dict[str, Any]) -> ToolBudget:
    """The tool budget among a notebook's parameters (`globals()`)."""
    return ToolBudget(**{field.name: notebook[field.name] for field in fields(ToolBudget) if field.name in notebook})


def challenging(suite: Suite, family: str, most: int | None = None, split: str = "eval") -> list[Task]:
    """The challenging questions of a family in a split: whole videos in order, at most `most` questions."""
    found = [q for q in suite.questions.values() if q.split == split and q.family == family and q.kind in CHALLENGING]
    return found[:most]


def begin() -> None:
    """First line of every notebook: work from the repository root, with torch pinned to the cores of this process.

    More threads than cores make small models ten times slower. Of several processes each takes the GPU of its own
    number, or all of them would load their model to the first.
    """
    os.chdir(ROOT)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    torch.set_num_threads(max(1, cores // process_count()))
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)))
