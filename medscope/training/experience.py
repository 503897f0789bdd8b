"""What one micro-batch of GA-GRPO has sampled: tasks, rollouts, rewards and advantages, and their means for the log."""

from dataclasses import dataclass

import numpy as np
import torch

from medscope.agents.rollout import Rollout
from medscope.metrics import evidence_window, temporal_iou
from medscope.records import Task
from medscope.rewards import Reward

MOST_CALLS = 5  # in the histogram of calls: so many or more


@dataclass(frozen=True)
class Experience:
    """`tasks` holds the task of every rollout; all lists and `advantages` [rollouts] are in the rollouts' order,
    `num_generations` in a row per task."""

    tasks: list[Task]
    rollouts: list[Rollout]
    rewards: list[Reward]
    advantages: torch.Tensor
    num_generations: int

    @property
    def tokens(self) -> int:
        """Assistant tokens, which bear the loss."""
        return sum(sum(rollout.assistant_mask) for rollout in self.rollouts)

    def groups(self) -> list[slice]:
        """The rollouts of every group."""
        size = self.num_generations
        return [slice(start, start + size) for start in range(0, len(self.rollouts), size)]

    def is_dead(self, group: slice) -> bool:
        """Whether all rollouts of a group earn the same: they have no advantages, and nothing is learned from them."""
        totals = [reward.total for reward in self.rewards[group]]
        return max(totals) - min(totals) < 1e-9

    def replaced(self, group: slice, other: "Experience", by: slice) -> "Experience":
        """With this group replaced by one of another experience."""
        advantages = torch.cat([self.advantages[: group.start], other.advantages[by], self.advantages[group.stop :]])
        return Experience(
            [*self.tasks[: group.start], *other.tasks[by], *self.tasks[group.stop :]],
            [*self.rollouts[: group.start], *other.rollouts[by], *self.rollouts[group.stop :]],
            [*self.rewards[: group.start], *other.rewards[by], *self.rewards[group.stop :]],
            advantages,
            self.num_generations,
        )

    def means(self) -> dict[str, float]:
        """Every quantity that is logged, as the mean over rollouts.

        `tool_failure_rate`: over calls. `dead_groups`: over groups. `sign_agreement`: of rollouts with an executed call
        and an advantage A that is not 0, the share where A > 0 and the fidelity f > 0, or neither: there the binary
        modulation strengthens the update. `calls_n`: the share with n calls (`calls_5`: 5 or more). `refused`: the
        share with a refused call; `recovered`: with one, and well formed to the end (recovery is their ratio).
        """
        traces = [rollout.trace for rollout in self.rollouts]
        windows = [(trace.window, evidence_window(t.evidence)) for trace, t in zip(traces, self.tasks, strict=True)]
        calls = [call for trace in traces for call in trace.calls]
        counts = [min(len(trace.calls), MOST_CALLS) for trace in traces]
        refused = [len(trace.executed) < len(trace.calls) for trace in traces]
        signed = [
            float((a > 0) == (r.evidence > 0))
            for a, r, trace in zip(self.advantages.tolist(), self.rewards, traces, strict=True)
            if trace.executed and a != 0
        ]
        values = {
            "reward": [r.total for r in self.rewards],
            "reward_accuracy": [r.accuracy for r in self.rewards],
            "reward_format": [r.format for r in self.rewards],
            "reward_crop": [r.crop for r in self.rewards],
            "reward_frame": [r.frame for r in self.rewards],
            "iou": [temporal_iou(looked, evidence) if looked else 0.0 for looked, evidence in windows],
            "tool_call_rate": [float(bool(trace.calls)) for trace in traces],
            "tool_calls": [float(len(trace.calls)) for trace in traces],
            "tool_failure_rate": [float(not call.executed) for call in calls] or [0.0],
            "completion_tokens": [float(sum(rollout.assistant_mask)) for rollout in self.rollouts],
            "advantage_size": self.advantages.abs().tolist(),
            "dead_groups": [float(self.is_dead(group)) for group in self.groups()],
            "sign_agreement": signed or [0.0],
            "refused": [float(some) for some in refused],
            "recovered": [float(some and r.format == 1) for some, r in zip(refused, self.rewards, strict=True)],
            **{f"calls_{n}": [float(count == n) for count in counts] for n in range(MOST_CALLS + 1)},
        }
        return {name: float(np.mean(value)) for name, value in values.items()}
