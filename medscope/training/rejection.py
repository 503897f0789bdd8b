"""Rejection fine-tuning, a baseline of GA-GRPO: the policy's own best answers as trajectories (best of n).

Every task is sampled n times; of the rollouts that are right, well formed and end on good evidence the first is kept.
Fine-tuning on them is stage II with other trajectories (`best_of` of notebook 03). Done tasks are kept in portions in
`folder`, each with a random state of its own, so that a killed run goes on and ends in the same trajectories.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from tqdm import tqdm

from medscope.agents.policy import Policy
from medscope.agents.rollout import Rollout, generate
from medscope.environment import ClinicalVideoEnvironment, FrameStore, ToolBudget
from medscope.environment.grammar import is_well_formed, parse_answer
from medscope.evaluation.judge import Judge, exact
from medscope.files import read_jsonl, write_jsonl
from medscope.metrics import temporal_iou
from medscope.records import Evidence, Task, Timestamp, Trajectory, Window

PORTION = 8  # tasks that are sampled together and kept in one file
TEMPERATURE = 0.7  # as in GA-GRPO
LEAST_IOU = 0.5  # of the last crop with the evidence


def best_of(
    policy: Policy,
    tasks: Sequence[Task],
    store: FrameStore,
    budget: ToolBudget,
    folder: Path,
    samples: int = 8,
    temperature: float = TEMPERATURE,
    seed: int = 0,
    judge: Judge = exact,
) -> list[Trajectory]:
    """One trajectory of every task that `samples` rollouts solve, in the order of the tasks.

    Raises ValueError where none is solved: nothing could be learned.
    """
    kept: list[Trajectory] = []
    for number in tqdm(range(-(-len(tasks) // PORTION)), desc=f"best of {samples}", unit="portion"):
        file = folder / f"{number:05d}.jsonl"
        if not file.exists():
            torch.manual_seed(1_000_003 * seed + number)
            portion = tasks[number * PORTION : (number + 1) * PORTION]
            environments = [ClinicalVideoEnvironment(store, budget) for _ in range(samples * len(portion))]
            rollouts = generate(policy, portion, environments, samples, temperature=temperature)
            policy.forget_features()
            file.parent.mkdir(parents=True, exist_ok=True)
            write_jsonl(file, first_solved(rollouts, judge))
        kept += read_jsonl(file, Trajectory)
    if not kept:
        raise ValueError(f"none of {len(tasks)} tasks is solved by {samples} rollouts; train the policy longer before")
    return kept


def first_solved(rollouts: Sequence[Rollout], judge: Judge = exact) -> list[Trajectory]:
    """Of every task the first rollout that is right, well formed and whose last crop shows the evidence."""
    answers = [parse_answer(rollout.turns[-1]) for rollout in rollouts]
    verdicts = judge([(r.task.question, a, r.task.reference) for r, a in zip(rollouts, answers, strict=True)])
    found: dict[str, Trajectory] = {}
    for rollout, verdict in zip(rollouts, verdicts, strict=True):
        good = _is_good(rollout.trace.window, rollout.task.evidence)
        if verdict == 1 and good and is_well_formed(rollout.turns) and rollout.task.id not in found:
            found[rollout.task.id] = Trajectory(rollout.task, tuple(rollout.turns), tuple(rollout.trace.calls))
    return list(found.values())


def _is_good(window: Window | None, evidence: Evidence) -> bool:
    if window is None or isinstance(evidence, Timestamp):
        return window is not None and window.contains(evidence.time)
    return temporal_iou(window, evidence) >= LEAST_IOU
