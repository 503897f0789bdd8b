"""Which process of a launch this is: torch's launcher says so in the environment of every process.

Work that is a list is shared by `own_part` and put together again by `merged`, in its order, in every process.
"""

import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta
from typing import TypeVar

Item = TypeVar("Item")
LONGEST_WAIT = timedelta(days=2)  # for the slowest process; a dead one is noticed at once, its connection closes


def process_count() -> int:
    """Processes that work together, on all machines (1 outside a launch)."""
    return int(os.environ.get("WORLD_SIZE", 1))


def local_process_count() -> int:
    """Those of them on this machine, which share its cores and its GPUs."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", 1))


def process_index() -> int:
    """The number of this one, from 0."""
    return int(os.environ.get("RANK", 0))


def local_process_index() -> int:
    """Its number on this machine, from 0: that of its GPU."""
    return int(os.environ.get("LOCAL_RANK", 0))


def is_first_process() -> bool:
    """Whether this one writes the results."""
    return process_index() == 0


def share(name: str, size: int) -> int:
    """This process's part of a global batch; ValueError naming the parameter if it cannot be shared evenly."""
    if size % process_count():
        raise ValueError(f"{name}={size} cannot be shared by {process_count()} processes; choose a multiple")
    return size // process_count()


def own_part(items: Iterable[Item]) -> Iterator[Item]:
    """Every `process_count()`-th item: those that this process does."""
    return itertools.islice(items, process_index(), None, process_count())


def merged(made: Sequence[Item]) -> list[Item]:
    """What all processes made of their `own_part`, one result an item, in the order of the items; in every process.

    Blocks until every process has called it. The results must be picklable.
    """
    parts = gathered(list(made))
    return [parts[number % len(parts)][number // len(parts)] for number in range(sum(map(len, parts)))]


def gathered(mine: Item) -> list[Item]:
    """The values of all processes by their number, in every process; blocks until every one has called it."""
    if process_count() == 1:
        return [mine]
    import torch.distributed as dist  # here, so that the launcher starts without torch

    if not dist.is_initialized():
        dist.init_process_group("gloo", timeout=LONGEST_WAIT)
    every: list[Item] = [mine] * process_count()
    dist.all_gather_object(every, mine)
    return every
