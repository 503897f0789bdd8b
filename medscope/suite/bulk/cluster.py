"""The same steps on many machines: datatrove's executors (local, Slurm, Ray) give each task its share of the items.

    pip install "medscope[cluster]"

    task = StepTask(make_step, make_items, "shared/teacher", concurrency=32)
    SlurmPipelineExecutor(pipeline=[task], tasks=64, time="20:00:00", partition="cpu", logging_dir="shared/logs").run()

Task `rank` of `tasks` takes every item whose number is `rank` modulo `tasks`, and writes shards of its own rank in the
shared folder. A task that was killed or stopped is started again by running the same script; items are kept one by one,
so that another number of tasks asks for none again either. `read_step` reads the shards of all.
"""

import asyncio
from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path
from typing import Any

try:
    from datatrove.pipeline.base import PipelineStep
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(f'{error}; steps on a cluster need pip install "medscope[cluster]"') from None

from medscope.suite.bulk.runner import run_step
from medscope.suite.bulk.step import Step, StepStopped


class StepTask(PipelineStep):
    """A step as the only block of a datatrove pipeline.

    `make_step` and `make_items` are called in the task: a step holds connections, which do not travel. `settings` are
    those of `run_step`. A task in which an item failed fails, so that datatrove starts it again with the next `run()`.
    """

    type, name = "STEP", "of suite making"

    def __init__(
        self,
        make_step: Callable[[], Step],
        make_items: Callable[[], Iterable[Any]],
        folder: str | Path,
        **settings: Any,
    ):
        super().__init__()
        self.make_step, self.make_items, self.folder, self.settings = make_step, make_items, str(folder), settings

    def run(self, data: Iterable[Any] | None, rank: int = 0, world_size: int = 1) -> None:
        """Run the task's share. Raises StepStopped for failed items, however few, and what else `run_step` raises."""
        mine = islice(self.make_items(), rank, None, world_size)
        settings = {"progress": False, **self.settings}
        with self.track_time():
            report = asyncio.run(run_step(self.make_step(), mine, self.folder, rank=rank, **settings))
        counts = {name: getattr(report, name) for name in ("skipped", "kept", "rejected", "failed", "tokens")}
        for name, count in counts.items():
            self.stat_update(name, value=count, unit="task")
        if report.failed:
            raise StepStopped(f"{report.step}, task {rank}: {report}; run it again, it asks only for those", report)
