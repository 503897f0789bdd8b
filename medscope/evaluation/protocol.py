"""How predictions were made: what a reader needs to reproduce a table, stored beside every file of predictions.

Systems are ranked only among those of one protocol. What is a system's own (which model, with which tools, at which
cost) stands under `system` and `usage`, and what is counted under `eval_sets`: these three are no part of that.
"""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

from medscope.environment import ToolBudget
from medscope.environment.prompts import TOOLS, opening
from medscope.evaluation.endpoint import PROMPT_VERSION
from medscope.evaluation.predictions import Prediction
from medscope.evaluation.quarantine import Quarantined

OF_THE_SYSTEM = ("eval_sets", "system", "usage")
PACKAGES = ("torch", "transformers", "trl", "decord", "av", "medscope")
BUDGET = (
    "skim_frames", "skim_pixels", "crop_frames", "crop_pixels", "frame_pixels", "min_window", "max_calls",
    "max_turn_tokens", "context_tokens",
)  # fmt: skip


def protocol(
    predictions: Sequence[Prediction],
    budget: ToolBudget,
    decoder: str,
    judge: str,
    temperature: float = 0.0,
    quarantined: Sequence[Quarantined] = (),
    system: Mapping[str, Any] | None = None,
    usage: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Settings of one system: tasks per eval set, tool budget, judge (`llm`: its model), prompts, decoding, versions.

    `system` says which model under which settings of its own, `usage` what an endpoint's answers have cost.
    """
    sets: dict[str, dict[str, Any]] = {}
    for task, left_out in [*((p.task, 0) for p in predictions), *((q.task, 1) for q in quarantined)]:
        empty = {"name": task.collection, "domain": task.domain, "tasks": 0}
        row = sets.setdefault(task.collection, empty | ({"quarantined": 0} if quarantined else {}))
        row["quarantined" if left_out else "tasks"] += 1
    prompts = [opening("", []), opening("", [], tools=False), TOOLS]
    return {
        "eval_sets": list(sets.values()),
        **{name: value for name, value in asdict(budget).items() if name in BUDGET},
        "judge": judge if judge == "exact" else os.environ["MEDSCOPE_JUDGE_MODEL"],
        **({} if judge == "exact" else {"judge_prompt": PROMPT_VERSION}),
        "prompts": hashlib.sha256(json.dumps(prompts, sort_keys=True).encode()).hexdigest()[:12],
        "decoding": f"sampled at temperature {temperature:g}" if temperature else "greedy",
        "decoder": decoder,
        **{name: version(name) for name in PACKAGES},
        "system": dict(system or {}),
        **({"usage": dict(usage)} if usage else {}),
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
