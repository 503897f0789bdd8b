"""The RL tasks as verl reads them: `python -m medscope.exports verl SUITE --out DIR`.

`rl.parquet` has one row per task; its prompt is ours, its images are the frames of the skim. These are written once per
video as JPEG below `frames/`. `tools.yaml` declares the tools with the budget, `chat_template.jinja` is the template
that shows them to the model: Qwen2.5-VL's own leaves tools out. Paths are absolute: export where the model trains.
"""

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml
from datasets import Dataset
from pydantic import TypeAdapter
from tqdm import tqdm

from medscope.agents.policy import SUPPRESSED
from medscope.environment import ClinicalVideoEnvironment, FrameStore, ToolBudget
from medscope.environment.environment import skim
from medscope.environment.prompts import CHAT_TEMPLATE, TOOLS, opening
from medscope.environment.video import PATCH_FACTOR
from medscope.evaluation.judge import text_of
from medscope.exports.fork import trainable_tasks
from medscope.records import Task
from medscope.suite.suite import Suite

ROWS, TOOL_FILE, TEMPLATE, FRAMES = "rl.parquet", "tools.yaml", "chat_template.jinja", "frames"
DECODER = "decord"
JPEG_QUALITY = 95
_CONTENT = "content.json"  # of a video's skim: its text, with <image> where the frames stand
_TASK = TypeAdapter(Task)


def export_verl(suite: Suite, out: str | Path, budget: ToolBudget, tasks: Sequence[Task] | None = None) -> int:
    """Write the files to `out`; return the number of tasks. A killed export goes on where it was.

    `tasks` are by default those that GA-GRPO trains on: the challenging closed tasks of split rl. Raises ValueError for
    a task that must not be trained on (see `exports.fork`), FileNotFoundError for a missing video.
    """
    tasks = trainable_tasks(suite, tasks)
    out, environment = Path(out).absolute(), ClinicalVideoEnvironment(FrameStore(DECODER), budget)
    paths = list(dict.fromkeys(task.path for task in tasks))
    skims = {path: write_skim(environment, path, out) for path in tqdm(paths, desc=FRAMES, unit="video", disable=None)}
    rows = [row(task, number, skims[task.path], budget) for number, task in enumerate(tasks)]
    part = out / f"{ROWS}.part"
    Dataset.from_list(rows).to_parquet(str(part))
    (out / TOOL_FILE).write_text(yaml.safe_dump(tool_config(budget), sort_keys=False, allow_unicode=True), "utf-8")
    (out / TEMPLATE).write_text(CHAT_TEMPLATE, "utf-8")
    part.replace(out / ROWS)
    return len(tasks)


def write_skim(environment: ClinicalVideoEnvironment, path: str, out: Path) -> Path:
    """The folder with the frames of a video's skim; written unless it is there. It appears whole or not at all."""
    budget, stat = environment.budget, Path(path).stat()
    made_of = f"{Path(path).absolute()} {stat.st_size} {stat.st_mtime_ns} {budget.skim_frames} {budget.skim_pixels}"
    folder = out / FRAMES / hashlib.sha256(made_of.encode()).hexdigest()[:16]
    if folder.exists():
        return folder
    part = folder.with_name(folder.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    environment.reset(path=path)
    content = ""
    for number, block in enumerate(skim(environment)):
        if block["type"] == "image":
            block["image"].convert("RGB").save(part / f"{number:05}.jpg", quality=JPEG_QUALITY)
        content += "<image>" if block["type"] == "image" else block["text"]
    (part / _CONTENT).write_text(json.dumps(content), "utf-8")
    part.rename(folder)
    return folder


def row(task: Task, number: int, skim_folder: Path, budget: ToolBudget) -> dict[str, Any]:
    """A row of verl's data set. `extra_info.task` is the whole task, for the reward; the prompt does not show it."""
    skim_text = {"type": "text", "text": json.loads((skim_folder / _CONTENT).read_text("utf-8"))}
    messages = opening(task.question, [skim_text])
    prompt = [
        {"role": m["role"], "content": m["content"] if isinstance(m["content"], str) else _joined(m["content"])}
        for m in messages
    ]
    limits = {"min_pixels": PATCH_FACTOR**2, "max_pixels": budget.skim_pixels}  # the stock data set keeps the size, too
    create = {"create_kwargs": {"path": str(Path(task.path).absolute())}}
    return {
        "data_source": task.collection,
        "prompt": prompt,
        "images": [{"image": str(path), **limits} for path in sorted(skim_folder.glob("*.jpg"))],
        "ability": task.kind,
        "reward_model": {"style": "rule", "ground_truth": text_of(task.reference)},
        "extra_info": {
            "index": number,
            "split": "train",
            "task": _TASK.dump_json(task).decode(),
            "need_tools_kwargs": True,
            "tools_kwargs": {tool["function"]["name"]: create for tool in TOOLS},
        },
    }


def tool_config(budget: ToolBudget) -> dict[str, Any]:
    """verl's tool file: both tools with their schema, the budget, and the tokens that are never sampled."""
    name = "medscope.exports.verl.tools.VideoTool"

    def config() -> dict[str, Any]:
        return {"type": "native", "decoder": DECODER, "budget": asdict(budget), "suppressed": list(SUPPRESSED)}

    return {"tools": [{"class_name": name, "config": config(), "tool_schema": tool} for tool in TOOLS]}


def _joined(blocks: list[dict[str, Any]]) -> str:
    return "".join(block["text"] for block in blocks)
