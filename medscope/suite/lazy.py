"""Sequences of records that stay on disk: an index holds 8 bytes a record, a record is read when it is asked for.

Selections and sums of them are sequences too, so that training chooses among millions of records without reading them
into memory.
"""

import os
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from itertools import accumulate
from operator import index
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from pydantic import TypeAdapter, ValidationError

Record = TypeVar("Record")


class Records(Sequence[Record]):
    """Records by number. A slice and `pick` give a selection, `+` a sum with another sequence; none reads a record."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def read(self, number: int) -> Record:
        """The record of a number from 0 to `len - 1`. Raises ValueError that names the file for one that is none."""

    def __getitem__(self, at: Any) -> Any:
        if isinstance(at, slice):
            return self.pick(range(len(self))[at])
        number = index(at)
        number += len(self) if number < 0 else 0
        if not 0 <= number < len(self):
            raise IndexError(f"record {at} of {len(self)}")
        return self.read(number)

    def pick(self, numbers: Iterable[int]) -> "Picked[Record]":
        """The records of these numbers, in this order."""
        return Picked(self, numbers)

    def __add__(self, other: Sequence[Record]) -> "Joined[Record]":
        return Joined(self, other)

    def __radd__(self, other: Sequence[Record]) -> "Joined[Record]":
        return Joined(other, self)


class Picked(Records[Record]):
    """Some records of a sequence."""

    def __init__(self, records: Sequence[Record], numbers: Iterable[int]):
        self.records, self.numbers = records, np.fromiter(numbers, np.int64)

    def __len__(self) -> int:
        return len(self.numbers)

    def read(self, number: int) -> Record:
        return self.records[int(self.numbers[number])]


class Joined(Records[Record]):
    """The records of several sequences, one behind the other."""

    def __init__(self, *parts: Sequence[Record]):
        self.parts = parts
        self._ends = np.array([0, *accumulate(map(len, parts))])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def read(self, number: int) -> Record:
        part = int(np.searchsorted(self._ends, number, side="right")) - 1
        return self.parts[part][number - int(self._ends[part])]


def pick(records: Sequence[Record], numbers: Sequence[int]) -> Sequence[Record]:
    """The records of these numbers: a selection that stays on disk, or a list of what is in memory."""
    return records.pick(numbers) if isinstance(records, Records) else [records[number] for number in numbers]


class JsonLines(Records[Record]):
    """The lines of a file, as it is when it is opened. Raises FileNotFoundError for one that is missing."""

    def __init__(self, path: str | Path, kind: type[Record]):
        self.path, self._adapter = Path(path), TypeAdapter(kind)
        if not self.path.exists():
            raise FileNotFoundError(f"{path} does not exist; the stage that writes it has not run (dvc repro)")
        self._file = self.path.open("rb")  # open for good: a new file of this name is another suite
        self._ends = np.fromiter(accumulate(map(len, self._file), initial=0), np.int64)

    def __len__(self) -> int:
        return len(self._ends) - 1

    def read(self, number: int) -> Record:
        start, end = int(self._ends[number]), int(self._ends[number + 1])
        try:
            return self._adapter.validate_json(os.pread(self._file.fileno(), end - start, start))
        except ValidationError as error:
            raise ValueError(f"{self.path}, line {number + 1}: {error}") from None
