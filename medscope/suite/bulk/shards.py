"""Results on disk: FOLDER/STEP/RANK-NUMBER.jsonl, one line an item, only ever appended to.

A line is `{"key": .., "kept": record}` or `{"key": .., "rejected": reason}`. It reaches the operating system in one
write, so that a killed process loses none that it has finished; a line that was cut off has no line end and is dropped.
Every process writes shards of its own rank. Readers read all of them.
"""

import errno
import fcntl
import os
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from pydantic_core import PydanticSerializationError, from_json, to_json

from medscope.suite.bulk.step import Rejected

SHARD_BYTES = 64 * 2**20
MEND = "delete this line: its item is asked for again"
NO_LOCKS = (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK)  # of some network file systems


def step_folder(folder: str | Path, name: str) -> Path:
    """Where a step's shards lie. Raises ValueError for a name that is no plain file name."""
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", name):
        raise ValueError(f"the step's name {name!r} must be a plain file name: letters, digits, _, -, .")
    return Path(folder) / name


class Line(NamedTuple):
    """What is appended for an item."""

    data: bytes
    kept: bool


def to_line(key: str, result: Any) -> Line:
    """A result as its line. Raises TypeError for what no record can be, ValueError for what JSON cannot hold."""
    if result is None:
        raise TypeError("the step returned None; it must return a record or Rejected")
    if isinstance(result, Rejected):
        reason = str(result.reason).encode(errors="replace").decode()
        return Line(to_json({"key": key, "rejected": reason}) + b"\n", kept=False)
    try:
        return Line(to_json({"key": key, "kept": result}, inf_nan_mode="constants") + b"\n", kept=True)
    except PydanticSerializationError as error:
        if "surrogates not allowed" in str(error):  # a model can write half a character; asking again does not mend it
            return to_line(key, Rejected("text that is no Unicode"))
        raise


def read_lines(folder: str | Path, name: str) -> Iterator[dict[str, Any]]:
    """The whole lines of a step, shard by shard, while others may write. A step that never ran has none.

    Raises ValueError with file and line for a whole line that cannot be read: the disk is at fault, not the run.
    """
    for path in sorted(step_folder(folder, name).glob("*.jsonl")):
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if not line.endswith(b"\n"):
                    break  # cut off, or being written
                yield _parse(path, number, line)


def _parse(path: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        read = from_json(line)
    except ValueError as error:
        raise ValueError(f"{path}, line {number}: {error}; {MEND}") from None
    if isinstance(read, dict) and isinstance(read.get("key"), str) and ("kept" in read) != ("rejected" in read):
        return read
    raise ValueError(f"{path}, line {number}: no result of a step; {MEND}")


class ShardWriter:
    """Appends lines to the shards of one rank; a context. Raises RuntimeError if another process writes them."""

    def __init__(self, folder: str | Path, name: str, rank: int = 0, shard_bytes: int = SHARD_BYTES):
        self.folder, self.rank, self.shard_bytes = step_folder(folder, name), rank, shard_bytes

    def __enter__(self) -> "ShardWriter":
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = _lock(self.folder / f"{self.rank:05d}.lock")
        self._file = -1
        try:
            shards = sorted(self.folder.glob(f"{self.rank:05d}-*.jsonl"))
            self._open(int(shards[-1].stem.partition("-")[2]) if shards else 0)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._file >= 0:
            os.fsync(self._file)
            os.close(self._file)
        os.close(self._lock)

    def _open(self, number: int) -> None:
        """Open a shard behind its last whole line."""
        self._number = number
        self._file = os.open(self.folder / f"{self.rank:05d}-{number:05d}.jsonl", os.O_RDWR | os.O_CREAT, 0o644)
        size = os.fstat(self._file).st_size
        self._end = _last_line_end(self._file, size)
        if self._end < size:
            os.ftruncate(self._file, self._end)

    def append(self, line: bytes) -> None:
        """Add a line. Raises OSError (the disk is full), and then the shard ends with the last whole line."""
        if self._end and self._end + len(line) > self.shard_bytes:
            os.fsync(self._file)
            os.close(self._file)
            self._open(self._number + 1)
        try:
            written = 0
            while written < len(line):
                written += os.pwrite(self._file, line[written:], self._end + written)
        except OSError:
            os.ftruncate(self._file, self._end)
            raise
        self._end += len(line)


def _last_line_end(file: int, size: int, block: int = 65_536) -> int:
    for start in range((size - 1) // block * block, -1, -block) if size else ():
        at = os.pread(file, min(block, size - start), start).rfind(b"\n")
        if at >= 0:
            return start + at + 1
    return 0


def _lock(path: Path) -> int:
    """A lock that ends with its process, however that ends."""
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in NO_LOCKS:
            warnings.warn(f"{path}: no locks on this file system; run this step once at a time", stacklevel=3)
            return file
        os.close(file)
        if isinstance(error, BlockingIOError):
            raise RuntimeError(f"another run writes {path.parent}; wait for it, or stop it") from None
        raise
    return file
