"""Vision attention for many small frames: frames of one size are attended in one batch.

Transformers' SDPA path calls the kernel once per frame and layer, which for hundreds of 28 px frames costs more than
all else (SFT step of the tiny profile: about twice as slow). The result is the same; the registered name starts with
`flash` because only such implementations are handed the frame boundaries (`cu_seq_lens_q`).
"""

from typing import Any

import torch
from transformers import AttentionInterface

FRAME_ATTENTION = "flash_like_frames"


def frame_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: None,
    scaling: float,
    cu_seq_lens_q: torch.Tensor,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Full attention inside every frame. query, key, value [1, heads, patches, dim]; to [1, patches, heads, dim]."""
    lengths = (cu_seq_lens_q[1:] - cu_seq_lens_q[:-1]).tolist()
    starts = cu_seq_lens_q[:-1].tolist()
    outputs, order = [], []
    for length in sorted(set(lengths)):
        firsts = torch.tensor([s for s, n in zip(starts, lengths, strict=True) if n == length], device=query.device)
        patches = (firsts[:, None] + torch.arange(length, device=query.device)).flatten()
        q, k, v = (x[0][:, patches].unflatten(1, (-1, length)).transpose(0, 1) for x in (query, key, value))
        attended = torch.nn.functional.scaled_dot_product_attention(q, k, v, scale=scaling)
        outputs.append(attended.transpose(1, 2).flatten(0, 1))
        order.append(patches)
    return torch.cat(outputs)[torch.cat(order).argsort()][None], None


AttentionInterface.register(FRAME_ATTENTION, frame_attention)
