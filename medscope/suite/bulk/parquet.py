"""The finished suite as Parquet shards, FOLDER/NAME/NUMBER.parquet, beside its JSON lines; read a batch at a time.

Columns follow the records' types. A union of records (`reference`, `evidence`) is one struct with the fields of all,
those of the others null. Open dictionaries (`attributes`, `arguments`) are JSON text, which every reader can hold.
"""

import itertools
import json
import shutil
import types
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields, is_dataclass
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import TypeAdapter, ValidationError

from medscope.records import Caption, Recording, Task, Trajectory, WarmUpExample

SUITE: dict[str, type] = {
    "recordings": Recording,
    "captions": Caption,
    "tasks": Task,
    "warm_up_examples": WarmUpExample,
    "trajectories": Trajectory,
}
SCALARS: dict[Any, pa.DataType] = {str: pa.string(), float: pa.float64(), int: pa.int64(), bool: pa.bool_()}
ROWS = 10_000  # of a shard
BATCH = 1_000  # rows that a reader holds
Record = TypeVar("Record")


@dataclass(frozen=True)
class Column:
    """How values of one annotation stand in Arrow: its type, and the two ways of a value that is plain JSON."""

    type: pa.DataType
    write: Callable[[Any], Any]
    read: Callable[[Any], Any]


def column_of(annotation: Any) -> Column:
    """The column of a field's annotation. Raises TypeError for one that the records do not use."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return column_of(arguments[0])
    if annotation in SCALARS:
        return Column(SCALARS[annotation], _same, _same)
    if origin is Literal and all(isinstance(value, str) for value in arguments):
        return Column(pa.string(), _same, _same)
    if origin is dict or annotation is Any:
        return Column(pa.string(), _to_text, json.loads)
    if origin is tuple and arguments[1:] == (...,):
        item = column_of(arguments[0])
        return Column(pa.list_(item.type), _each(item.write), _each(item.read))
    if origin in (Union, types.UnionType):
        return _nullable([column for column in arguments if column is not type(None)])
    if is_dataclass(annotation):
        return _struct([annotation])
    raise TypeError(f"no Parquet column for {annotation}; medscope.suite.bulk.parquet.column_of lists what there is")


def _nullable(kinds: list[Any]) -> Column:
    column = column_of(kinds[0]) if len(kinds) == 1 else _struct(kinds)
    return Column(column.type, _unless_none(column.write), _unless_none(column.read))


def _struct(kinds: list[Any]) -> Column:
    """Of one record, or of a union of records that no two fields of one name distinguish by type."""
    columns: dict[str, Column] = {}
    for kind in kinds:
        if not is_dataclass(kind):
            raise TypeError(f"no Parquet column for a union with {kind}")
        hints = get_type_hints(kind, include_extras=True)
        for entry in fields(kind):
            columns.setdefault(entry.name, column_of(hints[entry.name]))

    def write(value: dict[str, Any]) -> dict[str, Any]:
        return {name: columns[name].write(part) for name, part in value.items()}

    def read(value: dict[str, Any]) -> dict[str, Any]:
        parts = value.items() if len(kinds) == 1 else ((n, v) for n, v in value.items() if v is not None)
        return {name: columns[name].read(part) for name, part in parts}

    return Column(pa.struct([pa.field(name, column.type) for name, column in columns.items()]), write, read)


def _same(value: Any) -> Any:
    return value


def _to_text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True)


def _each(function: Callable[[Any], Any]) -> Callable[[list[Any]], list[Any]]:
    return lambda values: [function(value) for value in values]


def _unless_none(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda value: None if value is None else function(value)


def write_parquet(
    folder: str | Path, name: str, kind: type[Record], records: Iterable[Record], rows: int = ROWS
) -> int:
    """Write records of one kind as shards of at most `rows`, and return how many. A kill leaves no half of an export.

    Without records there is one empty shard, for its columns.
    """
    adapter, column = TypeAdapter(kind), column_of(kind)
    schema, target = pa.schema(list(column.type)), Path(folder) / name
    half = target.with_name(f"{name}.part")
    shutil.rmtree(half, ignore_errors=True)
    half.mkdir(parents=True)
    records, count = iter(records), 0
    for number in itertools.count():
        chunk = [column.write(adapter.dump_python(record, mode="json")) for record in islice(records, rows)]
        if number and not chunk:
            break
        table = pa.Table.from_pylist(chunk, schema=schema)
        pq.write_table(table, half / f"{number:05d}.parquet", compression="zstd")
        count += len(chunk)
    if target.exists():
        shutil.rmtree(target)
    half.replace(target)
    return count


def read_parquet(folder: str | Path, name: str, kind: type[Record]) -> Iterator[Record]:
    """The records of an export, in order; a batch is in memory at a time.

    Raises FileNotFoundError if there is none, ValueError for a shard that is no Parquet or has other columns.
    """
    shards = sorted((Path(folder) / name).glob("*.parquet"))
    if not shards:
        raise FileNotFoundError(f"{Path(folder) / name} has no Parquet shards; to_parquet writes them from the suite")
    adapter, column = TypeAdapter(kind), column_of(kind)
    for path in shards:
        try:
            with pq.ParquetFile(path) as file:
                for batch in file.iter_batches(BATCH):
                    for row in batch.to_pylist():
                        yield adapter.validate_python(column.read(row))
        except (pa.ArrowInvalid, KeyError, ValidationError) as error:
            raise ValueError(f"{path}: no records of {kind.__name__}: {error}; export the suite again") from error


def to_parquet(suite: str | Path, folder: str | Path, rows: int = ROWS) -> dict[str, int]:
    """Export the JSON lines of a suite, read one at a time, as Parquet; return how many records each file has.

    Raises FileNotFoundError for a file that is missing, ValueError that names the line for one that is no record.
    """
    counts = {}
    for name, kind in SUITE.items():
        path = Path(suite) / f"{name}.jsonl"
        if not path.exists():
            raise FileNotFoundError(f"{path} does not exist; the stage that writes the suite has not run (dvc repro)")
        counts[name] = write_parquet(folder, name, kind, _records(path, kind), rows)
    return counts


def _records(path: Path, kind: type[Record]) -> Iterator[Record]:
    adapter = TypeAdapter(kind)
    with path.open() as file:
        for number, line in enumerate(file, start=1):
            try:
                yield adapter.validate_json(line)
            except ValidationError as error:
                raise ValueError(f"{path}, line {number}: {error}") from None
