"""The advantages of GA-GRPO: mean-centred rewards of a group, scaled by how faithful the evidence of a rollout is."""

from typing import Literal

import torch

Modulation = Literal["none", "binary", "continuous"]


def modulated_advantages(
    rewards: torch.Tensor, fidelity: torch.Tensor, used_tool: torch.Tensor, mode: Modulation = "binary"
) -> torch.Tensor:
    """Advantages of one group: mean-centred rewards [G], scaled by the evidence fidelity [G] where a tool was used [G].

    No division by the standard deviation. `mode` as in `modulate`.
    """
    return modulate(rewards - rewards.mean(), fidelity, used_tool, mode)


def modulate(
    advantages: torch.Tensor, fidelity: torch.Tensor, used_tool: torch.Tensor, mode: Modulation = "binary"
) -> torch.Tensor:
    """Advantages scaled by the evidence fidelity where a tool was used; all three of one shape. Each counts by itself.

    `binary`: good evidence (f > 0) scales A >= 0 by 1.2 and A < 0 by .8, bad evidence the other way round.
    `continuous`: s = clip(f, -1, 1) scales A >= 0 by max(.1, 1 + .2 s) and A < 0 by max(.1, 1 - .2 s).
    Raises ValueError for another mode.
    """
    if mode == "none":
        return advantages
    if mode == "binary":
        strength = torch.where(fidelity > 0, 1.0, -1.0)
    elif mode == "continuous":
        strength = fidelity.clamp(-1, 1)
    else:
        raise ValueError(f"modulation {mode!r} is unknown; choose none, binary or continuous")
    sign = torch.where(advantages >= 0, 1.0, -1.0)
    scale = (1 + 0.2 * sign * strength).clamp(min=0.1)
    return torch.where(used_tool.bool(), advantages * scale, advantages)
