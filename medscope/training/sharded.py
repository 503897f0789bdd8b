"""Weights sharded by FSDP2 among processes: what has to be whole, and when.

A layer of a sharded model gathers its weights from all processes whenever it is called, so all of them must call it
equally often. Rollouts do not: each process speaks turns of its own length. They run with whole weights, which are
shared out again before the update. The update calls every layer once per task (`update`, packed), and the logits of all
tokens are one call of the head.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.fsdp import FSDPModule


def shards(model: torch.nn.Module) -> list[FSDPModule]:
    """The modules whose weights are sharded as a unit; none without FSDP2."""
    return [module for module in model.modules() if isinstance(module, FSDPModule)]


@contextmanager
def whole_weights(model: torch.nn.Module) -> Iterator[None]:
    """Inside, every process holds all weights below `model` and may call its parts alone; all must enter together.

    Used within the forward of the whole model, which gathers what belongs to no layer by itself.
    """
    units = [unit for unit in shards(model) if unit is not model]
    for unit in units:
        unit.set_reshard_after_forward(False, recurse=False)
        unit.unshard()
    try:
        yield
    finally:
        for unit in units:
            unit.set_reshard_after_forward(True, recurse=False)
            unit.reshard()
            # Head and embedding may be one unit, whose hooks wait for both; a prefill calls the embedding alone.
            unit._get_fsdp_state()._modules_to_run_forward.clear()


def whole_state(model: torch.nn.Module) -> dict[str, torch.Tensor] | None:
    """All weights of a sharded model, in the main memory of the first process (elsewhere empty); None without FSDP2.

    All processes must call it together.
    """
    if not shards(model):
        return None
    return get_model_state_dict(model, options=StateDictOptions(full_state_dict=True, cpu_offload=True))
