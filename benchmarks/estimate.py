"""AN ESTIMATE of memory and time of the full Qwen2.5-VL-7B on GPUs, from what `wide.py` measured with 2 + 2 layers.

    python benchmarks/estimate.py                          reads results/wide.json, writes results/estimate.json and .md

Nothing here was measured on a GPU. Memory is weights and optimiser, counted from the configuration, and activations:

    peak(tokens) of wide.json, fitted by a + b x tokens (a: what does not grow, logits above all), plus what the
    layers that were cut off keep: in SFT and in the update one hidden state a token and layer (checkpointing), in
    rollouts the keys and values.

Time is the operations of a step, counted, over an assumed share of the GPU's peak: the language model forward, again
(checkpoints), its MLPs once more (tiles) and backward; the frozen vision tower once. wide.json says how much slower an
operation becomes as videos grow, compared with the shortest one measured: that factor is taken over. For every token of
a turn rollouts read all weights and the cache of the prompt, which bfloat16 copies for every rollout (`COPIES`), at an
assumed share of the memory's bandwidth; all tokens of the task count as its prompt, so that this is too much.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from report import RESULTS, write_results
from transformers import Qwen2_5_VLForConditionalGeneration
from wide import wide_config

from medscope.agents.policy import IMAGE_TOKEN

LAYERS, VISION_LAYERS, MEASURED_LAYERS = 28, 32, 2
RANK = 64  # of LoRA
GROUP = 8  # rollouts of a task; rows of other groups are left out
GIB = 2**30
COPIES = 5  # times that the cache of a prompt is read or written for a token of a rollout: two copies, and attention
PATCHES = 4  # of a visual token; nearly all tokens of a prompt are visual
TRAINED = 16  # bytes of a trained weight: float32, its gradient, two moments of Adam
NF4 = 0.5 + 4 / 64  # bytes of a weight: four bits, and a float32 scale for 64 of them
CONTROL = {IMAGE_TOKEN: 0, "<|video_pad|>": 1}


@dataclass(frozen=True)
class Setup:
    """Machines, and how the weights are held; peak in TFLOP/s (bfloat16, dense) and bandwidth in TB/s of one GPU."""

    name: str
    gpus: int
    memory_gb: int
    weights: str  # nf4 | bf16 | sharded (float32 master weights of all parameters, FSDP2)
    peak: float
    bandwidth: float


SETUPS = (
    Setup("1 x 24 GB, LoRA on NF4", 1, 24, "nf4", 165, 1.0),
    Setup("1 x 80 GB, LoRA on bfloat16", 1, 80, "bf16", 990, 3.35),
    Setup("8 x 80 GB, all weights, FSDP2", 8, 80, "sharded", 990, 3.35),
)


@dataclass(frozen=True)
class Model:
    """Parameters of the full model by part, and widths."""

    layers: int  # parameters of the language model's layers
    vision: int
    tables: int  # of the embedding and the head
    lora: int
    mlp_share: float  # of the parameters of a layer
    hidden: int
    key_values: int  # elements of keys and values of one token in one layer

    @property
    def all(self) -> int:
        return self.layers + self.vision + self.tables


def full_model() -> Model:
    """Counted on the meta device: no memory is used."""
    config = wide_config(CONTROL, LAYERS, VISION_LAYERS)
    with torch.device("meta"):
        model = Qwen2_5_VLForConditionalGeneration(config)
    language, text = model.model.language_model, config.text_config
    layers = sum(weights.numel() for weights in language.layers.parameters())
    linear = [m for m in language.layers.modules() if isinstance(m, torch.nn.Linear)]
    vision = sum(weights.numel() for weights in model.model.visual.parameters())
    tables = language.embed_tokens.weight.numel() + model.lm_head.weight.numel()
    return Model(
        layers=sum(weights.numel() for weights in model.parameters()) - vision - tables,
        vision=vision,
        tables=tables,
        lora=sum(RANK * (m.in_features + m.out_features) for m in linear),
        mlp_share=3 * LAYERS * text.hidden_size * text.intermediate_size / layers,
        hidden=text.hidden_size,
        key_values=2 * text.num_key_value_heads * text.hidden_size // text.num_attention_heads,
    )


def held_gib(model: Model, setup: Setup) -> float:
    """Weights, gradients and optimiser on one GPU."""
    if setup.weights == "sharded":  # and once whole in bfloat16, for the rollouts
        return (TRAINED * model.all / setup.gpus + 2 * model.all) / GIB
    layers = NF4 if setup.weights == "nf4" else 2
    return (layers * model.layers + 2 * (model.vision + model.tables) + TRAINED * model.lora) / GIB


def activations_gib(model: Model, rows: Sequence[dict[str, Any]], tokens: float, step: str) -> float:
    """Fitted to the rows of one step, and what the layers that they lack would keep of every token."""
    growth, fixed = np.polyfit([row["tokens"] for row in rows], [row["peak_gib"] for row in rows], 1)
    per_layer = 2 * (model.hidden + (model.key_values if step == "ga_grpo" else 0))
    return float(fixed + growth * tokens + (LAYERS - MEASURED_LAYERS) * per_layer * tokens / GIB)


def operations(model: Model, tokens: float, layers: int, passes: float) -> float:
    """Of so many passes over the language model's layers (a backward pass without gradients of weights is one)."""
    weights = 2 * model.layers / LAYERS * layers
    attention = 2 * model.hidden * tokens * layers  # causal: half of the square
    return passes * tokens * (weights + attention)


def slowdown(model: Model, rows: Sequence[dict[str, Any]], tokens: float) -> float:
    """Seconds an operation at this length over those at the shortest one, as measured; at least 1."""
    rows = sorted(rows, key=lambda row: row["tokens"])
    pace = [row["update_s"] / operations(model, row["tokens"], MEASURED_LAYERS, 3) for row in rows]
    return max(1.0, float(np.interp(tokens, [row["tokens"] for row in rows], pace)) / pace[0])


def estimated(
    model: Model, rows: Sequence[dict[str, Any]], share: float, turn_tokens: int, setups: Sequence[Setup] = SETUPS
) -> list[dict[str, Any]]:
    """A row per setup and measured step: GiB of one GPU, and seconds of one task on it (SFT: one trajectory)."""
    rows = [row for row in rows if row["peak_gib"] is not None and row.get("generations", GROUP) == GROUP]
    made = []
    for setup in setups:
        for row in rows:
            step, tokens = row["step"], row["tokens"]
            alike = [other for other in rows if other["step"] == step]
            if len(alike) < 2:
                raise ValueError(f"results/wide.json has one length of {step}; measure two (wide.py --frames 64 256)")
            passes = 4 if setup.weights == "sharded" else 3  # forward, again, backward, gradients of weights
            passes += model.mlp_share  # tiles compute the MLPs a third time
            held = held_gib(model, setup)
            activations = activations_gib(model, alike, tokens, step)
            update = operations(model, tokens, LAYERS, passes) * slowdown(model, alike, tokens)
            counted = update + 2 * model.vision * PATCHES * tokens
            read = 0.0
            if step == "ga_grpo":
                counted += operations(model, tokens, LAYERS, 1)
                cache = 2 * LAYERS * model.key_values * tokens
                read = turn_tokens * (2 * model.all + GROUP * COPIES * cache)
            seconds = counted / (share * setup.peak * 1e12) + read / (share * setup.bandwidth * 1e12)
            limit = setup.memory_gb * 1e9 / GIB
            made.append(
                {
                    "estimate for": setup.name, "step": step, "frames": row["frames"], "tokens": int(tokens),
                    "held GiB": round(held, 1), "activations GiB": round(activations, 1),
                    "in all GiB": round(held + activations, 1), "fits": held + activations < 0.9 * limit,
                    "seconds per task": round(seconds, 1),
                }
            )  # fmt: skip
    return made


def main() -> None:
    """Command line: see --help."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--share", type=float, default=0.35, help="assumed share of the GPU's peak and bandwidth")
    parser.add_argument("--turn-tokens", type=int, default=600, help="assumed tokens of the longest rollout's turns")
    arguments = parser.parse_args()
    source = RESULTS / "wide.json"
    if not source.exists():
        sys.exit(f"{source} is missing; measure it first: python benchmarks/wide.py --frames 64 128 256 512")
    measured = json.loads(source.read_text())
    rows = estimated(full_model(), measured["rows"], arguments.share, arguments.turn_tokens)
    assumed = {"ESTIMATE": "nothing here ran on a GPU", "share of peak and bandwidth": str(arguments.share)}
    assumed |= {"turn tokens": str(arguments.turn_tokens), "derived from wide.json of": measured["machine"]["cpu"]}
    write_results("estimate", rows, assumed)
    print((RESULTS / "estimate.md").read_text())


if __name__ == "__main__":
    main()
