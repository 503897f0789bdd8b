"""Baselines trained alike: what do the tools, the evidence reward and the modulation each add?

`make baselines` (needs `make repro` first) trains the section `baselines` of params.yaml: notebook 03 or 04 with a few
values changed, so that data, steps and model are those of SFT and GA-GRPO. All systems answer all held-out questions
greedily; metrics/baselines.json and docs/baselines.png hold the result. It goes on after a kill.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medscope.reporting import charts
from medscope.evaluation.benchmark import SPLITS, Outcome, paired, run_policy, run_prior, score
from medscope.pipeline.layout import Layout, begin, challenging, tool_budget
from medscope.agents.policy import load_policy
from medscope.pipeline.stage import read_parameters, stage_parameters, train_variant
from medscope.suite.build import Suite, load_suite
from medscope.suite.retelling import WITH_TOOLS
from medscope.environment.tools import ToolBudget
from medscope.environment.video import FrameStore

ADDED = {  # what the first system has and the second lacks
    "tools": ("sft", "text_cot"),
    "the right window": ("sft", "random_window"),
    "RL on answer and format": ("plain_grpo", "sft"),
    "the evidence reward": ("evidence_grpo", "plain_grpo"),
    "the modulation": ("ga_grpo", "evidence_grpo"),
}
COMPARED = ("evidence_miou", "tg_r70", "accuracy")


@dataclass(frozen=True)
class System:
    """A trained policy and how it is asked."""

    checkpoint: Path
    budget: ToolBudget
    tools: bool = True
    oracle: bool = False


def systems(place: Layout, parameters: dict[str, Any]) -> dict[str, System]:
    """Every system but the prior, from the weakest idea to the oracle; those that are missing are trained."""
    budget = tool_budget(parameters)
    found = {}
    for name, section in read_parameters()["baselines"].items():
        changes = dict(section)
        stage = changes.pop("stage")
        checkpoint = train_variant(stage, f"baselines/{name}", changes)
        seen = {**parameters, **changes}
        found[name] = System(checkpoint, tool_budget(seen), seen.get("trajectories", "tools") in WITH_TOOLS)
    found["sft"] = System(place.checkpoint("sft"), budget)
    found["ga_grpo"] = System(place.checkpoint("ga_grpo"), budget)
    found["oracle"] = System(place.checkpoint("ga_grpo"), budget, oracle=True)
    return found


def answer(suite: Suite, asked: dict[str, System], store: FrameStore) -> dict[str, dict[str, list[Outcome]]]:
    """system -> split -> outcomes on all held-out questions, the prior first."""
    recordings = suite.recordings_by_video
    questions = {split: challenging(suite, split) for split in SPLITS}
    found = {"prior": {split: run_prior(suite, some) for split, some in questions.items()}}
    for name, system in asked.items():
        policy = load_policy(system.checkpoint)
        found[name] = {
            split: run_policy(
                policy, some, recordings, store, system.budget, system.tools, system.oracle, label=f"{name} {split}"
            )
            for split, some in questions.items()
        }
    return found


def added(outcomes: dict[str, dict[str, list[Outcome]]]) -> dict[str, dict[str, dict[str, Any]]]:
    """part of ADDED -> split -> metric -> mean difference on the same questions with its 95 % interval."""
    result: dict[str, dict[str, dict[str, Any]]] = {}
    for part, (with_it, without) in ADDED.items():
        result[part] = {}
        for split in outcomes[with_it]:
            rows = paired([outcomes[with_it][split]], [outcomes[without][split]], COMPARED)
            result[part][split] = {metric: {"mean": row["mean"], "ci": row["ci"]} for metric, row in rows.items()}
    return result


def main() -> None:
    """Command line: none."""
    begin()
    parameters = stage_parameters("evaluate")
    place = Layout(parameters["folder"])
    trained = systems(place, parameters)
    outcomes = answer(load_suite(place), trained, FrameStore(parameters["decoder"]))
    table = {name: {split: score(found) for split, found in splits.items()} for name, splits in outcomes.items()}
    parts = added(outcomes)
    place.write_metrics("baselines", {"systems": table, "added": parts})
    charts.ladder(table, Path("docs") / "baselines.png")
    for part, splits in parts.items():
        cells = (f"{m} {c['mean']:+.3f} [{c['ci'][0]:+.3f}, {c['ci'][1]:+.3f}]" for m, c in splits["cataract"].items())
        print(f"cataract, {part}: " + ", ".join(cells))


if __name__ == "__main__":
    main()
