"""A suite as Parquet shards, FOLDER/NAME/NUMBER.parquet, read in order or record by record.

Columns follow the records' types. A union of records (`reference`, `evidence`) is one struct with the fields of all,
those of the others null. Open dictionaries (`attributes`, `arguments`) are JSON text, which every reader can hold.
"""

import itertools
import json
import shutil
import types
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields, is_dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import TypeAdapter, ValidationError

from medscope.files import replace_folder
from medscope.records import Caption, Recording, Task, Trajectory, WarmUpExample
from medscope.suite.bulk.keys import Keys
from medscope.suite.lazy import JsonLines, Records

SUITE: dict[str, type] = {
    "recordings": Recording,
    "captions": Caption,
    "tasks": Task,
    "warm_up_examples": WarmUpExample,
    "trajectories": Trajectory,
}
SCALARS: dict[Any, pa.DataType] = {str: pa.string(), float: pa.float64(), int: pa.int64(), bool: pa.bool_()}
ROWS = 10_000  # of a shard
GROUP = 64  # rows that are read for one of them
GROUPS = 16  # of rows, and as many files, that a reader of single records holds
BATCH = 1_000  # rows that a reader in order holds
BROKEN = (pa.ArrowInvalid, KeyError, ValidationError)
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

    Without records there is one empty shard, for its columns. Raises ValueError for a second record of one `id`.
    """
    adapter, column = TypeAdapter(kind), column_of(kind)
    schema, target = pa.schema(list(column.type)), Path(folder) / name
    half = target.with_name(f"{name}.part")
    shutil.rmtree(half, ignore_errors=True)
    half.mkdir(parents=True)
    records, count, seen = iter(records), 0, Keys()
    for number in itertools.count():
        chunk = [column.write(adapter.dump_python(record, mode="json")) for record in islice(records, rows)]
        for row in chunk if "id" in schema.names else ():
            if not seen.add(row["id"]):
                raise ValueError(f"{target}: the id {row['id']!r} occurs twice; ids of tasks are unique")
        if number and not chunk:
            break
        table = pa.Table.from_pylist(chunk, schema=schema)
        pq.write_table(table, half / f"{number:05d}.parquet", compression="zstd", row_group_size=GROUP)
        count += len(chunk)
    replace_folder(half, target)
    return count


def read_parquet(folder: str | Path, name: str, kind: type[Record]) -> Iterator[Record]:
    """The records of an export, in order; a batch is in memory at a time.

    Raises FileNotFoundError if there is none, ValueError for a shard that is no Parquet or has other columns.
    """
    adapter, column = TypeAdapter(kind), column_of(kind)
    for path in _existing(folder, name):
        try:
            with pq.ParquetFile(path) as file:
                for batch in file.iter_batches(BATCH):
                    for row in batch.to_pylist():
                        yield adapter.validate_python(column.read(row))
        except BROKEN as error:
            raise _no_records(path, kind, error) from error


class ParquetRecords(Records[Record]):
    """The records of an export by number, a few row groups in memory. Raises as `read_parquet`."""

    def __init__(self, folder: str | Path, name: str, kind: type[Record]):
        self.kind, self._adapter, self._column = kind, TypeAdapter(kind), column_of(kind)
        self._shards = _existing(folder, name)
        self._file, self._group = lru_cache(GROUPS)(self._open), lru_cache(GROUPS)(self._read_group)
        groups = [(shard, group, rows) for shard in range(len(self._shards)) for group, rows in self._groups(shard)]
        self._places = np.array([place[:2] for place in groups], np.int32).reshape(-1, 2)
        self._ends = np.cumsum([0, *(rows for *_, rows in groups)])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def read(self, number: int) -> Record:
        place = int(np.searchsorted(self._ends, number, side="right")) - 1
        shard, group = map(int, self._places[place])
        try:
            [row] = self._group(shard, group).slice(number - int(self._ends[place]), 1).to_pylist()
            return self._adapter.validate_python(self._column.read(row))
        except BROKEN as error:
            raise _no_records(self._shards[shard], self.kind, error) from error

    def _open(self, shard: int) -> pq.ParquetFile:
        try:
            return pq.ParquetFile(self._shards[shard], memory_map=True)
        except pa.ArrowInvalid as error:
            raise _no_records(self._shards[shard], self.kind, error) from error

    def _groups(self, shard: int) -> list[tuple[int, int]]:
        """Number and rows of every row group of a shard."""
        found = self._file(shard).metadata
        return [(number, found.row_group(number).num_rows) for number in range(found.num_row_groups)]

    def _read_group(self, shard: int, group: int) -> pa.Table:
        return self._file(shard).read_row_group(group)


def shards_of(folder: str | Path, name: str) -> list[Path]:
    """The shards of an export in order; none where there is none."""
    return sorted((Path(folder) / name).glob("*.parquet"))


def _existing(folder: str | Path, name: str) -> list[Path]:
    if shards := shards_of(folder, name):
        return shards
    raise FileNotFoundError(f"{Path(folder) / name} has no Parquet shards; to_parquet writes them from the suite")


def _no_records(path: Path, kind: type, error: Exception) -> ValueError:
    return ValueError(f"{path}: no records of {kind.__name__}: {error}; export the suite again")


def to_parquet(suite: str | Path, folder: str | Path, rows: int = ROWS) -> dict[str, int]:
    """Export the JSON lines of a suite, read one at a time, as Parquet; return how many records each file has.

    Raises FileNotFoundError for a file that is missing, ValueError that names the line for one that is no record, and
    for the suite's own folder, which would then hold two forms.
    """
    if Path(suite).resolve() == Path(folder).resolve():
        raise ValueError(f"{folder} holds the suite itself; name another folder for its Parquet shards")
    return {
        name: write_parquet(folder, name, kind, JsonLines(Path(suite) / f"{name}.jsonl", kind), rows)
        for name, kind in SUITE.items()
    }
