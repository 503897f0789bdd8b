"""ClinVideoSuite on disk: five JSONL files, each read when it is first asked for."""

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from medscope.files import read_jsonl
from medscope.records import Caption, Domain, Recording, Split, Task, Trajectory, WarmUpExample


class Suite:
    """The suite in `folder`, as `suite.build` wrote it. Reading a file that is missing raises FileNotFoundError."""

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)

    def _read(self, name: str, kind: type) -> list[Any]:
        return read_jsonl(self.folder / f"{name}.jsonl", kind)

    @cached_property
    def recordings(self) -> list[Recording]:
        return self._read("recordings", Recording)

    @cached_property
    def captions(self) -> list[Caption]:
        return self._read("captions", Caption)

    @cached_property
    def tasks(self) -> list[Task]:
        return self._read("tasks", Task)

    @cached_property
    def warm_up_examples(self) -> list[WarmUpExample]:
        return self._read("warm_up_examples", WarmUpExample)

    @cached_property
    def trajectories(self) -> list[Trajectory]:
        return self._read("trajectories", Trajectory)

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
        """The tasks of a split, in order; None means any. At most `most`, evenly spread over all of them."""
        found = [
            task
            for task in self.tasks
            if task.split == split
            and task.free_text == free_text
            and collection in (None, task.collection)
            and challenging in (None, task.challenging)
        ]
        return evenly(found, most)

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


def evenly(items: list[Any], most: int | None) -> list[Any]:
    """At most `most` of the items, evenly spread and in order; all of them for None."""
    if most is None or most >= len(items):
        return items
    return [items[i] for i in np.linspace(0, len(items) - 1, most).round().astype(int)]
