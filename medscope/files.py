"""Files and folders written whole or not at all; JSON lines, read with an error that names file, line and field."""

import json
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

Record = TypeVar("Record")


def write_jsonl(path: str | Path, records: Iterable[Any]) -> int:
    """Write records as JSON lines, return how many. A kill half-way leaves the old file, never half of a new one.

    Raises ValueError for a second record with the same `id`.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".part")
    count, seen = 0, set()
    with temporary.open("w") as file:
        for record in records:
            _check_id(path, record, seen)
            file.write(TypeAdapter(type(record)).dump_json(record).decode() + "\n")
            count += 1
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    return count


def read_jsonl(path: str | Path, kind: type[Record]) -> list[Record]:
    """Read JSON lines as records of one kind. A bad line or a repeated `id` is an error that names file and line."""
    path, seen = Path(path), set()
    records = []
    for record in _parse_lines(path, TypeAdapter(kind)):
        _check_id(path, record, seen)
        records.append(record)
    return records


def _check_id(path: Path, record: Any, seen: set[str]) -> None:
    name = getattr(record, "id", None)
    if name is None:
        return
    if name in seen:
        raise ValueError(f"{path}: the id {name!r} occurs twice; ids of tasks are unique")
    seen.add(name)


def _parse_lines(path: Path, adapter: TypeAdapter) -> Iterator[Any]:
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist; the stage that writes it has not run (dvc repro)")
    with path.open() as file:
        for number, line in enumerate(file, start=1):
            try:
                yield adapter.validate_json(line)
            except ValidationError as error:
                raise ValueError(f"{path}, line {number}: {error}") from None


def write_json(path: str | Path, value: Any) -> None:
    """Write one JSON document whole or not at all (metrics, summaries)."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True) + "\n")


def write_text(path: str | Path, text: str) -> None:
    """Write a text whole or not at all."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".part")
    temporary.write_text(text)
    temporary.replace(path)


def replace_folder(finished: Path, target: Path) -> None:
    """Rename a finished folder to the target. The older target is renamed before it is deleted: a folder that bears the
    target's name is whole. Killed between the two renames there is none, and a whole `<target>.older`."""
    older = target.with_name(target.name + ".older")
    shutil.rmtree(older, ignore_errors=True)
    if target.exists():
        target.rename(older)
    finished.rename(target)
    shutil.rmtree(older, ignore_errors=True)
