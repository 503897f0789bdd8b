"""Figure 5 with statistics: every variant of GA-GRPO over several seeds, paired with `full` on all held-out questions.

`python -m medscope.evaluation.studies.ablation_study --steps 60 --seeds 0 1 2` (or `make ablation-study`) trains what is missing from one
SFT policy, evaluates greedily, writes metrics/ablation_study.json, docs/ablation_study.png and docs/ablation_curves.png
(the rollouts over the updates). It goes on after a kill.
"""

import argparse
from pathlib import Path

import numpy as np

from medscope.reporting import charts
from medscope.evaluation.ablations import read_curves
from medscope.evaluation.benchmark import SPLITS, Outcome, paired, run_policy
from medscope.pipeline.layout import Layout, begin, challenging, tool_budget
from medscope.agents.policy import load_policy
from medscope.pipeline.stage import read_parameters, stage_parameters, train_variant
from medscope.suite.build import load_suite
from medscope.environment.video import FrameStore

METRICS = ("evidence_miou", "tg_r70", "accuracy")
Row = dict[str, dict[str, float | list[float]]]


def run_name(variant: str, seed: int, steps: int) -> str:
    """The `variant` parameter of notebook 04 for one run."""
    return f"study/{variant}_{steps}_{seed}"


def checkpoint_of(variant: str, seed: int, steps: int) -> Path:
    """The policy of a variant and seed, trained if it does not exist."""
    changes = read_parameters()["ablation_overrides"][variant] | {"steps": steps, "seed": seed}
    changes["eval_questions"] = 30  # the notebook's own look; the study asks them all
    return train_variant("ga_grpo", run_name(variant, seed, steps), changes)


def study(place: Layout, variants: list[str], seeds: list[int], steps: int) -> dict[str, dict[str, Row]]:
    """split -> variant -> metric -> mean and std over seeds, difference from `full` with its 95 % interval.

    A question's score is its mean over seeds; the interval resamples videos.
    """
    parameters = stage_parameters("evaluate")
    suite, budget, store = load_suite(place), tool_budget(parameters), FrameStore(parameters["decoder"])
    policies = {v: [load_policy(checkpoint_of(v, seed, steps)) for seed in seeds] for v in variants}
    result: dict[str, dict[str, Row]] = {}
    for split in SPLITS:
        asked = challenging(suite, split)
        scores = {}
        for variant, runs in policies.items():
            scores[variant] = [
                run_policy(p, asked, suite.recordings_by_video, store, budget, label=variant) for p in runs
            ]
        result[split] = {variant: against_full(scores["full"], runs) for variant, runs in scores.items()}
    return result


def against_full(full: list[list[Outcome]], runs: list[list[Outcome]]) -> Row:
    """The numbers of one variant, the outcomes of each of its seeds, beside those of `full`."""
    return {
        metric: {
            "mean": float(np.mean(row["after"])),
            "std": float(np.std(row["after"], ddof=1)) if len(runs) > 1 else 0.0,
            "minus_full": row["mean"],
            "minus_full_ci": row["ci"],
        }
        for metric, row in paired(runs, full, METRICS).items()
    }


def main() -> None:
    """Command line: see --help."""
    parser = argparse.ArgumentParser(description=__doc__)
    known = read_parameters()["ablation_overrides"]
    parser.add_argument("--variants", nargs="+", default=list(known), choices=list(known))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=60, help="updates of every run")
    arguments = parser.parse_args()
    begin()
    place = Layout(stage_parameters("evaluate")["folder"])
    variants = list(dict.fromkeys(["full", *arguments.variants]))
    result = study(place, variants, arguments.seeds, arguments.steps)
    place.write_metrics("ablation_study", {"steps": arguments.steps, "seeds": arguments.seeds, "splits": result})
    charts.differences(result["cataract"], Path("docs") / "ablation_study.png")
    curves = {v: [read_curves(place, run_name(v, seed, arguments.steps)) for seed in arguments.seeds] for v in variants}
    charts.ablation_curves({"curves": curves}, Path("docs") / "ablation_curves.png")
    for variant, row in result["cataract"].items():
        cells = (f"{m} {c['mean']:.3f} ({c['minus_full']:+.3f} {c['minus_full_ci']})" for m, c in row.items())
        print(f"{variant}: " + ", ".join(cells))


if __name__ == "__main__":
    main()
