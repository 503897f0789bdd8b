"""Attention of one layer on a packed group of rollouts: three ways to compute it, timed and compared.

`packed` is what training uses (`medscope.training.packed`). `masked_sdpa` gives torch one mask for the whole group.
`flex` gives flex_attention the same mask by blocks; it is compiled on a GPU. On a CPU it has no backward pass.
"""

import statistics
import time
from collections.abc import Sequence
from typing import Any

import torch
from torch.nn.attention.flex_attention import create_block_mask, flex_attention
from torch.nn.functional import scaled_dot_product_attention

from medscope.training.packed import completion_mask, packed_attention

SHAPE, TINY_SHAPE = (28, 4, 128), (4, 2, 16)  # heads, kv heads, width of a head
FRAME_TOKENS, TINY_FRAME_TOKENS = 68, 5  # of a frame in the prompt, with its second


def attention(
    device: str, tiny: bool, frames: Sequence[int], group: int, tokens: int, repeats: int
) -> list[dict[str, Any]]:
    """A row per number of frames: milliseconds of each way, forward and backward, and its largest difference.

    The prompt has so many frames, each of the `group` completions `tokens` tokens. Raises RuntimeError where two ways
    disagree.
    """
    rows = []
    for number in frames:
        prompt = number * (TINY_FRAME_TOKENS if tiny else FRAME_TOKENS)
        row = {"check": "attention", "frames": number, "tokens": prompt + group * tokens}
        rows.append(row | one_group(device, TINY_SHAPE if tiny else SHAPE, prompt, [tokens] * group, repeats))
        print(rows[-1], flush=True)
    return rows


def one_group(
    device: str, shape: tuple[int, int, int], prompt: int, completions: Sequence[int], repeats: int
) -> dict[str, float]:
    """Milliseconds and differences from `packed` for one prompt and its completions (tokens)."""
    cuda, total, (heads, kv_heads, width) = device == "cuda", prompt + sum(completions), shape
    kind = {"device": device, "dtype": torch.bfloat16 if cuda else torch.float32, "requires_grad": True}
    query, key, value = (torch.randn(1, count, total, width, **kind) for count in (heads, kv_heads, kv_heads))
    ways = {
        "packed": lambda: packed_attention(
            torch.nn.Module(), query, key, value, None, width**-0.5, packed_lengths=[prompt, *completions]
        )[0].transpose(1, 2),
        "masked_sdpa": lambda: scaled_dot_product_attention(query, key, value, attn_mask=mask, enable_gqa=True),
        "flex": lambda: flex(
            *((x if cuda else x.detach()) for x in (query, key, value)), block_mask=blocks, enable_gqa=True
        ),
    }
    mask = torch.cat([torch.ones(prompt, total, dtype=torch.bool).tril(), completion_mask(prompt, completions)])
    mask = mask.to(device)
    flex = torch.compile(flex_attention) if cuda else flex_attention
    owner = torch.cat([torch.full((n,), i) for i, n in enumerate([prompt, *completions])]).to(device)  # 0: the prompt
    blocks = create_block_mask(
        lambda b, h, i, j: (j <= i) & ((owner[j] == 0) | (owner[i] == owner[j])),
        None,
        None,
        total,
        total,
        device=device,
    )
    row, expected = {}, None
    for name, way in ways.items():
        seconds = []
        for _ in range(repeats + 2):
            start = time.perf_counter()
            output = way()
            if cuda or name != "flex":
                output.float().square().sum().backward()
            if cuda:
                torch.cuda.synchronize()
            seconds.append(time.perf_counter() - start)
        expected = output.detach() if expected is None else expected
        row[f"{name}_ms"] = round(1000 * statistics.median(seconds[2:]), 3)
        row[f"{name}_difference"] = float((output.detach() - expected).abs().max())
        if row[f"{name}_difference"] > (5e-2 if cuda else 1e-4):
            raise RuntimeError(f"{name} computes something else than packed attention: {row}")
    return row
