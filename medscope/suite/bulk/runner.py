"""Runs one step over many items at once: what is done is skipped, what is made is kept, an outage stops the run.

`RemoteModel` is synchronous and stays so: its one implementation of what may leave the machine, retries and costs is
worth more than a second, asynchronous client. A request in flight costs a thread that sleeps, far less than its frames.
"""

import asyncio
import operator
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from medscope.remote import Usage
from medscope.suite.bulk.keys import Keys
from medscope.suite.bulk.pace import MOST_SECONDS, Pace, retry_after
from medscope.suite.bulk.shards import ShardWriter, read_lines, to_line
from medscope.suite.bulk.step import Step, StepStopped

WAITS = 10  # times that one item waits for a busy endpoint before it fails
REASONS = 50  # different errors that a report tells apart
POLL = 0.2  # seconds
NO_ITEM = object()


@dataclass
class Report:
    """What a run did. `skipped` items were done before; `failures` counts the failed by their error."""

    step: str
    skipped: int = 0
    kept: int = 0
    rejected: int = 0
    failed: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    tokens: int = 0

    @property
    def done(self) -> int:
        return self.kept + self.rejected

    def __str__(self) -> str:
        return f"{self.kept} kept, {self.rejected} rejected, {self.failed} failed, {self.skipped} done before"


async def run_step(
    step: Step,
    items: Iterable[Any],
    folder: str | Path,
    concurrency: int = 8,
    stop_after: int = 5,
    *,
    usage: Usage | None = None,
    rank: int = 0,
    progress: bool = True,
) -> Report:
    """Let `step` make a record of every item whose key is not done; results are appended to FOLDER/STEP.

    `items` are taken one at a time, when a worker is free; a sized collection gives the progress line an end. An item
    whose step raises is failed, not done: the next run asks for it again. `usage` is that of the step's `RemoteModel`,
    for the tokens. `rank` numbers processes that run one step in one folder at once.

    Raises StepStopped after `stop_after` failures in a row, when those in flight have ended; RuntimeError if another
    process runs this rank; OSError if a result cannot be written; and what `items` raises. All that was done is kept.
    """
    if concurrency < 1 or stop_after < 1:
        raise ValueError(f"concurrency ({concurrency}) and stop_after ({stop_after}) must be at least 1")
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(concurrency, step.name))  # for to_thread
    with (
        ShardWriter(folder, step.name, rank) as shards,
        tqdm(
            desc=step.name,
            unit="item",
            total=operator.length_hint(items) or None,
            smoothing=0,
            mininterval=1,
            disable=not progress,
        ) as bar,
    ):
        done = Keys(line["key"] for line in read_lines(folder, step.name))
        run = _Run(step, iter(items), shards, done, stop_after, bar, usage)
        await run.work(concurrency)
    return run.report


class _Run:
    """The state that the workers of one run share. They are tasks of one event loop, so nothing here needs a lock."""

    def __init__(
        self,
        step: Step,
        items: Iterator[Any],
        shards: ShardWriter,
        done: Keys,
        stop_after: int,
        bar: tqdm,
        usage: Usage | None,
    ):
        self.step, self.items, self.shards, self.done = step, items, shards, done
        self.stop_after, self.bar, self.usage = stop_after, bar, usage or Usage()
        self.report, self.pace = Report(step.name), Pace()
        self.started, self.tokens_before = time.monotonic(), self._tokens
        self.in_flight: set[str] = set()
        self.in_a_row = 0
        self.outage: Exception | None = None  # the failure that opened the circuit
        self.stopped = False

    async def work(self, concurrency: int) -> None:
        workers = [self._worker() for _ in range(concurrency)]
        ends = await asyncio.gather(*workers, return_exceptions=True)
        self._count()
        for error in ends:
            if error is not None:
                raise error
        if self.outage:
            raise StepStopped(self._message(self.outage), self.report) from self.outage

    async def _worker(self) -> None:
        try:
            while (item := await self._next()) is not NO_ITEM:
                await self._make(item)
                self._show()
        except BaseException:
            self.stopped = True  # the others end what they have begun, and begin nothing
            raise

    async def _next(self) -> Any:
        """The next item, when requests may be sent and the run is not stopped."""
        await self._wait()
        return NO_ITEM if self.stopped else next(self.items, NO_ITEM)

    async def _wait(self) -> None:
        while self.pace.waits and not self.stopped:
            await asyncio.sleep(min(self.pace.waits, POLL))

    async def _make(self, item: Any) -> None:
        """Take one item to its end: skipped, kept, rejected or failed."""
        try:
            if not isinstance(key := self.step.key(item), str):
                raise TypeError(f"the key {key!r} is no text")
        except Exception as error:
            self._fail(error)
            return
        if key in self.done or key in self.in_flight:
            self._skip()
            await asyncio.sleep(0)  # a million skipped items do not hold up the results of the others
            return
        self.in_flight.add(key)
        try:
            line = to_line(key, await self._ask(item))
        except Exception as error:
            self._fail(error)
            return
        finally:
            self.in_flight.discard(key)
        self.shards.append(line.data)
        self.done.add(key)
        self.in_a_row = 0
        self.report.kept += line.kept
        self.report.rejected += not line.kept
        self.bar.update()

    async def _ask(self, item: Any) -> Any:
        """The step's result. A busy endpoint stops the whole run for as long as it says, then the item is asked for."""
        for _ in range(WAITS):
            try:
                return await self.step(item)
            except Exception as error:
                seconds = retry_after(error)
                if seconds is None or seconds > MOST_SECONDS or self.stopped:
                    raise
            self.pace.pause(seconds)
            self._show()
            await self._wait()
        return await self.step(item)

    def _skip(self) -> None:
        self.report.skipped += 1
        if not self.bar.disable:
            self.bar.initial += 1  # so that it does not count in the rate
            self.bar.n += 1

    def _fail(self, error: Exception) -> None:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        if reason not in self.report.failures:
            if len(self.report.failures) >= REASONS:
                reason = "other"
            elif not self.bar.disable:
                self.bar.write(f"{self.step.name}: an item failed, the next run asks for it again: {reason}")
        self.report.failures[reason] += 1
        self.report.failed += 1
        self.in_a_row += 1
        if self.in_a_row == self.stop_after and not self.stopped:
            self.outage, self.stopped = error, True
        self.bar.update()

    @property
    def _tokens(self) -> int:
        return self.usage.prompt_tokens + self.usage.completion_tokens

    def _count(self) -> None:
        self.report.seconds = time.monotonic() - self.started
        self.report.tokens = self._tokens - self.tokens_before

    def _show(self) -> None:
        self._count()
        tokens = f", {self.report.tokens / 1e6:.2f} M tokens" if self.report.tokens else ""
        waits = f", the endpoint is busy for {self.pace.waits:.0f} s" if self.pace.waits else ""
        self.bar.set_postfix_str(f"{self.report}{tokens}{waits}", refresh=False)

    def _message(self, error: Exception) -> str:
        seconds = retry_after(error)
        later = f" The endpoint asks to wait {seconds:.0f} s." if seconds else ""
        return (
            f"{self.step.name} stopped: {self.stop_after} items in a row failed, the last with {type(error).__name__}: "
            f"{error}.{later} All that was done is kept in {self.shards.folder} ({self.report}). "
            "Mend this and run the same command again: what is done is not asked for again"
        )
