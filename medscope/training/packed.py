"""Attention of a packed group: one prompt and its completions in one sequence, each completion sees prompt and itself.

Memory is linear in the length of the prompt: the prompt is plain causal attention without a mask, and completions
attend to it under a mask [completion tokens, prompt + completion tokens], some completions at a time. No key is kept
beyond the layer, so it works under gradient checkpointing, which forbids a cache.

Simplified: tokens of completions that are computed together score each other and are masked, which costs little as
long as prompts are longer than completions.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import sdpa_mask

from medscope.agents.attention import prefix_attention

PACKED_ATTENTION = "sdpa_of_packed_groups"
MASK_ELEMENTS = 1 << 25  # of one mask: bounds the completions that are attended together


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
    attend = partial(torch.nn.functional.scaled_dot_product_attention, scale=scaling, enable_gqa=True)
    prompt, *completions = packed_lengths
    prompt_keys, prompt_values = key[:, :, :prompt], value[:, :, :prompt]
    outputs = [attend(query[:, :, :prompt], prompt_keys, prompt_values, is_causal=True)]
    start = prompt
    for some in _together(prompt, completions):
        own = slice(start, start + sum(some))
        keys, values = (
            torch.cat([before, x[:, :, own]], 2) for before, x in ((prompt_keys, key), (prompt_values, value))
        )
        outputs.append(attend(query[:, :, own], keys, values, attn_mask=completion_mask(prompt, some, query.device)))
        start = own.stop
    return torch.cat(outputs, 2).transpose(1, 2).contiguous(), None


def _together(prompt: int, completions: Sequence[int]) -> Iterator[list[int]]:
    """The lengths of the completions, cut so that no mask has more than MASK_ELEMENTS (or one completion's)."""
    some: list[int] = []
    for length in completions:
        tokens = sum(some) + length
        if some and tokens * (prompt + tokens) > MASK_ELEMENTS:
            yield some
            some = []
        some.append(length)
    yield some


def completion_mask(prompt: int, completions: Sequence[int], device: torch.device | None = None) -> torch.Tensor:
    """Who attends to whom [completion tokens, prompt + completion tokens]: the prompt and earlier tokens of its own."""
    part = torch.repeat_interleave(torch.arange(len(completions)), torch.tensor(completions)).to(device)
    own = (part[:, None] == part).tril()
    return torch.cat([own.new_ones(len(part), prompt), own], 1)


AttentionInterface.register(PACKED_ATTENTION, packed_attention)
AttentionMaskInterface.register(PACKED_ATTENTION, sdpa_mask)
