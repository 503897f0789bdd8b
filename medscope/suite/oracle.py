"""The looks of an oracle: what the teacher would do, without mistakes and to the end, but for its answer.

With them written for it a policy reads the last look itself and answers. Its accuracy is a ceiling for search: what is
missing is not found by looking elsewhere.
"""

import numpy as np

from medscope.agents.protocol import run_episode
from medscope.environment.environment import ClinicalVideoEnvironment
from medscope.environment.frame_store import FrameStore
from medscope.environment.grammar import call_text
from medscope.environment.tools import ToolBudget
from medscope.metrics import evidence_window
from medscope.records import Recording, Task
from medscope.sources.source import describe
from medscope.suite.trajectories import teacher_of


def oracle_turns(task: Task, recording: Recording, store: FrameStore, budget: ToolBudget) -> list[str]:
    """The turns of the teacher up to its last look; one crop of the evidence where the skim shows nothing to follow."""
    rng = np.random.default_rng(0)
    teacher = teacher_of(task, recording, budget, describe, 0.0, rng, mistakes=0.0)
    if teacher is not None:
        return list(run_episode(teacher(), task, ClinicalVideoEnvironment(store, budget)).turns[:-1])
    window = evidence_window(task.evidence)
    crop = {"start_time": window.start, "end_time": min(window.end, recording.duration)}
    return ["<think>look</think>" + call_text("crop_video", crop)]
