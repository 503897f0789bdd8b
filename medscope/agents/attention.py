"""The two attentions of our own: many small frames in one batch, and many dialogues behind one prompt.

Frames: transformers' SDPA path calls the kernel once per frame and layer, which for hundreds of 28 px frames costs more
than all else (SFT step of the tiny profile: about twice as slow). The result is the same; the registered name starts
with `flash` because only such implementations are handed the frame boundaries (`cu_seq_lens_q`).

Prompts: the rollouts of a group share the keys of their prompt, no rollout keeps a copy. In float32 one token attends
to the shared keys and to its own in two parts under one softmax, and moves nothing. A response of many tokens, and any
token in bfloat16, copies the shared keys for the moment of one layer and is attended by SDPA: its kernels keep scores
in float32 and round in the same way for a sampled token and in the update. Two parts in bfloat16 would round otherwise,
and the log-probabilities of sampling and update would differ several times as much (tests/test_pretrained.py).
For several tokens under a mask transformers repeats keys and values for every head; on a CPU heads share them here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

FRAME_ATTENTION = "flash_like_frames"
PREFIX_ATTENTION = "sdpa_behind_prefix"


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
        attended = scaled_dot_product_attention(q, k, v, scale=scaling)
        outputs.append(attended.transpose(1, 2).flatten(0, 1))
        order.append(patches)
    return torch.cat(outputs)[torch.cat(order).argsort()][None], None


@dataclass
class Prefix:
    """Cached prompts that dialogues share.

    `layers`: keys and values of every layer [prompts, kv heads, columns, dim]; `used`: the columns that are not padding
    [prompts, columns]; `owner`: the number of the prompt that each dialogue follows [rows].
    """

    layers: Sequence[tuple[torch.Tensor, torch.Tensor]]
    used: torch.Tensor
    owner: torch.Tensor

    @cached_property
    def bias(self) -> torch.Tensor:
        return torch.zeros_like(self.used, dtype=torch.float32).masked_fill(~self.used, -torch.inf)[:, None, None]

    @cached_property
    def slots(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The dialogue in every slot of every prompt [prompts, slots] (any one where a slot is free), and the place of
        every dialogue among those slots, counted through [rows]."""
        counts = torch.bincount(self.owner, minlength=len(self.used))
        order = self.owner.argsort(stable=True)
        slot = torch.arange(len(order), device=order.device) - (counts.cumsum(0) - counts)[self.owner[order]]
        table = torch.zeros(len(self.used), int(counts.max()), dtype=torch.long, device=order.device)
        table[self.owner[order], slot] = order
        place = torch.empty_like(order)
        place[order] = self.owner[order] * table.shape[1] + slot
        return table, place

    def select(self, rows: torch.Tensor) -> "Prefix":
        """The prefix of these dialogues only; prompts that nobody follows any more are dropped."""
        kept, owner = self.owner[rows].unique(return_inverse=True)
        if len(kept) == len(self.used):
            return Prefix(self.layers, self.used, owner)
        layers = [(keys.index_select(0, kept), values.index_select(0, kept)) for keys, values in self.layers]
        return Prefix(layers, self.used[kept], owner)

    def before(
        self, layer: int, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Copies of the prompts in front of the dialogues' own keys, values and mask."""
        keys, values = (x.index_select(0, self.owner) for x in self.layers[layer])
        seen = self.used[self.owner][:, None, None].expand(-1, -1, mask.shape[2], -1)
        return torch.cat([keys, key], 2), torch.cat([values, value], 2), torch.cat([seen, mask], 3)

    def attend(self, layer: int, query: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Attention of one token's scaled queries [rows, kv heads, n, dim] to their prompts alone, in float32: output,
        and the log of the softmax's denominator [rows, kv heads, n, 1]."""
        keys, values = self.layers[layer]
        table, place = self.slots
        _, heads, n, dim = query.shape
        packed = query[table].transpose(1, 2).reshape(len(table), heads, -1, dim)
        scores = packed @ keys.transpose(2, 3) + self.bias
        total = scores.logsumexp(-1, keepdim=True)
        output = (scores - total).exp() @ values

        def by_row(x: torch.Tensor) -> torch.Tensor:
            return x.view(len(table), heads, table.shape[1], n, -1).transpose(1, 2).flatten(0, 1)[place]

        return by_row(output), by_row(total)


def prefix_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float,
    prefix: Prefix | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """SDPA; with a `prefix`, attention to it and to the dialogue's own keys under one softmax.

    query [rows, heads, width, dim], key, value [rows, kv heads, columns, dim], attention_mask [rows, 1, width, columns]
    (true where a column is seen; None: causal, without a prefix or earlier columns); to [rows, width, heads, dim].
    """
    if prefix is not None and (query.shape[2] > 1 or query.dtype != torch.float32):
        key, value, attention_mask = prefix.before(module.layer_idx, key, value, attention_mask)
        prefix = None
    if prefix is None and (attention_mask is None or query.is_cuda):
        return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **kwargs)
    if prefix is None:
        return masked_attention(query, key, value, attention_mask, scaling).transpose(1, 2).contiguous(), None
    rows, heads, _, dim = query.shape
    grouped = query.reshape(rows, key.shape[1], -1, dim) * scaling  # query heads beside the kv head that they share
    scores = (grouped @ key.transpose(2, 3)).masked_fill(~attention_mask, -torch.inf)
    own_total = scores.logsumexp(-1, keepdim=True)
    own = (scores - own_total).exp() @ value
    shared, shared_total = prefix.attend(module.layer_idx, grouped)
    output = torch.lerp(own, shared, torch.sigmoid(shared_total - own_total))
    return output.reshape(rows, 1, heads, dim), None


def masked_attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor, scaling: float
) -> torch.Tensor:
    """Attention under a mask [rows, heads, width, dim]; heads share their keys, none is repeated.

    But on a GPU: its kernels without a tensor of scores take a mask or shared heads, not both.
    """
    if query.is_cuda:
        key, value = (x.repeat_interleave(query.shape[1] // x.shape[1], 1) for x in (key, value))
    return scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=scaling, enable_gqa=not query.is_cuda)


AttentionInterface.register(FRAME_ATTENTION, frame_attention)
AttentionInterface.register(PREFIX_ATTENTION, prefix_attention)
AttentionMaskInterface.register(PREFIX_ATTENTION, sdpa_mask)
