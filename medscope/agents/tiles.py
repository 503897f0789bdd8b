"""The MLPs of the language model some tokens at a time, the vision tower some frames at a time: the widest activations.

With gradient every part is computed again in the backward pass, so that a long sequence costs one more forward and
never holds more than one part (as TiledMLP of ALST, arXiv:2506.13996). What fits into one part is computed as ever.
"""

from typing import Any

import torch
from torch.distributed.fsdp import FSDPModule
from torch.utils.checkpoint import checkpoint
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VisionTransformerPretrainedModel, Qwen2MLP

KEPT_BY_A_BLOCK = 4  # activations as wide as those of its MLP that a block of the tower keeps for its backward pass


class TiledMLP(Qwen2MLP):
    """A Qwen2 MLP that reads at most `tile` tokens at once."""

    tile: int

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x [..., tokens, hidden], to the same."""
        *shape, hidden = x.shape
        parts = x.reshape(-1, hidden).split(self.tile)
        if len(parts) == 1:
            return super().forward(x)
        forward = super().forward
        if torch.is_grad_enabled():
            done = [checkpoint(forward, part, use_reentrant=False) for part in parts]
        else:
            done = [forward(part) for part in parts]
        return torch.cat(done).view(*shape, hidden)


def tile_mlps(language_model: torch.nn.Module, tile: int) -> None:
    """Let every MLP of the model read at most `tile` tokens at once."""
    for layer in language_model.layers:
        layer.mlp.__class__, layer.mlp.tile = TiledMLP, tile


class TiledTower(Qwen2_5_VisionTransformerPretrainedModel):
    """A vision tower that reads frames of at most `tile` visual tokens at once, and always whole frames.

    Where it learns a run is as much shorter as its blocks keep more. A frozen tower keeps nothing, even where gradient
    checkpointing lets its input ask for gradients. Sharded blocks are called once: every process must call them alike.
    """

    tile: int

    def forward(self, hidden_states: torch.Tensor, grid_thw: torch.Tensor, **options: Any) -> Any:
        """hidden_states [patches, 1176] of frames grid_thw [frames, 3], to their pooled features [tokens, hidden]."""
        learns = torch.is_grad_enabled() and any(weights.requires_grad for weights in self.parameters())
        with torch.set_grad_enabled(learns):
            most = max(1, self.tile // (KEPT_BY_A_BLOCK * len(self.blocks))) if learns else self.tile
            runs = _runs((grid_thw.prod(-1) // self.spatial_merge_unit).tolist(), most)
            of_all_frames = any(isinstance(value, torch.Tensor) for value in options.values())
            if len(runs) < 2 or of_all_frames or isinstance(self.blocks[0], FSDPModule):
                return super().forward(hidden_states, grid_thw, **options)
            forward, grids = super().forward, grid_thw.split(runs)
            done = []
            for patches, grid in zip(hidden_states.split([int(g.prod(-1).sum()) for g in grids]), grids, strict=True):
                if learns:
                    done.append(checkpoint(forward, patches, grid, use_reentrant=False, **options))
                else:
                    done.append(forward(patches, grid, **options))
        return BaseModelOutputWithPooling(
            last_hidden_state=torch.cat([part.last_hidden_state for part in done]),
            pooler_output=torch.cat([part.pooler_output for part in done]),
        )


TiledTower.__name__ = Qwen2_5_VisionTransformerPretrainedModel.__name__  # as `save_pretrained` writes it


def tile_vision(tower: torch.nn.Module, tile: int) -> None:
    """Let the vision tower read at most `tile` visual tokens at once; a frame is never cut."""
    tower.__class__, tower.tile = TiledTower, tile


def _runs(tokens: list[int], most: int) -> list[int]:
    """How many frames of so many tokens each go together, in order; at least one."""
    runs, held = [], most + 1
    for count in tokens:
        if held + count > most:
            runs.append(0)
            held = 0
        runs[-1] += 1
        held += count
    return runs
