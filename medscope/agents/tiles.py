"""The MLPs of the language model, some tokens at a time: their activations are the widest of all.

With gradient every part is computed again in the backward pass, so that a long sequence costs one more MLP forward and
never holds more than one part (as TiledMLP of ALST, arXiv:2506.13996). What fits into one part is computed as ever.
"""

import torch
from torch.utils.checkpoint import checkpoint
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2MLP


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
