"""The optimisers of supervised training: AdamW, or Muon for the matrices with AdamW for everything else.

Muon orthogonalises the update of a weight matrix (Jordan et al. 2024). A tiny model that starts from random weights
learns to copy seconds several times sooner with it. Pretrained weights are tuned with AdamW.
"""

from typing import Any

import torch
from torch.optim import AdamW, Muon

OPTIMIZERS = ("adamw", "muon")
MUON_RATE = 5.0  # Muon's learning rate over AdamW's


class MuonWithAdamW(torch.optim.Optimizer):
    """Muon for the weight matrices, AdamW for embeddings, the output layer, convolutions, biases and norms.

    One optimiser with the parameter groups of both, so that a schedule moves both learning rates.
    """

    def __init__(self, model: torch.nn.Module, lr: float, betas: tuple[float, float], weight_decay: float):
        words = {"embed_tokens", "lm_head"}
        trained = [(name, weights) for name, weights in model.named_parameters() if weights.requires_grad]
        matrices = {name: w for name, w in trained if w.ndim == 2 and not words & {*name.split(".")}}
        others = [weights for name, weights in trained if name not in matrices]
        self.parts: tuple[torch.optim.Optimizer, ...] = (
            Muon(matrices.values(), lr=MUON_RATE * lr, weight_decay=weight_decay),
            AdamW(others, lr=lr, betas=betas, weight_decay=weight_decay),
        )
        super().__init__([group for part in self.parts for group in part.param_groups], {})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """One step of both."""
        for part in self.parts:
            part.step(closure)

    def state_dict(self) -> dict[str, Any]:
        return {"parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Loading makes new groups: those of this optimiser are linked to them again."""
        for part, state in zip(self.parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)
        self.param_groups = [group for part in self.parts for group in part.param_groups]


class _MuonFactory:
    """What transformers' trainer takes in the place of an optimiser's class: it is called with the model."""

    def __call__(self, model: torch.nn.Module, **settings: Any) -> MuonWithAdamW:
        return MuonWithAdamW(model, **settings)


def optimizer_class(name: str, **settings: Any) -> tuple[Any, dict[str, Any]] | None:
    """`optimizer_cls_and_kwargs` of the trainer: None for its own AdamW. Raises ValueError for an unknown name."""
    if name not in OPTIMIZERS:
        raise ValueError(f"optimizer is {name!r}; it is one of {', '.join(OPTIMIZERS)}")
    return (_MuonFactory, settings) if name == "muon" else None
