"""Step 3 of the suite, ClinVideo-VCoT and -CoT: the teacher acts in the real environment, and what passes is kept.

Kept only if the format is right, the answer is right and the last crop shows the evidence: the public fork of the
paper's co-author checks only the format. That the answer was really seen is the teacher's duty, not checked here.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
from tqdm import tqdm

from medscope.agents.protocol import Agent, run_episode
from medscope.environment.environment import ClinicalVideoEnvironment, Trace
from medscope.environment.grammar import is_well_formed, parse_answer
from medscope.environment.tools import ToolBudget, skim_seconds
from medscope.evaluation.judge import exact_judge
from medscope.metrics import temporal_iou
from medscope.ranks import gathered, is_first_process, own_part
from medscope.records import Evidence, Interval, Recording, Task, Timestamp, Trajectory, Window
from medscope.suite.nested_tasks import is_nested, outline
from medscope.suite.teachers.scripted import ScriptedTeacher
from medscope.suite.teachers.searching import SearchingTeacher

MISTAKES = 0.1  # chance that the searching teacher writes a call wrongly first
SPENT = 0.2  # chance that a search has one call less than it takes: the last is refused, and the answer follows
MIN_WINDOW_IOU = 0.3  # with its evidence; the slack of a cautious teacher passes, another interval does not


def faults(trajectory: Trajectory) -> list[str]:
    """The reasons to reject a trajectory; none for a good one."""
    task, turns = trajectory.task, list(trajectory.turns)
    window = Trace(list(trajectory.calls)).window
    reasons = []
    if not is_well_formed(turns):
        reasons.append("format")
    if exact_judge(parse_answer(turns[-1]), task.reference) < 1:
        reasons.append("answer")
    if len(turns) > 1 and not _shows(window, task.evidence):
        reasons.append("window")
    return reasons


def _shows(window: Window | None, evidence: Evidence) -> bool:
    """Whether the last crop shows the evidence: it holds an instant, it overlaps a window by MIN_WINDOW_IOU."""
    if window is None:
        return False
    if isinstance(evidence, Timestamp):
        return window.start <= evidence.time <= window.end
    return temporal_iou(window, evidence) >= MIN_WINDOW_IOU


def searches(task: Task, recording: Recording) -> bool:
    """Whether the searching teacher answers the task, or the one that knows where to look."""
    return is_nested(recording) and not task.free_text


def teacher_of(
    task: Task,
    recording: Recording,
    budget: ToolBudget,
    describe: Callable[[Interval], str],
    boundary_slack: float,
    rng: np.random.Generator,
    mistakes: float = MISTAKES,
) -> Callable[..., Agent] | None:
    """Makes the teacher of a task, with or without `tools`; None where the skim does not show what is asked for."""
    if searches(task, recording):
        search = partial(SearchingTeacher, task, recording, budget, rng, boundary_slack, mistakes)
        return search if search().candidates else None
    seconds = skim_seconds(recording.duration, budget.skim_frames)
    known = (task, outline(recording), seconds, recording.duration, boundary_slack, rng, describe)
    return partial(ScriptedTeacher, *known) if ScriptedTeacher(*known).hypothesis() is not None else None


def make_trajectories(
    tasks: Sequence[Task],
    recordings: Mapping[str, Recording],
    environment: ClinicalVideoEnvironment,
    describe: Callable[[Interval], str],
    boundary_slack: float,
    direct_share: float,
    seed: int,
) -> tuple[list[Trajectory], Counter[str]]:
    """With tools for challenging and free-text tasks, without for easy ones and a `direct_share` of the challenging.

    Those without tools carry no tool definitions in their prompt: they teach the model to do what it can when it has no
    tools, which is the `no_tools` system of the benchmark. Their answers about details are guesses, so only the
    format is checked. Returns the kept trajectories in the order of their tasks and the counts of rejections by reason.
    Of several processes each does the videos of its own and returns what all have made.
    """
    rng = np.random.default_rng([seed, 3])
    direct = [not t.free_text and (not t.challenging or rng.random() < direct_share) for t in tasks]
    by_video: dict[str, list[int]] = {}  # the store then decodes a video once
    for number, task in enumerate(tasks):
        by_video.setdefault(task.video, []).append(number)
    videos = sorted(by_video)
    kept: dict[int, list[Trajectory]] = {}
    rejected: dict[int, list[str]] = {}
    own = [number for video in own_part(videos) for number in by_video[video]]
    for number in tqdm(own, desc="trajectories", unit="task", mininterval=2, disable=not is_first_process()):
        task, drawn = tasks[number], [seed, 4, number]
        own_rng = np.random.default_rng(drawn)
        recording = recordings[task.video]
        teacher = teacher_of(task, recording, environment.budget, describe, boundary_slack, own_rng)
        if teacher is None:
            rejected[number] = ["unseen in the skim"]
            continue
        made = []
        if task.challenging or task.free_text:
            trajectory = run_episode(teacher(), task, environment)
            most = len(trajectory.calls) - 1
            if searches(task, recording) and most > 0 and own_rng.random() < SPENT:
                again = teacher_of(
                    task, recording, environment.budget, describe, boundary_slack, np.random.default_rng(drawn)
                )
                fewer = ClinicalVideoEnvironment(environment.store, replace(environment.budget, max_calls=most))
                refused = run_episode(again(), task, fewer)
                trajectory = trajectory if faults(refused) else refused
            made.append((trajectory, faults(trajectory)))
        if direct[number]:
            trajectory = run_episode(teacher(tools=False), task, environment, tools=False)
            made.append((trajectory, [reason for reason in faults(trajectory) if reason == "format"]))
        kept[number] = [trajectory for trajectory, reasons in made if not reasons]
        rejected[number] = [reason for _, reasons in made for reason in reasons]
    for some_kept, some_rejected in gathered((kept, rejected)):
        kept |= some_kept
        rejected |= some_rejected
    counts = Counter(reason for video in videos for number in by_video[video] for reason in rejected[number])
    return [trajectory for number in sorted(kept) for trajectory in kept[number]], counts
