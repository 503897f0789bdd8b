"""Our attentions: frames in one batch equal frame-by-frame SDPA, gradients too; a shared prompt equals copies of it."""

import pytest
import torch
from largest import Largest
from PIL import Image
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from medscope.agents.attention import prefix_attention
from medscope.agents.context import Context
from medscope.agents.encoding import TokenSpan
from medscope.agents.policy import tiny_policy


def test_equal_to_frame_by_frame_sdpa():
    policy = tiny_policy(seed=0)
    generator = torch.Generator().manual_seed(0)
    sizes = [(28, 28), (56, 56), (28, 28), (84, 56), (56, 56)]
    noise = [torch.randint(0, 255, (h, w, 3), dtype=torch.uint8, generator=generator).numpy() for h, w in sizes]
    images = [Image.fromarray(frame) for frame in noise]
    visual = policy.base.model.visual
    results = []
    for implementation in (visual.config._attn_implementation, "sdpa"):
        visual.config._attn_implementation = implementation
        visual.zero_grad()
        features = torch.cat(policy.features(images))
        features.square().sum().backward()
        results.append((features.detach(), visual.blocks[0].attn.qkv.weight.grad.clone()))
    (batched, batched_gradient), (single, single_gradient) = results
    torch.testing.assert_close(batched, single, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(batched_gradient, single_gradient, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize(("dtype", "most"), [(torch.float32, 1e-5), (torch.bfloat16, 1e-3)])
def test_dialogues_behind_a_shared_prompt_equal_those_with_copies(dtype, most):
    """Prompts of different length, groups of different size, turns of different length, rows that leave."""
    policy = tiny_policy(seed=0)
    policy.model.to(dtype)
    prompts = Context(policy, 3)
    with torch.no_grad():
        prompts.extend([TokenSpan(list(range(20, 20 + n))) for n in (9, 4, 6)])
        owner = [0, 2, 0, 1, 0]
        shared, copied = prompts.fork(owner), prompts.select(owner)
        for rows, lengths in (
            ([0, 1, 2, 3, 4], (3, 1, 4, 2, 5)),
            ([0, 2, 4], (1, 0, 1)),
            ([0, 1, 2], (1, 1, 1)),
            ([2, 1], (1, 3)),
        ):
            shared, copied = shared.select(rows), copied.select(rows)
            pieces = [TokenSpan(list(range(40 + 7 * row, 40 + 7 * row + n))) for row, n in enumerate(lengths)]
            states = [context.extend(pieces) for context in (shared, copied)]
            for row, n in enumerate(lengths):
                if n:
                    difference = (states[0][row, -n:] - states[1][row, -n:]).float().abs().mean()
                    assert difference < most, f"{difference} after {lengths}"
    assert shared.prefix.used.shape[0] == 1, "prompts that nobody follows are dropped"
    with pytest.raises(ValueError, match="cannot be forked"):
        shared.fork([0])


@pytest.mark.parametrize("rows", [1, 3])
def test_under_a_mask_heads_share_their_keys(rows):
    """Equal to transformers' attention, which repeats every key for the heads that share it; here none is."""
    torch.manual_seed(0)
    layer = torch.nn.Module()
    layer.num_key_value_groups, layer.is_causal, layer.layer_idx = 3, True, 0
    query = torch.randn(rows, 6, 5, 8, requires_grad=True)
    key, value = (torch.randn(rows, 2, 40, 8, requires_grad=True) for _ in range(2))
    mask = torch.ones(rows, 1, 5, 40, dtype=torch.bool).tril(35)
    mask[0, :, :, :7] = False
    results, largest = [], []
    for attention in (prefix_attention, sdpa_attention_forward):
        with Largest() as seen:
            output = attention(layer, query, key, value, mask, scaling=0.3)[0]
        largest.append(seen.elements)
        results.append((output, *torch.autograd.grad(output.square().sum(), (query, key, value))))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs)
    assert largest[0] < key.numel() <= largest[1] / 3
