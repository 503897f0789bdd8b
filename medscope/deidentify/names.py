"""The private map from old to new names: one CSV file that only its owner can read.

A row holds the path of an original, the name of its copy, its group (patient or procedure) before and after, and what
the copy was made of (`recipe`). Names are random and stay the same from run to run. The last row of a path counts:
rows are appended as copies are finished, and `assign` writes the file anew without the old ones.
"""

import csv
import os
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from pathlib import Path

PRIVATE = 0o600
_NAME = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True)
class NamedFile:
    """A row. `path` is absolute; `name` is that of the copy without suffix; `recipe` is empty before it is made."""

    path: str
    name: str
    group_before: str
    group: str
    recipe: str = ""


COLUMNS = [field.name for field in fields(NamedFile)]


class NameMap:
    """The map in `file`, read if it is there. Raises ValueError that names the line of a row that is none."""

    def __init__(self, file: str | Path):
        self.file = Path(file)
        self.rows: dict[str, NamedFile] = {}
        if self.file.exists():
            self.file.chmod(PRIVATE)
            self._read()

    def assign(self, groups: Iterable[tuple[str, str]]) -> None:
        """Name every (path, group) that has no name yet, and write the map. A group has one new name in all rows."""
        renamed = {row.group_before: row.group for row in self.rows.values()}
        names = {name for row in self.rows.values() for name in (row.name, row.group)}
        for path, group in groups:
            row = self.rows.get(path)
            new = renamed.setdefault(group, _random(names))
            names.add(new)
            if row is None:
                name = _random(names)
                names.add(name)
                self.rows[path] = NamedFile(path, name, group, new)
            else:
                self.rows[path] = replace(row, group_before=group, group=new)
        self._write()

    def finish(self, path: str, recipe: str) -> None:
        """Append that the copy of `path` is made, of `recipe`."""
        self.rows[path] = replace(self.rows[path], recipe=recipe)
        with self.file.open("a", newline="", encoding="utf-8") as file:
            csv.writer(file).writerow(_cells(self.rows[path]))
            file.flush()
            os.fsync(file.fileno())

    def _write(self) -> None:
        self.file.parent.mkdir(parents=True, exist_ok=True)
        part = self.file.with_name(self.file.name + ".part")
        part.unlink(missing_ok=True)
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE), "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(COLUMNS)
            writer.writerows(_cells(row) for row in self.rows.values())
            file.flush()
            os.fsync(file.fileno())
        part.replace(self.file)

    def _read(self) -> None:
        with self.file.open(newline="", encoding="utf-8") as lines:
            reader = csv.reader(lines)
            head = next(reader, None)
            if head != COLUMNS:
                raise ValueError(f"{self.file}, line 1: the columns are {head}, not {','.join(COLUMNS)}")
            rows = [(reader.line_num, cells) for cells in reader]
        if rows and len(rows[-1][1]) < len(COLUMNS):
            rows.pop()  # a kill has cut it short; the row of its name stands above
        for number, cells in rows:
            if len(cells) != len(COLUMNS) or not all(cells[:4]):
                raise ValueError(f"{self.file}, line {number}: {cells} is not {','.join(COLUMNS)}")
            row = NamedFile(*cells)
            if not _NAME.fullmatch(row.name) or not _NAME.fullmatch(row.group):
                raise ValueError(
                    f"{self.file}, line {number}: {row.name!r}, {row.group!r} are no names of this program"
                )
            self.rows[row.path] = row
        owners: dict[str, str] = {}
        for row in self.rows.values():
            if (other := owners.setdefault(row.name, row.path)) != row.path:
                raise ValueError(f"{self.file}: {other} and {row.path} have the same name {row.name}; mend one")


def _cells(row: NamedFile) -> list[str]:
    return [getattr(row, name) for name in COLUMNS]


def _random(taken: set[str]) -> str:
    while (name := secrets.token_hex(8)) in taken:
        pass
    return name


def check_private(file: str | Path, folder: str | Path, out: str | Path) -> None:
    """Raise ValueError where the map would not stay private: among originals or copies, or in a git or DVC project."""
    file, folder, out = (Path(path).absolute().resolve() for path in (file, folder, out))
    if file.suffix.lower() != ".csv" or file.is_dir():
        raise ValueError(f"--names {file}: name a file that ends in .csv")
    for what, place in (("the originals", folder), ("the copies", out)):
        if file.is_relative_to(place):
            raise ValueError(f"--names {file} lies among {what} in {place}; name a private file outside of it")
    for parent in file.parents:
        if (parent / ".git").exists() or (parent / ".dvc").exists():
            raise ValueError(
                f"--names {file} lies in the git or DVC project {parent}; name a private file outside of it"
            )
    if out.is_relative_to(folder) or folder.is_relative_to(out):
        raise ValueError(f"the copies would go to {out}, the originals are in {folder}; name a folder apart from it")
