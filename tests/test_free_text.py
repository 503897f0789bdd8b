"""Tasks with free text as answer, what the teacher says to them, and trajectories told in another way."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from flat import LANGUAGE, view

from medscope.agents.protocol import run_episode
from medscope.environment.grammar import find_tool_call, is_well_formed, parse_answer, parse_tool_call
from medscope.environment.tools import skim_seconds
from medscope.records import Interval, Recording, Trajectory, Window
from medscope.sources.source import Language
from medscope.suite.free_text import FREE_TEXT_KINDS, free_text_tasks
from medscope.suite.retelling import TELLINGS, retell
from medscope.suite.teachers.scripted import ScriptedTeacher
from medscope.suite.trajectories import make_trajectories


def ask(recording, seed=0):
    return {task.kind: task for task in free_text_tasks(recording, LANGUAGE, np.random.default_rng(seed))}


@pytest.mark.parametrize("seed", range(5))
def test_one_task_of_every_kind_with_the_reference_of_its_interval(operation, seed):
    asked, labels = ask(operation, seed), [interval.label for interval in operation.intervals]
    assert tuple(asked) == FREE_TEXT_KINDS and all(task.free_text for task in asked.values())
    assert {task.id for task in asked.values()} == {f"{operation.video}/{kind}/0" for kind in FREE_TEXT_KINDS}
    assert [task.challenging for task in asked.values()] == [False, True, False, True]
    assert asked["full"].subject == "" and asked["full"].reference.text == ", then ".join(labels)
    assert asked["full"].evidence == Window(0, operation.duration)
    middle = labels.index(asked["temporal"].subject)
    told = f"first {labels[middle - 1]}, then {labels[middle]}, then {labels[middle + 1]}"
    assert asked["temporal"].reference.text == told
    for kind in ("fine", "perception"):
        interval = operation.intervals[labels.index(asked[kind].subject)]
        assert asked[kind].evidence == interval.window
        assert all(value in asked[kind].reference.text for value in interval.attributes.values())
    assert f"{asked['fine'].evidence.start:g} to {asked['fine'].evidence.end:g} s" in asked["fine"].question
    assert view(replace(operation.intervals[0], attributes={"instrument": "hook"})) == "the hook is used"


def test_what_is_too_short_is_not_asked(clip):
    assert free_text_tasks(clip, LANGUAGE, np.random.default_rng(0)) == []
    two = tuple(Interval(Window(start, start + 10), f"step {start}") for start in (0, 10))
    recording = Recording("video", "video.mp4", 20, two, "set", split="sft")
    kinds = [task.kind for task in free_text_tasks(recording, Language(), np.random.default_rng(0))]
    assert kinds == ["full", "fine", "perception"], "temporal asks for what lies between two others"


def test_the_teacher_looks_where_it_must_and_answers_with_the_reference(operation, environment, tiny_budget):
    seconds = skim_seconds(operation.duration, tiny_budget.skim_frames)
    for kind, task in ask(operation).items():
        teacher = ScriptedTeacher(task, operation, seconds, operation.duration, 0.0, np.random.default_rng(0))
        turns = run_episode(teacher, task, environment).turns
        assert is_well_formed(list(turns)) and parse_answer(turns[-1]) == task.reference.text
        assert len(turns) == (2 if kind in ("fine", "perception") else 1)
        if kind == "fine":
            _, arguments = parse_tool_call(find_tool_call(turns[0]))
            assert arguments == {"start_time": task.evidence.start, "end_time": task.evidence.end}


def trajectories(recording, environment):
    asked, recordings = list(ask(recording).values()), {recording.video: recording}
    return make_trajectories(asked, recordings, environment, LANGUAGE.describe, 0.0, 0.0, seed=0)


def test_free_text_trajectories_are_executed_checked_and_kept_with_tools_at_hand(operation, environment):
    kept, rejected = trajectories(operation, environment)
    assert rejected == Counter() and len(kept) == len(FREE_TEXT_KINDS)
    assert all(t.tools for t in kept) and sum(bool(t.calls) for t in kept) == 2


@pytest.mark.parametrize("telling", TELLINGS)
def test_a_telling_keeps_task_and_answer(telling, operation, environment):
    kept = trajectories(operation, environment)[0]
    durations = {operation.video: operation.duration}
    for trajectory, told in zip(kept, retell(kept, telling, durations, seed=0), strict=True):
        assert told.task == trajectory.task and is_well_formed(list(told.turns))
        assert parse_answer(told.turns[-1]) == parse_answer(trajectory.turns[-1])
        if telling in ("text_cot", "answer_only"):
            assert len(told.turns) == 1 and not told.tools and "look" not in told.turns[0]
        else:
            assert len(told.turns) == len(trajectory.turns) and told.tools


def test_a_random_window_is_as_long_and_inside_the_video(operation):
    call = '<tool_call>{"name": "crop_video", "arguments": {"start_time": 10, "end_time": 40}}</tool_call>'
    frame = '<tool_call>{"name": "get_frame", "arguments": {"timestamp": 12}}</tool_call>'
    turns = (f"<think>a</think>{call}", f"<think>b</think>{frame}", "<think>c</think><answer>d</answer>")
    trajectory = Trajectory(ask(operation)["full"], turns)
    durations = {operation.video: operation.duration}
    starts = set()
    for told in retell([trajectory] * 30, "random_window", durations, seed=0):
        _, crop = parse_tool_call(find_tool_call(told.turns[0]))
        _, instant = parse_tool_call(find_tool_call(told.turns[1]))
        assert crop["end_time"] - crop["start_time"] == 30 and crop["start_time"] >= 0
        assert crop["end_time"] <= operation.duration and 0 <= instant["timestamp"] < operation.duration
        starts.add(crop["start_time"])
    assert len(starts) > 10
    with pytest.raises(ValueError, match="choose one of tools, text_cot"):
        retell([trajectory], "backwards", durations, seed=0)
