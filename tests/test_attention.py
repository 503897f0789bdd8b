"""Batched vision attention gives what transformers' frame-by-frame SDPA gives, gradients too."""

import torch
from PIL import Image

from medscope.policy import tiny_policy


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
