"""Where a run reads and writes its files.

`Layout("smoke")` keeps everything below smoke/: data/, checkpoints/, predictions/, metrics/, outputs/, scratch/.
`Layout(".")` means the pipeline's own files, which only the pipeline may write: a run that DVC started, or one that was
told `--in-place`. Every other run with the folder "." (papermill, Jupyter, the launcher by hand) writes below runs/. It
reads there what it finds there, the rest from the pipeline's files.
"""

import csv
import os
import shutil
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from medscope.files import write_json, write_text
from medscope.pipeline.parameters import ROOT, Parameters
from medscope.pipeline.provenance import fingerprint

IN_PLACE = "MEDSCOPE_IN_PLACE"  # set by `--in-place` for the kernel of the notebook
LAUNCHED = "MEDSCOPE_LAUNCHED"  # set by the launcher for the kernel: it clears scratch when all is kept
OWN_FOLDER = "runs"
WORLDS = "worlds"  # suites of studies; what a world lacks (the warm-up) is the pipeline's


def runs_in_place() -> bool:
    """Whether this run may write the pipeline's own files: DVC runs it, or the launcher was told `--in-place`."""
    return bool(os.environ.get("DVC_STAGE") or os.environ.get(IN_PLACE))


class Layout:
    """The folders of one run. Names of checkpoints, predictions, metrics and curves may hold a folder: `seeds/1`."""

    def __init__(self, folder: str | Path):
        pipeline = Path(folder).resolve() == ROOT
        if Path(folder).parts[:1] == (WORLDS,):
            self.root, self.lookup = Path(folder), (Path(folder), Path("."))
        elif pipeline and not runs_in_place():
            self.root, self.lookup = Path(OWN_FOLDER), (Path(OWN_FOLDER), Path("."))
        else:
            self.root = Path(".") if pipeline else Path(folder)
            self.lookup = (self.root,)
        self._told: set[Path] = set()

    def find(self, path: str | Path) -> Path:
        """Where this run reads `path` (`data/suite`): the first folder that has it; the last one if none has.

        What a run of one's own left below runs/ hides the pipeline's file of that name. That is said once per file.
        """
        places = [root / path for root in self.lookup]
        found = next((place for place in places if place.exists()), places[-1])
        hides = self.root == Path(OWN_FOLDER) and found != places[-1]  # a world is meant to hide the pipeline's suite
        if hides and found not in self._told:
            self._told.add(found)
            print(f"{found} is read, of a run of one's own, in the place of {places[-1]}", file=sys.stderr)
        return found

    def _read(self, *parts: str) -> Path:
        return self.find(Path(*parts))

    def _write(self, *parts: str) -> Path:
        path = self.root.joinpath(*parts)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    @property
    def suite(self) -> Path:
        return self._read("data", "suite")

    @property
    def videos(self) -> Path:
        return self._read("data", "videos")

    def checkpoint(self, name: str) -> Path:
        """A trained policy; FileNotFoundError that says which command trains it.

        `worlds/x:name` is the policy of that world, and of no other.
        """
        world, _, name = name.rpartition(":")
        path = Path(world, "checkpoints", name) if world else self._read("checkpoints", name)
        if not path.exists():
            raise FileNotFoundError(f"there is no checkpoint {path}; {self._fix(name)}")
        return path

    def _fix(self, name: str) -> str:
        if Path(".") not in self.lookup:
            return f"run the stage that trains it with folder={self.root} (`make smoke` makes all of smoke/)"
        study, _, member = name.rpartition("/")
        return f"the study `{study}` trains it (make help)" if study else f"`dvc repro {member}` trains it"

    def predictions(self, name: str) -> Path:
        return self._read("predictions", f"{name}.jsonl")

    def metrics(self, name: str) -> Path:
        return self._read("metrics", f"{name}.json")

    def curves(self, name: str) -> Path:
        return self._read("metrics", "curves", f"{name}.csv")

    def scores(self, name: str) -> Path:
        return self._read("metrics", "scores", f"{name}.csv")

    @property
    def new_suite(self) -> Path:
        return self._write("data", "suite")

    @property
    def new_videos(self) -> Path:
        return self._write("data", "videos")

    def new_checkpoint(self, name: str) -> Path:
        return self._write("checkpoints", name)

    def new_predictions(self, name: str) -> Path:
        return self._write("predictions", f"{name}.jsonl")

    def output(self, stage: str, name: str) -> Path:
        """A picture or table of a stage."""
        return self._write("outputs", stage, name)

    def write_metrics(self, name: str, value: Any) -> None:
        write_json(self._write("metrics", f"{name}.json"), value)

    def write_curves(self, name: str, history: Iterable[Mapping[str, float]], quantities: list[str]) -> None:
        """What a trainer logged of `quantities`, one row per step, for `dvc plots` and the ablations."""
        rows: dict[float, dict[str, float]] = {}
        for row in history:
            rows.setdefault(row["step"], {}).update({name: row[name] for name in quantities if name in row})
        with self._write("metrics", "curves", f"{name}.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, ["step", *quantities])
            writer.writeheader()
            writer.writerows({"step": step, **row} for step, row in rows.items() if row)

    def write_scores(self, name: str, scores: pd.DataFrame) -> None:
        """The scores of every question (`benchmark.per_question`, numbered), with six digits."""
        path = self._write("metrics", "scores", f"{name}.csv")
        write_text(path, scores.to_csv(float_format="%.6g"))

    def scratch(self, name: str, parameters: Parameters, inputs: Iterable[Path]) -> Path:
        """Where a trainer keeps resume checkpoints: a folder for exactly these parameters, inputs and code.

        A run with another parameter, data set, start checkpoint, set of videos or version of the code never continues
        from it. Call it once, in the notebook's process. `parameters` are those of `begin`, which know their stage;
        `inputs` files and folders.
        """
        return self._write("scratch", name, fingerprint(parameters.stage, parameters, inputs, self.videos))

    def clear_scratch(self, name: str) -> None:
        """Forget the resume checkpoints of a training: last line of its notebook, when all its results are written.

        Under the launcher nothing is cleared here. It does so itself when notebook, page and MLflow run are kept, so
        that what fails after the notebook never repeats a finished training.
        """
        if not os.environ.get(LAUNCHED):
            self.forget_scratch(name)

    def forget_scratch(self, name: str) -> None:
        """Delete the resume checkpoints of a training."""
        shutil.rmtree(self.root / "scratch" / name, ignore_errors=True)
