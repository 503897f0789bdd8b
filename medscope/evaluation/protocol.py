"""How predictions were made: what a reader needs to reproduce a table, stored beside every file of predictions."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

from medscope.environment import ToolBudget
from medscope.evaluation.predictions import Prediction, by_set

PACKAGES = ("torch", "transformers", "trl", "decord", "av")
BUDGET = ("skim_frames", "skim_pixels", "crop_frames", "crop_pixels", "frame_pixels", "max_calls", "max_turn_tokens")


def protocol(
    predictions: Sequence[Prediction], budget: ToolBudget, decoder: str, judge: str, temperature: float = 0.0
) -> dict[str, Any]:
    """Settings of one system: tasks per eval set, tool budget, judge (`llm`: its model), decoding, versions."""
    return {
        "eval_sets": [
            {"name": name, "domain": some[0].task.domain, "tasks": len(some)}
            for name, some in by_set(predictions).items()
        ],
        **{name: value for name, value in asdict(budget).items() if name in BUDGET},
        "judge": judge if judge == "exact" else os.environ["MEDSCOPE_JUDGE_MODEL"],
        "decoding": f"sampled at temperature {temperature:g}" if temperature else "greedy",
        "decoder": decoder,
        **{name: version(name) for name in PACKAGES},
    }


def merged_protocol(protocols: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """metrics/protocol.json of several systems: a setting that all share once, another as {system: value}."""
    names = dict.fromkeys(name for settings in protocols.values() for name in settings)
    merged: dict[str, Any] = {}
    for name in names:
        values = {system: settings.get(name) for system, settings in protocols.items()}
        first = next(iter(values.values()))
        merged[name] = first if all(value == first for value in values.values()) else values
    return merged
