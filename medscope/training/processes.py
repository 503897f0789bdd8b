"""Training on several processes of one machine: the same call from a notebook and from the command line.

Each process sets its own threads and GPU (`pipeline.parameters.prepare_process`).

Not by accelerate's `notebook_launcher`: it forks the kernel, which threads and CUDA do not survive, and refuses to run
once bitsandbytes is imported. torch's launcher starts fresh processes, in which transformers' Trainer finds its group.
"""

import os
import signal
import uuid
from collections.abc import Callable
from typing import Any

import torch
from torch.distributed.launcher.api import LaunchConfig, elastic_launch


def on_processes(processes: int, function: Callable[..., Any], *arguments: Any) -> Any:
    """`function(*arguments)` in this process, or in so many new ones (a GPU each, or gloo); what the first returns.

    Raises ValueError for more processes than GPUs, and what failed in a process as its `ChildFailedError`.
    """
    if processes == 1:
        return function(*arguments)
    gpus = torch.cuda.device_count()
    if processes < 1 or 0 < gpus < processes:
        raise ValueError(f"processes={processes}, this machine has {gpus} GPUs")
    here = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        start_method="spawn",
        max_restarts=0,
    )
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        return elastic_launch(here, function)(*arguments)[0]
    finally:  # the launcher leaves its own, and a notebook's kernel would end with a traceback
        for number, handler in handlers.items():
            signal.signal(number, handler)


def process_count() -> int:
    """Processes that train together (1 outside `on_processes`)."""
    return int(os.environ.get("WORLD_SIZE", 1))


def is_first_process() -> bool:
    """Whether this one writes the results."""
    return int(os.environ.get("RANK", 0)) == 0


def share(name: str, size: int) -> int:
    """This process's part of a global batch; ValueError naming the parameter if it cannot be shared evenly."""
    if size % process_count():
        raise ValueError(f"{name}={size} cannot be shared by {process_count()} processes; choose a multiple")
    return size // process_count()
