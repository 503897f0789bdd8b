"""ClinVideoSuite on disk: five kinds of records, each as JSON lines or as Parquet shards, read when asked for.

A suite of rendered videos is JSON lines: small, and a person can read and compare them. One that a model makes is
Parquet shards: it may be of any size. Both are read one record at a time, behind one interface.
"""

import shutil
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from medscope.records import Caption, Domain, Recording, Split, Task, Trajectory, WarmUpExample
from medscope.suite.bulk.parquet import SUITE, ParquetRecords, shards_of
from medscope.suite.lazy import JsonLines, Records
from medscope.suite.sampling import in_turns


class Suite:
    """The suite in `folder`. Recordings are held in memory, all else stays on disk.

    Reading what is missing raises FileNotFoundError; what is there in both forms, ValueError.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)

    def _open(self, name: str) -> Records[Any]:
        lines, shards = self.folder / f"{name}.jsonl", shards_of(self.folder, name)
        if not shards:
            return JsonLines(lines, SUITE[name])
        if lines.exists():
            raise ValueError(f"{self.folder} has both {lines.name} and Parquet shards in {name}/; delete one of them")
        return ParquetRecords(self.folder, name, SUITE[name])

    @cached_property
    def recordings(self) -> list[Recording]:
        return list(self._open("recordings"))

    @cached_property
    def captions(self) -> Records[Caption]:
        return self._open("captions")

    @cached_property
    def tasks(self) -> Records[Task]:
        return self._open("tasks")

    @cached_property
    def warm_up_examples(self) -> Records[WarmUpExample]:
        return self._open("warm_up_examples")

    @cached_property
    def trajectories(self) -> Records[Trajectory]:
        return self._open("trajectories")

    @cached_property
    def tasks_by_id(self) -> dict[str, Task]:
        return {task.id: task for task in self.tasks}

    @cached_property
    def _recordings_by_video(self) -> dict[str, Recording]:
        return {recording.video: recording for recording in self.recordings}

    def recording(self, video: str) -> Recording:
        """The recording of a video. Raises KeyError for a video that the suite does not have."""
        return self._recordings_by_video[video]

    def select(
        self,
        split: Split,
        collection: str | None = None,
        challenging: bool | None = None,
        free_text: bool = False,
        most: int | None = None,
    ) -> list[Task]:
        """The tasks of a split, in order; None means any. At most `most`: kinds, answers and videos in turns."""
        found = [
            task
            for task in self.tasks
            if task.split == split
            and task.free_text == free_text
            and collection in (None, task.collection)
            and challenging in (None, task.challenging)
        ]
        return found if most is None else in_turns(found, most)

    def eval_sets(self, most: int | None = None) -> dict[str, list[Task]]:
        """The benchmark: the challenging closed tasks of split `eval` by collection, at most `most` of each."""
        names = dict.fromkeys(task.collection for task in self.select("eval", challenging=True))
        return {name: self.select("eval", name, challenging=True, most=most) for name in names}

    def domain(self, name: str) -> Domain:
        """Whether a collection is in or out of domain. Raises ValueError for one that the suite does not have."""
        domains = {recording.collection: recording.domain for recording in self.recordings}
        if name not in domains:
            raise ValueError(f"the suite has no collection {name!r}; it has {', '.join(domains)}")
        return domains[name]


def is_suite(folder: str | Path) -> bool:
    """Whether the folder holds the tasks of a suite, in either form."""
    return (Path(folder) / "tasks.jsonl").is_file() or bool(shards_of(folder, "tasks"))


def clear_suite(folder: str | Path) -> None:
    """Delete the suite in a folder, and nothing else in it: a new one may have another form."""
    for name in SUITE:
        (Path(folder) / f"{name}.jsonl").unlink(missing_ok=True)
        for half in ("", ".part", ".older"):  # what a kill left of one
            shutil.rmtree(Path(folder) / f"{name}{half}", ignore_errors=True)


def evenly(items: list[Any], most: int | None) -> list[Any]:
    """At most `most` of the items, evenly spread and in order; all of them for None."""
    if most is None or most >= len(items):
        return items
    return [items[i] for i in np.linspace(0, len(items) - 1, most).round().astype(int)]
