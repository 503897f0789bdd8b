"""The seed study: GA-GRPO over several seeds from one SFT policy, paired with it on the same held-out questions.

`python -m medscope.evaluation.studies.seeds 0 1 2` trains what is missing (notebook 04 with another seed), evaluates all questions
held out, greedily, and writes metrics/seeds.json. Intervals resample videos; a question's gain is its mean over seeds.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np

from medscope.evaluation.benchmark import SPLITS, paired, run_policy, score
from medscope.pipeline.layout import Layout, begin, challenging, tool_budget
from medscope.agents.policy import load_policy
from medscope.pipeline.stage import stage_parameters, train_variant
from medscope.suite.build import Suite, load_suite
from medscope.environment.tools import ToolBudget
from medscope.environment.video import FrameStore

METRICS = ("evidence_miou", "evidence_hit", "accuracy", "tg_r70", "tg_miou")


def checkpoint_of(place: Layout, seed: int) -> Path:
    """The RL policy of a seed, trained if it does not exist; seed 0 is the pipeline's own."""
    return train_variant("ga_grpo", f"seeds/ga_grpo_{seed}", {"seed": seed}) if seed else place.checkpoint("ga_grpo")


def over_seeds(row: dict[str, Any]) -> dict[str, Any]:
    """A row of `paired` with the gain of every seed and their standard deviation."""
    per_seed = [after - row["before"][0] for after in row["after"]]
    return {"mean": row["mean"], "ci": row["ci"], "per_seed": per_seed, "std": float(np.std(per_seed, ddof=1))}


def study(place: Layout, suite: Suite, budget: ToolBudget, store: FrameStore, seeds: list[int]) -> dict:
    """Per split: SFT, every seed, their mean and spread, and the paired gain over SFT with its 95 % interval."""
    questions = {split: challenging(suite, split) for split in SPLITS}
    folders = {"sft": place.checkpoint("sft"), **{f"seed {s}": checkpoint_of(place, s) for s in seeds}}
    result: dict = {split: {} for split in SPLITS}
    for split, asked in questions.items():
        found = {}
        for name, folder in folders.items():
            policy = load_policy(folder)
            found[name] = run_policy(policy, asked, suite.recordings_by_video, store, budget, label=name)
            result[split][name] = {k: v for k, v in score(found[name]).items() if not k.endswith("_ci")}
        rows = paired([found[f"seed {seed}"] for seed in seeds], [found["sft"]], METRICS)
        result[split]["gain"] = {metric: over_seeds(row) for metric, row in rows.items()}
    return result


def main() -> None:
    """Command line: seeds as numbers."""
    begin()
    seeds = [int(word) for word in sys.argv[1:]] or [0, 1, 2]
    parameters = stage_parameters("evaluate")
    place, budget = Layout(parameters["folder"]), tool_budget(parameters)
    suite = load_suite(place)
    result = study(place, suite, budget, FrameStore(parameters["decoder"]), seeds)
    place.write_metrics("seeds", result)
    for split, rows in result.items():
        for metric, gain in rows["gain"].items():
            low, high = gain["ci"]
            print(f"{split} {metric}: {gain['mean']:+.3f} [{low:+.3f}, {high:+.3f}] over {len(seeds)} seeds")


if __name__ == "__main__":
    main()
