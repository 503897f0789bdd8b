"""The seed study: GA-GRPO over several seeds from one SFT policy, paired with it on the same held-out questions.

`python -m medscope.seeds 0 1 2` trains what is missing (notebook 04 with another seed), evaluates all questions
held out, greedily, and writes metrics/seeds.json. Intervals resample videos; a question's gain is its mean over seeds.
"""

import sys
from pathlib import Path

import numpy as np

from medscope.benchmark import SPLITS, Outcome, run_policy, score
from medscope.layout import Layout, begin, challenging, limits_from
from medscope.metrics import paired_difference, recall_at
from medscope.policy import load_policy
from medscope.stage import stage_parameters, train_variant
from medscope.suite.build import Suite, load_suite
from medscope.tools import Limits
from medscope.video import FrameStore


def checkpoint_of(place: Layout, seed: int) -> Path:
    """The RL policy of a seed, trained if it does not exist; seed 0 is the pipeline's own."""
    return train_variant("ga_grpo", f"seeds/ga_grpo_{seed}", {"seed": seed}) if seed else place.checkpoint("ga_grpo")


def values(outcomes: list[Outcome]) -> dict[str, tuple[list[float], list[str]]]:
    """Per-question values and videos of the numbers compared."""
    grounding = [o for o in outcomes if o.question.kind == "grounding"]
    columns = {
        "evidence_miou": (outcomes, [o.crop_iou for o in outcomes]),
        "evidence_hit": (outcomes, [float(o.hit) for o in outcomes]),
        "accuracy": (outcomes, [o.accuracy for o in outcomes]),
        "tg_r70": (grounding, recall_at([o.answer_iou for o in grounding], 0.7)),
        "tg_miou": (grounding, [o.answer_iou for o in grounding]),
    }
    return {name: (found, [o.question.video for o in asked]) for name, (asked, found) in columns.items() if found}


def study(place: Layout, suite: Suite, limits: Limits, store: FrameStore, seeds: list[int]) -> dict:
    """Per split: SFT, every seed, their mean and spread, and the paired gain over SFT with its 95 % interval."""
    questions = {split: challenging(suite, split) for split in SPLITS}
    folders = {"sft": place.checkpoint("sft"), **{f"seed {s}": checkpoint_of(place, s) for s in seeds}}
    result: dict = {split: {} for split in SPLITS}
    for split, asked in questions.items():
        found = {}
        for name, folder in folders.items():
            outcomes = run_policy(load_policy(folder), asked, suite.recordings_by_video, store, limits, label=name)
            found[name] = values(outcomes)
            result[split][name] = {k: v for k, v in score(outcomes).items() if not k.endswith("_ci")}
        for metric, (before, videos) in found["sft"].items():
            runs = np.array([found[f"seed {seed}"][metric][0] for seed in seeds])
            difference, interval = paired_difference(runs.mean(axis=0).tolist(), before, videos)
            per_seed = (runs.mean(axis=1) - np.mean(before)).tolist()
            result[split].setdefault("gain", {})[metric] = {
                "mean": difference, "ci": list(interval), "per_seed": per_seed, "std": float(np.std(per_seed, ddof=1)),
            }  # fmt: skip
    return result


def main() -> None:
    """Command line: seeds as numbers."""
    begin()
    seeds = [int(word) for word in sys.argv[1:]] or [0, 1, 2]
    parameters = stage_parameters("evaluate")
    place, limits = Layout(parameters["folder"]), limits_from(parameters)
    suite = load_suite(place)
    result = study(place, suite, limits, FrameStore(parameters["decoder"]), seeds)
    place.write_metrics("seeds", result)
    for split, rows in result.items():
        for metric, gain in rows["gain"].items():
            low, high = gain["ci"]
            print(f"{split} {metric}: {gain['mean']:+.3f} [{low:+.3f}, {high:+.3f}] over {len(seeds)} seeds")


if __name__ == "__main__":
    main()
