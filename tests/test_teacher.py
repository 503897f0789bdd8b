"""The scripted teacher, and what is kept of the trajectories that it makes in the real environment."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from medscope.environment.dialogue import execute_call, find_tool_call, is_well_formed, parse_answer, parse_tool_call
from medscope.environment.environment import ClinicalVideoEnvironment
from medscope.evaluation.judge import exact_judge
from medscope.metrics import evidence_window, temporal_iou
from medscope.records import Timestamp, Window
from medscope.suite.tasks import CHALLENGING, questions
from medscope.suite.teachers.scripted import Teacher
from medscope.suite.trajectories import MIN_WINDOW_IOU, executed_trajectory, make_trajectories
from medscope.environment.tools import skim_seconds


def ask(recording):
    return questions(recording, np.random.default_rng(0))


def of_kind(recording, kind, phase=None):
    return next(q for q in ask(recording) if q.kind == kind and q.phase == (phase or q.phase))


def teach(recording, question, budget, boundary_slack=0.0):
    seconds = skim_seconds(recording.duration, budget.skim_frames)
    return Teacher(recording, question, seconds, recording.duration, boundary_slack, [0])


def test_the_teacher_writes_well_formed_turns_about_seconds_of_the_skim(recording, tiny_budget):
    shown = {*skim_seconds(recording.duration, tiny_budget.skim_frames), round(recording.duration)}
    for question in ask(recording):
        for boundary_slack in (0, 0.5, 1):
            teacher = teach(recording, question, tiny_budget, boundary_slack)
            assert is_well_formed(teacher.turns()) and is_well_formed([teacher.direct_turn()])
            name, arguments = parse_tool_call(find_tool_call(teacher.turns()[0]))
            assert name == "crop_video" and set(arguments.values()) <= shown
            assert len(teacher.turns()) == (2 if isinstance(question.evidence, Window) else 3)


def test_the_teacher_looks_around_the_evidence_and_caution_looks_wider(recording, tiny_budget):
    seconds = skim_seconds(recording.duration, tiny_budget.skim_frames)
    gap = max(np.diff([*seconds, recording.duration]))
    for question in ask(recording):
        careful, bold = (teach(recording, question, tiny_budget, boundary_slack).window() for boundary_slack in (1, 0))
        assert careful.start <= bold.start and bold.end <= careful.end and careful.length > bold.length
        evidence = question.evidence
        if isinstance(evidence, Timestamp):
            assert bold.contains(evidence.time)
        else:  # each edge is the next second of the skim
            assert 0 <= bold.start - evidence.start < gap and 0 <= bold.end - evidence.end < gap


def make(recording, asked, environment, boundary_slack=0.5, direct_share=0.5):
    return make_trajectories(asked, {recording.video: recording}, environment, boundary_slack, direct_share, seed=0)


def test_trajectories_that_are_kept_pass_format_answer_and_window(recording, environment):
    asked = {question.id: question for question in ask(recording)}
    kept, rejected = make(recording, list(asked.values()), environment)
    with_tools = [trajectory for trajectory in kept if trajectory.tools]
    assert len(with_tools) >= 0.9 * sum(q.kind in CHALLENGING for q in asked.values())
    assert set(rejected) <= {"window", "answer"}
    for trajectory in kept:
        assert is_well_formed(list(trajectory.turns))
        assert trajectory.tools == bool(trajectory.calls) == (len(trajectory.turns) > 1)
    for trajectory in with_tools:
        question = asked[trajectory.question]
        assert question.kind in CHALLENGING and all(call.executed for call in trajectory.calls)
        assert exact_judge(parse_answer(trajectory.turns[-1]), question.answer) == 1
        crop = next(call for call in reversed(trajectory.calls) if call.name == "crop_video")
        window = Window(crop.arguments["start_time"], crop.arguments["end_time"])
        assert temporal_iou(window, evidence_window(question.evidence)) >= MIN_WINDOW_IOU
        environment.reset(path=recording.path)
        for turn in trajectory.turns[:-1]:
            execute_call(environment, turn)
        assert tuple(environment._calls) == trajectory.calls  # they are what the turns really call


def test_easy_questions_and_a_share_of_the_others_are_answered_without_tools(operation, environment):
    asked = ask(operation)
    for share in (0, 1):
        direct = {t.question for t in make(operation, asked, environment, direct_share=share)[0] if not t.tools}
        assert direct == {q.id for q in asked if q.kind == "order" or share}


def test_the_same_seed_makes_the_same_trajectories(operation, environment):
    assert make(operation, ask(operation), environment) == make(operation, ask(operation), environment)


@pytest.mark.parametrize(
    "changes, reasons",
    [
        ({}, []),
        ({"answer": "from 100 to 140 s"}, ["answer"]),
        ({"evidence": Window(100, 140)}, ["window"]),
        ({"answer": "from 100 to 140 s", "evidence": Window(100, 140)}, ["answer", "window"]),
    ],
)
def test_a_teacher_that_is_wrong_about_the_question_is_rejected(changes, reasons, operation, environment, tiny_budget):
    question = replace(of_kind(operation, "grounding", "capsulorhexis"), **changes)  # it takes place from 30 to 76 s
    teacher = teach(operation, question, tiny_budget)
    _, found = executed_trajectory(teacher, teacher.turns(), operation.path, environment)
    assert found == reasons
    kept, rejected = make(operation, [question], environment, boundary_slack=0, direct_share=0)
    assert (len(kept), rejected) == (0 if reasons else 1, Counter(reasons))


class Sloppy(Teacher):
    """Forgets to think before it answers."""

    def dense_turn(self, window):
        return super().dense_turn(window).partition("</think>")[2]


class Astray(Teacher):
    """Looks at the end of the video, whatever was asked."""

    def window(self):
        return Window(self.anchors[-3], self.anchors[-1])


class Distracted(Teacher):
    """Names another instrument than the one that it was shown."""

    def dense_turn(self, window):
        return super().dense_turn(window).replace(f"<answer>{self.question.answer}", "<answer>crayon")


@pytest.mark.parametrize(
    "kind, reasons",
    [(Sloppy, ["format"]), (Distracted, ["answer"]), (Astray, ["unseen in the looks", "window"])],
)
def test_a_careless_teacher_is_rejected(kind, reasons, operation, environment, tiny_budget):
    question = of_kind(operation, "instrument", "capsulorhexis")
    seconds = skim_seconds(operation.duration, tiny_budget.skim_frames)
    teacher = kind(operation, question, seconds, operation.duration, 0.0, [0])
    assert executed_trajectory(teacher, teacher.turns(), operation.path, environment)[1] == reasons


def test_a_phase_that_the_skim_does_not_see_is_not_taught(operation, store, tiny_budget):
    environment = ClinicalVideoEnvironment(store, replace(tiny_budget, skim_frames=1))  # sees second 0 alone
    kept, rejected = make(operation, ask(operation), environment, direct_share=1)
    assert {t.question.split(":")[1] for t in kept} <= {"incision"}
    assert rejected["unseen in the skim"] == sum(q.phase != "incision" for q in ask(operation))
