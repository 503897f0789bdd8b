"""Evidence audit: is a right answer right *because of* what the policy looked at?

Every right answer is replayed greedily while the tools show other frames under the same seconds. Up to the first
response the replay is the same rollout, so whatever changes comes from the frames. Then: what a question costs, and
whether the model's own probability says how far its answer can be trusted.
"""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image

from medscope.evaluation.benchmark import Outcome, run_policy
from medscope.environment.environment import Blocks, ClinicalVideoEnvironment
from medscope.evaluation.judge import Judge, exact
from medscope.metrics import bootstrap_interval
from medscope.reporting.pictures import save
from medscope.agents.policy import Policy
from medscope.records import Task, Recording
from medscope.environment.tools import ToolBudget
from medscope.environment.video import FrameStore

Swap = Literal["elsewhere", "other_video", "blank"]
SWAPS: tuple[Swap, ...] = ("elsewhere", "other_video", "blank")
GREY = (128, 128, 128)
WRONG_WINDOW = 0.3  # a last look with less IoU, and not at the evidence, is at the wrong window


class SwappedEnvironment(ClinicalVideoEnvironment):
    """Executes and records calls as ever, but shows other frames under the seconds that were asked for.

    `elsewhere`: half the video later (from its start again past its end); `other_video`: the same part of the video
    `other`; `blank`: grey frames.
    """

    def __init__(self, store: FrameStore, budget: ToolBudget, swap: Swap, other: str):
        super().__init__(store, budget)
        self._swap, self._other = swap, other

    def _frames(self, name: str, arguments: dict[str, Any]) -> Blocks:
        blocks = super()._frames(name, arguments)
        for block, label in pairwise(blocks):
            if block["type"] == "image":
                block["image"] = self._swapped(block["image"], float(label["text"].strip(" s")))
        return blocks

    def _swapped(self, image: Image.Image, second: float) -> Image.Image:
        if self._swap == "blank":
            return Image.new("RGB", image.size, GREY)
        path, time = self._path, (second + self._duration / 2) % self._duration
        if self._swap == "other_video":
            path, time = self._other, second / self._duration * self._store.video(self._other).duration
        return self._store.frames(path, [time], image.width * image.height)[0][0].resize(image.size)


def other_videos(recordings: dict[str, Recording]) -> dict[str, str]:
    """For every video the path of the next one of its family and split."""
    found = {}
    groups: dict[tuple[str, str], list[Recording]] = {}
    for recording in recordings.values():
        groups.setdefault((recording.family, recording.split), []).append(recording)
    for members in groups.values():
        found |= {r.video: members[(i + 1) % len(members)].path for i, r in enumerate(members)}
    return found


def audit(
    policy: Policy,
    outcomes: Sequence[Outcome],
    recordings: dict[str, Recording],
    store: FrameStore,
    budget: ToolBudget,
    most: int,
    judge: Judge = exact,
) -> dict[str, float | list[float] | None]:
    """Of `most` answers that were right after a look, shares with 95 % intervals (None if there are none).

    `contains_evidence`: the last call looked at the evidence. `wrong_window`: it did not, and overlaps it by less than
    .3. `flip_<swap>`: the answer is no longer right when the tools show something else.
    """
    every = [o for o in outcomes if o.accuracy == 1 and any(call.executed for call in o.calls)]
    chosen = np.linspace(0, len(every) - 1, min(most, len(every))).round().astype(int)  # evenly spread
    right = [every[i] for i in chosen]
    videos, others = [o.question.video for o in right], other_videos(recordings)
    columns = {
        "contains_evidence": [float(o.hit) for o in right],
        "wrong_window": [float(not o.hit and o.crop_iou < WRONG_WINDOW) for o in right],
    }
    for swap in SWAPS:

        def environment(question: Task, swap: Swap = swap) -> ClinicalVideoEnvironment:
            return SwappedEnvironment(store, budget, swap, others[question.video])

        asked = [o.question for o in right]
        replayed = run_policy(
            policy, asked, recordings, store, budget, label=swap, judge=judge, make_environment=environment
        )
        columns[f"flip_{swap}"] = [float(o.accuracy < 1) for o in replayed]
    found: dict[str, float | list[float] | None] = {"right": len(right)}
    for name, values in columns.items():
        found[name] = float(np.mean(values)) if values else None
        found[f"{name}_ci"] = list(bootstrap_interval(values, videos)) if values else None
    return found


def economy(outcomes: Sequence[Outcome]) -> dict[str, float]:
    """Calls, frames shown by tools and tokens assistant per question."""
    return {
        "calls": float(np.mean([len(o.calls) for o in outcomes])),
        "tool_frames": float(np.mean([o.tool_frames for o in outcomes])),
        "tokens": float(np.mean([o.tokens for o in outcomes])),
    }


def reliability(outcomes: Sequence[Outcome], bins: int = 10) -> list[dict[str, float]]:
    """Mean confidence, accuracy and number of answers of every tenth of the confidences, the least sure first."""
    ordered = sorted(outcomes, key=lambda o: o.confidence)
    parts = [part for part in np.array_split(np.arange(len(ordered)), bins) if len(part)]
    return [
        {
            "confidence": float(np.mean([ordered[i].confidence for i in part])),
            "accuracy": float(np.mean([ordered[i].accuracy for i in part])),
            "answers": len(part),
        }
        for part in parts
    ]


def calibration_error(outcomes: Sequence[Outcome], bins: int = 10) -> float:
    """Expected calibration error: the mean distance of confidence and accuracy over tenths of the answers."""
    rows = reliability(outcomes, bins)
    return sum(r["answers"] * abs(r["confidence"] - r["accuracy"]) for r in rows) / sum(r["answers"] for r in rows)


def risk_coverage(outcomes: Sequence[Outcome]) -> tuple[np.ndarray, np.ndarray]:
    """Coverage and risk (1 - accuracy) if only the surest answers are given, one point per answer."""
    ordered = sorted(outcomes, key=lambda o: -o.confidence)
    given = np.arange(1, len(ordered) + 1)
    return given / len(ordered), np.cumsum([1 - o.accuracy for o in ordered]) / given


def audit_systems(
    outcomes: dict[str, dict[str, list[Outcome]]],
    policies: dict[str, Policy],
    recordings: dict[str, Recording],
    store: FrameStore,
    budget: ToolBudget,
    most: int,
    judge: Judge = exact,
) -> dict[str, dict[str, Any]]:
    """`system split` -> audit, economy and calibration error of the `policies` (`sft` and `rl`)."""
    found = {}
    for system, policy in policies.items():
        for split, some in outcomes[system].items():
            audited = audit(policy, some, recordings, store, budget, most, judge)
            found[f"{system} {split}"] = {**audited, **economy(some), "calibration_error": calibration_error(some)}
    return found


def plot_trust(outcomes: dict[str, list[Outcome]], path: Path) -> None:
    """Reliability diagram and risk-coverage curve, a line per split."""
    _, (left, right) = plt.subplots(1, 2, figsize=(9, 3))
    left.plot([0, 1], [0, 1], color="grey", linewidth=0.8)
    for split, some in outcomes.items():
        rows = reliability(some)
        left.plot([r["confidence"] for r in rows], [r["accuracy"] for r in rows], marker="o", label=split)
        right.plot(*risk_coverage(some), label=split)
    left.set(title="reliability", xlabel="probability of the answer", ylabel="accuracy")
    right.set(title="risk if only the surest answer", xlabel="coverage", ylabel="1 - accuracy", ylim=(0, 1))
    left.legend(fontsize=7)
    plt.tight_layout()
    save(path)
