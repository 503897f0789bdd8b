"""Attention of a packed group: one prompt and its completions in one sequence, each completion sees prompt and itself.

Memory is linear in the length of the prompt: the prompt is plain causal attention without a mask, and completions
attend to it under a mask [completion tokens, prompt + completion tokens], some completions at a time, or a part of one.
No key is kept beyond the layer, so it works under gradient checkpointing, which forbids a cache. Nor is a mask: the
backward pass makes it again.

Simplified: tokens of completions that are computed together score each other and are masked, which costs little as
long as prompts are longer than completions.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from torch.utils.checkpoint import checkpoint
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import sdpa_mask

from medscope.agents.attention import masked_attention, prefix_attention

PACKED_ATTENTION = "sdpa_of_packed_groups"
MASK_ELEMENTS = 1 << 25  # of one mask: bounds the tokens of completions that are attended together


def packed_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float,
    packed_lengths: Sequence[int] | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """`packed_lengths` are the tokens of the prompt and of each completion; without them this is `prefix_attention`.

    query [1, heads, tokens, dim], key and value [1, kv heads, tokens, dim]; to [1, tokens, heads, dim].
    """
    if packed_lengths is None:
        return prefix_attention(module, query, key, value, attention_mask, scaling, **kwargs)
    prompt, *completions = packed_lengths
    seen, seen_keys, seen_values = (x[:, :, :prompt] for x in (query, key, value))
    outputs = [
        scaled_dot_product_attention(seen, seen_keys, seen_values, is_causal=True, scale=scaling, enable_gqa=True)
    ]
    start = prompt
    for some in _together(prompt, completions):
        own = slice(start, start + sum(some))
        keys, values = (torch.cat([before, x[:, :, own]], 2) for before, x in ((seen_keys, key), (seen_values, value)))
        rows = max(1, MASK_ELEMENTS // (prompt + sum(some)))
        for first in range(0, sum(some), rows):
            asking = query[:, :, own][:, :, first : first + rows]
            cut = range(first, first + asking.shape[2])
            outputs.append(
                checkpoint(
                    _of_completions, asking, keys, values, prompt, some, cut, scaling,
                    use_reentrant=False, preserve_rng_state=False,
                )
            )  # fmt: skip
        start = own.stop
    return torch.cat(outputs, 2).transpose(1, 2).contiguous(), None


def _of_completions(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    prompt: int,
    completions: Sequence[int],
    rows: range,
    scaling: float,
) -> torch.Tensor:
    """Attention of these rows of some completions to the prompt and to themselves."""
    mask = completion_mask(prompt, completions, query.device, rows)
    return masked_attention(query, key, value, mask, scaling)


def _together(prompt: int, completions: Sequence[int]) -> Iterator[list[int]]:
    """The lengths of the completions, cut so that no mask has more than MASK_ELEMENTS; a longer completion is alone."""
    some: list[int] = []
    for length in completions:
        tokens = sum(some) + length
        if some and tokens * (prompt + tokens) > MASK_ELEMENTS:
            yield some
            some = []
        some.append(length)
    yield some


def completion_mask(
    prompt: int, completions: Sequence[int], device: torch.device | None = None, rows: range | None = None
) -> torch.Tensor:
    """Who attends to whom [completion tokens, prompt + completion tokens]: the prompt and earlier tokens of its own.

    With `rows` those of all completion tokens only.
    """
    part = torch.repeat_interleave(torch.arange(len(completions)), torch.tensor(completions)).to(device)
    rows = range(len(part)) if rows is None else rows
    own = (part[rows.start : rows.stop, None] == part).tril(rows.start)
    return torch.cat([own.new_ones(len(rows), prompt), own], 1)


AttentionInterface.register(PACKED_ATTENTION, packed_attention)
AttentionMaskInterface.register(PACKED_ATTENTION, sdpa_mask)
