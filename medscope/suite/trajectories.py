"""Stage 3, ClinVideo-VCoT and -CoT: run the teacher's turns in the real environment, keep what passes.

Kept only if the format is right, the answer is right, a frame really showed what the answer names and the last crop
overlaps the evidence: the public fork of the paper's co-author checks only the format.
"""

from collections import Counter

import numpy as np
from tqdm import tqdm

from medscope.dialogue import execute_call, is_well_formed, parse_answer
from medscope.environment import Blocks, ClinicalVideoEnvironment
from medscope.judge import exact_judge
from medscope.metrics import evidence_window, temporal_iou
from medscope.records import Question, Recording, Trajectory
from medscope.suite.questions import CHALLENGING
from medscope.suite.teacher import Teacher
from medscope.tools import skim_seconds

MIN_WINDOW_IOU = 0.3  # with its evidence; the slack of a cautious teacher passes, another phase does not


def vcot_trajectory(teacher: Teacher, path: str, environment: ClinicalVideoEnvironment) -> tuple[Trajectory, list[str]]:
    """One challenging question with tools, every call really executed; and the reasons to reject it (none if good)."""
    question = teacher.question
    environment.reset(path=path)
    turns = teacher.turns()
    shown = [second for turn in turns[:-1] for second in seconds_of(execute_call(environment, turn))]
    reasons = []
    if not is_well_formed(turns):
        reasons.append("format")
    if exact_judge(parse_answer(turns[-1]), question.answer) < 1:
        reasons.append("answer")
    stretches = teacher.segment.shown if question.kind != "grounding" else ()  # a phase shows all the time
    if stretches and not any(stretch.contains(second) for stretch in stretches for second in shown):
        reasons.append("unseen in the looks")
    window = environment._window
    if window is None or temporal_iou(window, evidence_window(question.evidence)) < MIN_WINDOW_IOU:
        reasons.append("window")
    return Trajectory(question.id, tuple(turns), tuple(environment._calls)), reasons


def seconds_of(response: Blocks | None) -> list[float]:
    """The seconds of the frames in a tool's response, read from the text behind each."""
    pairs = zip(response or [], (response or [])[1:], strict=False)
    return [float(text["text"].strip(" s")) for frame, text in pairs if frame["type"] == "image"]


def make_trajectories(
    questions: list[Question],
    recordings: dict[str, Recording],
    environment: ClinicalVideoEnvironment,
    caution: float,
    direct_share: float,
    seed: int,
) -> tuple[list[Trajectory], Counter]:
    """VCoT for challenging questions, CoT for easy ones and for a `direct_share` of the challenging ones.

    The direct ones carry no tool block in their prompt: they teach the model to do what it can when it has no tools,
    which is the `uniform` baseline of the benchmark. Returns the kept trajectories and the counts of rejections.
    """
    kept, rejected = [], Counter()
    rng = np.random.default_rng([seed, 3])
    for number, question in enumerate(tqdm(questions, desc="trajectories", unit="question")):
        recording = recordings[question.video]
        seconds = skim_seconds(recording.duration, environment._limits.skim_frames)
        teacher = Teacher(recording, question, seconds, recording.duration, caution, [seed, 4, number])
        if teacher.hypothesis() is None:
            rejected["unseen in the skim"] += 1
            continue
        if question.kind in CHALLENGING:
            trajectory, reasons = vcot_trajectory(teacher, recording.path, environment)
            rejected.update(reasons)
            if not reasons:
                kept.append(trajectory)
        if question.kind not in CHALLENGING or rng.random() < direct_share:
            kept.append(Trajectory(question.id, (teacher.direct_turn(),), tools=False))
    return kept, rejected
