"""The suite as a folder that Hugging Face `datasets` loads: Parquet files by record and split, and a dataset card.

`load_dataset(folder, "tasks", split="rl")` reads it, without a network. The videos are not in it.
"""

import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from datasets import Dataset, Features, List, Value
from tqdm import tqdm

from medscope.exports.card import SPLITS, card
from medscope.exports.rows import caption_row, example_row, recording_row, split_of, task_row, trajectory_row
from medscope.suite.suite import Suite

SHARD = 100_000  # rows of a Parquet file
CARD = "README.md"

_TEXT, _REAL, _WHOLE, _FLAG = Value("string"), Value("float64"), Value("int64"), Value("bool")


def _typed(name: str, text: bool = False) -> dict[str, Value]:
    columns = {f"{name}_type": _TEXT, f"{name}_start": _REAL, f"{name}_end": _REAL, f"{name}_time": _REAL}
    return {**columns, f"{name}_text": _TEXT} if text else columns


_TASK: dict[str, Any] = {
    **dict.fromkeys(("id", "video", "question"), _TEXT),
    **_typed("reference", text=True),
    **_typed("evidence"),
    **dict.fromkeys(("kind", "subject", "collection", "domain"), _TEXT),
    **dict.fromkeys(("challenging", "free_text"), _FLAG),
}
_CALL = {"name": _TEXT, "arguments": _TEXT, **_typed("looked"), "seconds": List(_REAL), "message": _TEXT}
_INTERVAL = {"start": _REAL, "end": _REAL, "label": _TEXT, "attributes": _TEXT, "timestamp": _REAL}
COLUMNS: dict[str, dict[str, Any]] = {
    "tasks": _TASK,
    "trajectories": {**_TASK, "turns": List(_TEXT), "calls": List(_CALL), "tools": _FLAG},
    "captions": {"video": _TEXT, "start": _REAL, "end": _REAL, "text": _TEXT},
    "recordings": {
        **{"video": _TEXT, "duration": _REAL, "collection": _TEXT, "domain": _TEXT, "group": _TEXT},
        "intervals": List(_INTERVAL),
    },
    "warm_up_examples": {
        **{"video": _TEXT, "question": _TEXT, "seconds": List(_REAL), "max_pixels": _WHOLE, "end": _REAL},
        **{"turn": _TEXT, "time_offset": _REAL, "captions": List(_TEXT), "collection": _TEXT},
    },
}


def export_huggingface(
    suite: Suite, out: str | Path, licences: Mapping[str, str], rejected: Mapping[str, int] | None = None
) -> dict[str, dict[str, int]]:
    """Write the folder `out`; return the number of rows by record and split.

    `licences` names the licence of every collection. `rejected` counts the trajectories that were thrown away, by
    reason (`rejected` of metrics/synthesize_data.json). Raises ValueError when `out` holds anything, or a licence is
    missing.
    """
    out = Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"{out} is not empty; name a new folder, or empty it first")
    collections = list(dict.fromkeys(recording.collection for recording in suite.recordings))
    for name in collections:
        if not licences.get(name, "").strip():
            raise ValueError(f"the licence of the collection {name!r} is missing; give --licence '{name}=NAME'")
    if unknown := [name for name in licences if name not in collections]:
        raise ValueError(f"the suite has no collection {unknown[0]!r}; it has {', '.join(collections)}")
    part = out.with_name(out.name + ".part")
    if part.exists():
        shutil.rmtree(part)
    splits = {recording.video: split_of(recording) for recording in suite.recordings}
    rows = {
        "tasks": _rows(suite.tasks, split_of, task_row),
        "trajectories": _rows(suite.trajectories, split_of, trajectory_row),
        "captions": _rows(suite.captions, lambda caption: splits[caption.video], caption_row),
        "recordings": _rows(suite.recordings, split_of, recording_row),
        "warm_up_examples": _rows(suite.warm_up_examples, split_of, example_row),
    }
    counts = {
        name: {split: len(rows[name][split]) for split in SPLITS if rows[name][split]}
        for name in tqdm(rows, desc="parquet", unit="file")
        if _write(part / "data" / name, rows[name], Features(COLUMNS[name]))
    }
    (part / CARD).write_text(card(suite, counts, licences, rejected), "utf-8")
    if out.exists():
        out.rmdir()
    part.replace(out)
    return counts


def _rows(
    records: Iterable[Any], split: Callable[[Any], str], row: Callable[[Any], dict[str, Any]]
) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in SPLITS}
    for record in records:
        found[split(record)].append(row(record))
    return found


def _write(folder: Path, splits: Mapping[str, list[dict[str, Any]]], features: Features) -> bool:
    """Whether there was anything to write."""
    for split, rows in splits.items():
        count = -(-len(rows) // SHARD)
        for number in range(count):
            folder.mkdir(parents=True, exist_ok=True)
            shard = Dataset.from_list(rows[number * SHARD : (number + 1) * SHARD], features=features)
            shard.to_parquet(str(folder / f"{split}-{number:05d}-of-{count:05d}.parquet"))
    return any(splits.values())
