"""Stage 3, ClinVideo-VCoT and -CoT: run the teacher's turns in the real environment, keep what passes.

Kept only if the format is right, the answer is right, a frame really showed what the answer names and the last crop
overlaps the evidence: the public fork of the paper's co-author checks only the format.
"""

from collections import Counter

import numpy as np
from tqdm import tqdm

from medscope.environment.dialogue import execute_call, is_well_formed, parse_answer
from medscope.environment.environment import Blocks, ClinicalVideoEnvironment
from medscope.evaluation.judge import exact_judge
from medscope.metrics import evidence_window, temporal_iou
from medscope.records import Task, Recording, Trajectory
from medscope.suite.free_text import OPEN_KINDS, open_turns
from medscope.suite.tasks import CHALLENGING
from medscope.suite.teachers.scripted import Teacher
from medscope.environment.tools import skim_seconds

MIN_WINDOW_IOU = 0.3  # with its evidence; the slack of a cautious teacher passes, another phase does not


def executed_trajectory(
    teacher: Teacher, turns: list[str], path: str, environment: ClinicalVideoEnvironment
) -> tuple[Trajectory, list[str]]:
    """The teacher's turns, every call really executed; and the reasons to reject them (none if good)."""
    question = teacher.question
    environment.reset(path=path)
    shown = [second for turn in turns[:-1] for second in seconds_of(execute_call(environment, turn))]
    reasons = []
    if not is_well_formed(turns):
        reasons.append("format")
    if exact_judge(parse_answer(turns[-1]), question.answer) < 1:
        reasons.append("answer")
    # A phase shows all the time, and so does the course of a recording; details do not.
    stretches = () if question.kind in ("grounding", "full", "temporal") else teacher.segment.shown
    if stretches and not any(stretch.contains(second) for stretch in stretches for second in shown):
        reasons.append("unseen in the looks")
    window, evidence = environment._window, evidence_window(question.evidence)
    if len(turns) > 1 and (window is None or temporal_iou(window, evidence) < MIN_WINDOW_IOU):
        reasons.append("window")
    return Trajectory(question.id, tuple(turns), tuple(environment._calls)), reasons


def seconds_of(response: Blocks | None) -> list[float]:
    """The seconds of the frames in a tool's response, read from the text behind each."""
    pairs = zip(response or [], (response or [])[1:], strict=False)
    return [float(text["text"].strip(" s")) for frame, text in pairs if frame["type"] == "image"]


def make_trajectories(
    questions: list[Task],
    recordings: dict[str, Recording],
    environment: ClinicalVideoEnvironment,
    boundary_slack: float,
    direct_share: float,
    seed: int,
) -> tuple[list[Trajectory], Counter]:
    """VCoT for challenging questions, CoT for easy ones and for a `direct_share` of the challenging ones; for open
    questions either, with the tools at hand.

    The direct ones carry no tool block in their prompt: they teach the model to do what it can when it has no tools,
    which is the `uniform` baseline of the benchmark. Returns the kept trajectories and the counts of rejections.
    """
    kept, rejected = [], Counter()
    rng = np.random.default_rng([seed, 3])
    for number, question in enumerate(tqdm(questions, desc="trajectories", unit="question")):
        recording = recordings[question.video]
        seconds = skim_seconds(recording.duration, environment._budget.skim_frames)
        teacher = Teacher(recording, question, seconds, recording.duration, boundary_slack, [seed, 4, number])
        if teacher.hypothesis() is None:
            rejected["unseen in the skim"] += 1
            continue
        is_open = question.kind in OPEN_KINDS
        if is_open or question.kind in CHALLENGING:
            turns = open_turns(teacher) if is_open else teacher.turns()
            trajectory, reasons = executed_trajectory(teacher, turns, recording.path, environment)
            rejected.update(reasons)
            if not reasons:
                kept.append(trajectory)
        if not is_open and (question.kind not in CHALLENGING or rng.random() < direct_share):
            kept.append(Trajectory(question.id, (teacher.direct_turn(),), tools=False))
    return kept, rejected
