"""The RL tasks in the JSONL form that the authors' public training fork reads, so that its trainer can use them.

`rl.jsonl` holds the rows that the trainer takes, `records.jsonl` the records that its own scripts take, with `_tg_raw`
for questions whose answer is a window. Only tasks of split `rl` are written: the benchmark is never trained on.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from medscope.records import Recording, Reference, Task, Text, Window
from medscope.suite.suite import Suite

ROWS, RECORDS = "rl.jsonl", "records.jsonl"
# Their tools find the film by the path that the model repeats, so the prompt has to say it.
INSTRUCTION = (
    "Think first. Look closer with crop_video or get_frame where it helps, then answer. Write thoughts as "
    "<think>...</think>, a call as <tool_call>...</tool_call>, and at the end <answer>...</answer>."
)
PLACEHOLDERS = ("<video>", "<image>")  # their loader puts frames where these stand


@dataclass(frozen=True)
class Sampling:
    """How their loader samples the film that opens a dialogue. Defaults: those of their converter."""

    fps: int = 1
    min_frames: int = 1
    max_frames: int = 512
    max_pixels: int = 50_176


def export_fork(
    suite: Suite,
    out: str | Path,
    tasks: Sequence[Task] | None = None,
    data_source: str | None = None,
    sampling: Sampling = Sampling(),
) -> int:
    """Write `rl.jsonl` and `records.jsonl` to `out`; return the number of tasks.

    `tasks` are by default those that GA-GRPO trains on: the challenging closed tasks of split rl. `data_source` is by
    default the collection of each task. Raises ValueError for a task of another split, of a group that the benchmark
    has too, or whose question holds a placeholder, FileNotFoundError for a missing video.
    """
    tasks = trainable_tasks(suite, tasks)
    numbered = list(enumerate(tasks, start=1))
    out = Path(out)
    bar = tqdm(numbered, desc=ROWS, unit="task", disable=None)
    _write(out / ROWS, bar, lambda number, task: rl_row(task, number, data_source or task.collection, sampling))
    _write(out / RECORDS, numbered, lambda number, task: record(task, suite.recording(task.video).duration))
    return len(tasks)


def trainable_tasks(suite: Suite, tasks: Sequence[Task] | None = None) -> list[Task]:
    """The tasks, by default those of GA-GRPO. ValueError for none, and for one that must not be trained on."""
    tasks = suite.select("rl", challenging=True) if tasks is None else list(tasks)
    if not tasks:
        raise ValueError(f"{suite.folder} has no challenging tasks of split rl; there is nothing to export")
    held_out = {group_of(recording) for recording in suite.recordings if recording.split == "eval"}
    for task in tasks:
        _check_trainable(task, suite.recording(task.video), held_out)
    return tasks


def _check_trainable(task: Task, recording: Recording, held_out: set[str]) -> None:
    """Raise unless a task may be trained on and its loader can read it."""
    if task.split != "rl":
        raise ValueError(f"the task {task.id!r} is of split {task.split}; RL data are made of split rl alone")
    if recording.split != "rl" or group_of(recording) in held_out:
        raise ValueError(
            f"the task {task.id!r} is of {task.video!r} (split {recording.split}), whose patient or procedure "
            f"{group_of(recording)!r} is not kept for RL alone; build the suite anew, so that the splits are apart"
        )
    if found := [word for word in PLACEHOLDERS if word in task.question or word in str(Path(task.path).absolute())]:
        raise ValueError(f"the task {task.id!r}: its question or path holds {found[0]}, where frames would be put")
    if not Path(task.path).is_file():
        raise FileNotFoundError(f"{task.path} of the task {task.id!r} does not exist; run where the videos are")


def group_of(recording: Recording) -> str:
    """The patient or procedure of a recording; a recording without one stands alone."""
    return recording.group or recording.video


def rl_row(task: Task, number: int, data_source: str, sampling: Sampling) -> dict[str, Any]:
    """A row of their RL data: with `video_segment` (s) for evidence in a window, `frame_time` (s) for an instant."""
    path = Path(task.path).absolute()
    extra: dict[str, Any] = {
        "answer": answer_text(task.reference),
        "index": number,
        "question": task.question,
        "split": "train",
        "need_tools_kwargs": True,
        "tools_kwargs": {name: {"create_kwargs": {"dummy": "dummy"}} for name in ("crop_video", "get_frame")},
    }
    if isinstance(task.evidence, Window):
        extra["video_segment"] = [task.evidence.start, task.evidence.end]
    else:
        extra["frame_time"] = task.evidence.time
    return {
        "data_source": data_source,
        "prompt": [{"role": "user", "content": f"<video>{task.question} {INSTRUCTION} The video is the file {path}"}],
        "videos": [
            {
                "type": "video",
                "video": f"file://{path}",
                "fps": sampling.fps,
                "min_frames": sampling.min_frames,
                "max_frames": sampling.max_frames,
                "max_pixels": sampling.max_pixels,
            }
        ],
        "ability": "video_tool",
        "reward_model": {"ground_truth": answer_text(task.reference), "style": "model"},
        "extra_info": extra,
    }


def record(task: Task, duration: float) -> dict[str, Any]:
    """A record of their scripts. With an instant as evidence, clip and question are the whole film."""
    if isinstance(task.evidence, Window):
        start, end = task.evidence.start, task.evidence.end
    else:
        start, end = 0.0, duration
    made: dict[str, Any] = {
        "clip_id": task.id,
        "video_name": Path(task.path).name,
        "video_path": str(Path(task.path).absolute()),
        "clip_start_time": start,
        "clip_end_time": end,
        "qa_start_time": start,
        "qa_end_time": end,
        "question": task.question,
        "answer": answer_text(task.reference),
    }
    if not isinstance(task.evidence, Window):
        made["anchor_frame_time"] = task.evidence.time
    if isinstance(task.reference, Window):
        asked = {
            "tg_question": task.question,
            "tg_start_time": task.reference.start,
            "tg_end_time": task.reference.end,
        }
        made["_tg_raw"] = json.dumps(asked, ensure_ascii=False)
    return made


def answer_text(reference: Reference) -> str:
    """The reference as their scripts write it: a text, `[12.000, 40.000]` for a window, `4.500` for an instant (s)."""
    if isinstance(reference, Text):
        return reference.text
    if isinstance(reference, Window):
        return f"[{reference.start:.3f}, {reference.end:.3f}]"
    return f"{reference.time:.3f}"


def _write(path: Path, numbered: Iterable[tuple[int, Task]], line: Callable[[int, Task], dict[str, Any]]) -> None:
    """Whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    with part.open("w", encoding="utf-8") as file:
        for number, task in numbered:
            file.write(json.dumps(line(number, task), ensure_ascii=False) + "\n")
    part.replace(path)
