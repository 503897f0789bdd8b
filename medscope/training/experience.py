"""What one micro-batch of GA-GRPO has sampled: tasks, rollouts, rewards and advantages, and their means for the log."""

from dataclasses import dataclass

import numpy as np
import torch

from medscope.agents.rollout import Rollout
from medscope.metrics import evidence_window, temporal_iou
from medscope.records import Task
from medscope.rewards import Reward


@dataclass(frozen=True)
class Experience:
    """`tasks` holds the task of every rollout; all lists and `advantages` [rollouts] are in the rollouts' order."""

    tasks: list[Task]
    rollouts: list[Rollout]
    rewards: list[Reward]
    advantages: torch.Tensor

    @property
    def tokens(self) -> int:
        """Assistant tokens, which bear the loss."""
        return sum(sum(rollout.assistant_mask) for rollout in self.rollouts)

    def means(self) -> dict[str, float]:
        """Every quantity that is logged, as the mean over rollouts (`tool_failure_rate`: over calls)."""
        traces = [rollout.trace for rollout in self.rollouts]
        windows = [(trace.window, evidence_window(t.evidence)) for trace, t in zip(traces, self.tasks, strict=True)]
        calls = [call for trace in traces for call in trace.calls]
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
        }
        return {name: float(np.mean(value)) for name, value in values.items()}
