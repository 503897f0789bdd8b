"""A training that cannot work for want of precision is refused before it starts."""

import torch

from medscope.agents.policy import Policy

LEAST_RATE = 1e-5  # of weights in 16 bits


def check_precision(policy: Policy, learning_rate: float) -> None:
    """Raise ValueError where weights in 16 bits would be trained with steps that rounding removes.

    bfloat16 keeps 8 significant bits: a weight of .02 moves in steps of 1e-4. Adam moves a weight by about the learning
    rate, so at 1e-6 nearly every update is rounded away. LoRA on 16-bit weights is fine: its own weights are float32.
    """
    low = [
        name
        for name, weights in policy.model.named_parameters()
        if weights.requires_grad and weights.dtype in (torch.bfloat16, torch.float16)
    ]
    if low and learning_rate < LEAST_RATE:
        raise ValueError(
            f"learning_rate={learning_rate:g} would be rounded away: {len(low)} trained weights are in 16 bits "
            f"({low[0]}, ..). Train master weights (dtype float32) or LoRA (lora_rank > 0), or use a rate of at least "
            f"{LEAST_RATE:g}"
        )
