"""Questions with free text as answer, what the teacher says to them, and trajectories told in another way."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from medscope.evaluation.benchmark import outcome
from medscope.evaluation.descriptions import text_scores
from medscope.environment.dialogue import find_tool_call, is_well_formed, parse_answer, parse_tool_call
from medscope.records import Trajectory, Window
from medscope.suite.free_text import OPEN_KINDS, open_questions, open_turns, view
from medscope.suite.retelling import TELLINGS, retold
from medscope.suite.teachers.scripted import Teacher
from medscope.suite.trajectories import make_trajectories
from medscope.environment.tools import skim_seconds


def ask(recording, seed=0):
    return {q.kind: q for q in open_questions(recording, np.random.default_rng(seed))}


def teach(recording, question, budget):
    seconds = skim_seconds(recording.duration, budget.skim_frames)
    return Teacher(recording, question, seconds, recording.duration, 0.0, [0])


@pytest.mark.parametrize("seed", range(5))
def test_one_question_of_every_kind_with_the_reference_of_its_segment(operation, seed):
    asked, names = ask(operation, seed), [segment.phase for segment in operation.segments]
    assert tuple(asked) == OPEN_KINDS
    assert asked["full"].answer == ", then ".join(names) and asked["full"].evidence == Window(0, operation.duration)
    middle = names.index(asked["temporal"].phase)
    assert asked["temporal"].answer == f"first {names[middle - 1]}, then {names[middle]}, then {names[middle + 1]}"
    for kind in ("fine", "perception"):
        segment = operation.segments[names.index(asked[kind].phase)]
        assert asked[kind].evidence == segment.window
        assert segment.instrument in asked[kind].answer and segment.complication in asked[kind].answer
    assert f"{asked['fine'].evidence.start:g} to {asked['fine'].evidence.end:g} s" in asked["fine"].text
    assert view(replace(operation.segments[0], instrument="hook", complication=None)) == "the hook is used"


def test_the_teacher_looks_where_it_must_and_answers_with_the_reference(operation, tiny_budget):
    for kind, question in ask(operation).items():
        turns = open_turns(teach(operation, question, tiny_budget))
        assert is_well_formed(turns) and parse_answer(turns[-1]) == question.answer
        assert len(turns) == (2 if kind in ("fine", "perception") else 1)
        if kind == "fine":
            window = question.evidence
            _, arguments = parse_tool_call(find_tool_call(turns[0]))
            assert arguments == {"start_time": window.start, "end_time": window.end}


def trajectories(recording, environment):
    asked = list(ask(recording).values())
    return make_trajectories(asked, {recording.video: recording}, environment, 0.0, 0.0, seed=0)


def test_open_trajectories_are_executed_checked_and_kept_with_tools_at_hand(operation, environment):
    kept, rejected = trajectories(operation, environment)
    assert rejected == Counter() and len(kept) == len(OPEN_KINDS)
    assert all(t.tools for t in kept) and sum(bool(t.calls) for t in kept) == 2


@pytest.mark.parametrize("telling", TELLINGS)
def test_a_telling_keeps_question_and_answer(telling, operation, environment):
    for trajectory in trajectories(operation, environment)[0]:
        told = retold(trajectory, telling, operation.duration, np.random.default_rng(0))
        assert told.question == trajectory.question and is_well_formed(list(told.turns))
        assert parse_answer(told.turns[-1]) == parse_answer(trajectory.turns[-1])
        if telling in ("text_cot", "answer_only"):
            assert len(told.turns) == 1 and not told.tools and "look" not in told.turns[0]
        else:
            assert len(told.turns) == len(trajectory.turns) and told.tools


def test_a_random_window_is_as_long_and_inside_the_video(operation):
    call = '<tool_call>{"name": "crop_video", "arguments": {"start_time": 10, "end_time": 40}}</tool_call>'
    frame = '<tool_call>{"name": "get_frame", "arguments": {"timestamp": 12}}</tool_call>'
    turns = (f"<think>a</think>{call}", f"<think>b</think>{frame}", "<think>c</think><answer>d</answer>")
    starts = set()
    for seed in range(30):
        told = retold(Trajectory("q", turns), "random_window", operation.duration, np.random.default_rng(seed))
        _, crop = parse_tool_call(find_tool_call(told.turns[0]))
        _, moment = parse_tool_call(find_tool_call(told.turns[1]))
        assert crop["end_time"] - crop["start_time"] == 30 and crop["start_time"] >= 0
        assert crop["end_time"] <= operation.duration and 0 <= moment["timestamp"] < operation.duration
        starts.add(crop["start_time"])
    assert len(starts) > 10
    with pytest.raises(ValueError, match="choose one of tools, text_cot"):
        retold(Trajectory("q", turns), "backwards", 90.0, np.random.default_rng(0))


def test_text_scores_of_the_reference_are_full_and_of_silence_zero(operation):
    questions = [replace(ask(operation)["full"], video=str(n)) for n in range(2)]
    said = [outcome(q, f"<answer>{q.answer}</answer>", 1.0) for q in questions]
    best = text_scores(said)
    assert best["exact"] == 1 and best["BLEU-4"] == pytest.approx(100) and best["ROUGE-L"] == pytest.approx(100)
    assert best["questions"] == 2 and best["looked"] == 0
    silent = text_scores([outcome(q, "nothing", 0.0) for q in questions])
    assert silent["exact"] == 0 and silent["BLEU-4"] == 0 and silent["ROUGE-L"] == 0
