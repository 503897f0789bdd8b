"""models/ made again, after `make repro`: `python -m medscope.pipeline.example_model` (`make example-model`).

The policy with its budget and its card, and one held-out video with a question that it answers. Both are committed, so
that `ask` and the reading room work from a clone; together they have at most 8 MB.
"""

import argparse
import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict
from math import prod
from pathlib import Path
from tempfile import TemporaryDirectory

from safetensors import safe_open

from medscope.agents.model_card import BUDGET, CARD
from medscope.environment import ToolBudget
from medscope.evaluation.predictions import Prediction, by_set
from medscope.files import read_jsonl, replace_folder
from medscope.pipeline.parameters import ROOT, stage_parameters, tool_budget
from medscope.reporting.share import share_example
from medscope.sources.make import DRAWN

MOST_BYTES = 8_000_000
WEIGHTS, MODEL, VIDEO = "model.safetensors", "tiny", "example.mp4"
KEPT = (".safetensors", ".json", ".jinja")
TEXT = """# MedScope tiny

> This model has {millions:.1f} million parameters and has seen only videos that a program drew. It knows nothing of real surgery. On a
> real recording its answer shows how the tools are called, and nothing else.

| | |
|---|---|
| class | `{kind}`, {millions:.1f}M parameters, random initialisation |
| trained by | `make repro`, seed {seed}: warm-up, SFT, GA-GRPO (checkpoint `{checkpoint}`) |
| data | rendered videos only, drawn by `medscope/sources/rendered` |
| weights | {dtype}, safetensors |
| budget | `budget.json`: frames, pixels and calls that it was trained for |
| results | `metrics/evaluate.json`, system `rl`; what they do not show: [docs/results.md](../../docs/results.md) |
| use | `make ask VIDEO=models/example.mp4 QUESTION="{question}"` |

`models/example.mp4` is `{video}`, a held-out rendered video. **Research software; not for clinical use.** Licence: Apache-2.0.
"""  # noqa: E501


def choose(predictions: Sequence[Prediction], task: str | None = None) -> Prediction:
    """The prediction whose video and question come with the model: that of a task id, or a right one with most looks.

    Without an id it is one of the first eval set. Raises ValueError where there is none.
    """
    if task is not None:
        found = next((one for one in predictions if one.task.id == task), None)
        if found is None:
            raise ValueError(f"the predictions hold no task {task!r}; one is {predictions[0].task.id!r}")
        return found
    found = share_example(next(iter(by_set(predictions).values())))
    if found is None:
        raise ValueError("no answer of the first eval set is right after a look at the evidence; name one with --task")
    return found


def write_example(checkpoint: Path, video: Path, question: str, budget: ToolBudget, seed: int, folder: Path) -> int:
    """Write `tiny/` and `example.mp4` below `folder`, in the place of what is there; how many bytes they have.

    Raises FileNotFoundError without weights or video, ValueError where they are too large: nothing is written then.
    """
    for file in (checkpoint / WEIGHTS, video):
        if not file.is_file():
            raise FileNotFoundError(f"{file} does not exist; run `make repro` first")
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder, prefix=".made-") as made:
        model = Path(made) / MODEL
        model.mkdir()
        for file in sorted(checkpoint.iterdir()):
            if file.suffix in KEPT:
                shutil.copyfile(file, model / file.name)
        (model / BUDGET).write_text(json.dumps(asdict(budget)) + "\n")
        (model / CARD).write_text(_card(model, checkpoint.name, video.stem, question, seed), encoding="utf-8")
        shutil.copyfile(video, Path(made) / VIDEO)
        size = sum(file.stat().st_size for file in Path(made).rglob("*") if file.is_file())
        if size > MOST_BYTES:
            raise ValueError(f"{checkpoint} and {video} have {size} bytes, at most {MOST_BYTES} are committed")
        replace_folder(model, folder / MODEL)
        (Path(made) / VIDEO).replace(folder / VIDEO)
    return size


def _card(model: Path, checkpoint: str, video: str, question: str, seed: int) -> str:
    with safe_open(model / WEIGHTS, "numpy") as weights:
        slices = [weights.get_slice(name) for name in weights.keys()]  # noqa: SIM118  no mapping
        millions = sum(prod(one.get_shape()) for one in slices) / 1e6
        dtypes = sorted({one.get_dtype() for one in slices})
    kind = json.loads((model / "config.json").read_text())["architectures"][0]
    return TEXT.format(
        millions=millions, kind=kind, seed=seed, checkpoint=checkpoint, dtype=", ".join(dtypes), question=question,
        video=video,
    )  # fmt: skip


def main(words: Sequence[str] | None = None) -> int:
    """The command. Returns 1 for what is missing or too large."""
    parser = argparse.ArgumentParser("python -m medscope.pipeline.example_model", description="Make models/ again.")
    parser.add_argument("--checkpoint", type=Path, default=ROOT / "checkpoints" / "ga_grpo")
    parser.add_argument("--predictions", type=Path, default=ROOT / "predictions" / "rl.jsonl")
    parser.add_argument("--task", help="id of the task whose video and question come with it (default: chosen)")
    parser.add_argument("--folder", type=Path, default=ROOT / "models")
    options = parser.parse_args(words)
    parameters, source = stage_parameters("ga_grpo"), stage_parameters("synthesize_data")["source"]
    try:
        if source not in DRAWN:
            raise ValueError(f"the card says that the model has seen rendered videos only; params.yaml has {source}")
        task = choose(read_jsonl(options.predictions, Prediction), options.task).task
        video, budget, seed = ROOT / task.path, tool_budget(parameters), parameters["seed"]
        size = write_example(options.checkpoint, video, task.question, budget, seed, options.folder)
    except (ValueError, OSError) as error:
        print(f"example_model: {error}", file=sys.stderr)
        return 1
    print(f"{options.folder}: {size / 1e6:.1f} MB, the video is {task.video}")
    print(f'notebooks/explore.ipynb begins with a question of this video: set question = "{task.question}"')
    return 0


if __name__ == "__main__":
    sys.exit(main())
