"""Several processes: the same call from a notebook, from the command line and under torchrun, on one machine or many.

A notebook calls `on_processes(processes, train_sft, ..)`. Alone, it starts so many processes on its machine. Under
`torchrun --nnodes N -m medscope.pipeline.stage sft` they run already: the notebook is executed by the first, the others
`follow` it, and each runs what it calls. Calls pass through a store that the first process holds beside its notebook.

Each process sets its own threads and GPU (`pipeline.parameters.prepare_process`).

Not by accelerate's `notebook_launcher`: it forks the kernel, which threads and CUDA do not survive, and refuses to run
once bitsandbytes is imported. torch's launcher starts fresh processes, in which transformers' Trainer finds its group.
"""

import itertools
import os
import pickle
import signal
import time
import uuid
from collections.abc import Callable
from typing import Any

import torch
from torch.distributed import TCPStore
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from medscope.ranks import LONGEST_WAIT, process_count

CALLS = "medscope/calls"  # of the store: how many calls the notebook has made; the n-th is in CALLS/n
GONE = "medscope/gone"  # how many followers have heard that the notebook has ended
HELD = "TORCHELASTIC_USE_AGENT_STORE"  # "True" where the store is held already, so that torch's groups use it as well


def on_processes(processes: int, function: Callable[..., Any], *arguments: Any) -> Any:
    """`function(*arguments)` in this process, or in so many (a GPU each, or gloo); what the first of them returns.

    Raises ValueError for more processes than GPUs, and under torchrun for another number than it has started;
    RuntimeError where torchrun did not start `pipeline.stage`. What failed in a process that was started here is raised
    as its `ChildFailedError`.
    """
    started = process_count()
    if started > 1:
        if processes != started:
            raise ValueError(f"processes={processes}, the launcher has started {started}; give it that number")
        if os.environ.get(HELD) != "True":
            raise RuntimeError("under torchrun a notebook is run by `-m medscope.pipeline.stage` (docs/scaling.md)")
        _ask_followers(_connected(held_here=False), (function, arguments))
        return function(*arguments)
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


def lead() -> TCPStore:
    """Hold the store of this launch: what the first process does under torchrun before its notebook begins."""
    store = _store(held_here=True)
    os.environ[HELD] = "True"  # for the notebook's kernel
    return store


def follow() -> None:
    """What every other process does under torchrun: each call of the notebook, until `dismiss_followers`.

    When the first process dies, its store goes with it, and torch's launcher ends or restarts all.
    """
    store = _store(held_here=False)
    for number in itertools.count():
        call = pickle.loads(store.get(f"{CALLS}/{number}"))  # waits for it
        if call is None:
            store.add(GONE, 1)
            return
        function, arguments = call
        function(*arguments)


def dismiss_followers(store: TCPStore) -> None:
    """End the `follow` of the other processes, when the notebook has ended; the store is held until all have heard."""
    _ask_followers(store, None)
    while store.add(GONE, 0) < process_count() - 1:
        time.sleep(0.1)


def _ask_followers(store: TCPStore, call: tuple[Callable[..., Any], tuple[Any, ...]] | None) -> None:
    """Leave a call where `follow` finds it."""
    store.set(f"{CALLS}/{store.add(CALLS, 1) - 1}", pickle.dumps(call))


def _store(held_here: bool) -> TCPStore:
    """The store at the address that torch's launcher has told all processes; another one after every restart.

    The launcher could hold it itself. torch 2.13 then tells its address only once, and a node that was started again
    never learns it: RuntimeError that says how to switch that off.
    """
    if os.environ.get(HELD) != "False":
        raise RuntimeError(
            "export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 before torchrun --rdzv-backend c10d (docs/scaling.md): "
            "otherwise a node that fails cannot come back"
        )
    return _connected(held_here)


def _connected(held_here: bool) -> TCPStore:
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    return TCPStore(address, port, is_master=held_here, timeout=LONGEST_WAIT)
