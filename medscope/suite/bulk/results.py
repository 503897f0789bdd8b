"""What the steps have made: records read one at a time, what was rejected, and the funnel from generated to kept."""

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from medscope.suite.bulk.keys import Keys
from medscope.suite.bulk.shards import read_lines, step_folder

Record = TypeVar("Record")


def read_step(folder: str | Path, name: str, kind: type[Record], only: Iterable[str] | None = None) -> Iterator[Record]:
    """The records that a step has kept, one at a time, in the order in which they were finished.

    The folder also holds what an earlier prompt or model made; `only` gives the keys that count
    (`(step.key(item) for item in items)`), None means all. Raises ValueError for a record that is no `kind`.
    """
    adapter = TypeAdapter(kind)
    for line in _lines(folder, name, only):
        if "kept" in line:
            try:
                yield adapter.validate_python(line["kept"])
            except ValidationError as error:
                where = step_folder(folder, name)
                raise ValueError(f"{where}: the result of key {line['key']!r} is no {kind}: {error}") from None


def rejected(folder: str | Path, name: str, only: Iterable[str] | None = None) -> Iterator[tuple[str, str]]:
    """(key, reason) of the items that a step has rejected."""
    return ((line["key"], line["rejected"]) for line in _lines(folder, name, only) if "rejected" in line)


def funnel(folder: str | Path, *names: str) -> dict[str, dict[str, Any]]:
    """What each step was given and what it kept, for a picture: `{name: {generated, kept, rejected: {reason: n}}}`.

    Reasons count by their text up to the first colon, the most frequent first. The steps stand in the order of `names`.
    """
    found = {}
    for name in names:
        kept, reasons = 0, Counter[str]()
        for line in _lines(folder, name, None):
            if "kept" in line:
                kept += 1
            else:
                reasons[line["rejected"].partition(":")[0]] += 1
        found[name] = {"generated": kept + reasons.total(), "kept": kept, "rejected": dict(reasons.most_common())}
    return found


def _lines(folder: str | Path, name: str, only: Iterable[str] | None) -> Iterator[dict[str, Any]]:
    """Every key once: on a cluster two ranks may have done the same item."""
    wanted, seen = None if only is None else Keys(only), Keys()
    for line in read_lines(folder, name):
        if (wanted is None or line["key"] in wanted) and seen.add(line["key"]):
            yield line
