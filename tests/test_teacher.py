"""The scripted teacher as an agent, and what is kept of the trajectories that it makes in the real environment."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from flat import LANGUAGE

from medscope.agents.protocol import run_episode
from medscope.environment import ClinicalVideoEnvironment
from medscope.environment.environment import step
from medscope.environment.grammar import find_tool_call, is_well_formed, parse_answer, parse_tool_call
from medscope.environment.tools import skim_seconds
from medscope.evaluation.judge import exact_judge
from medscope.metrics import evidence_window, temporal_iou
from medscope.records import Timestamp, Window
from medscope.suite.oracle import oracle_turns
from medscope.suite.tasks import closed_tasks
from medscope.suite.teachers.scripted import UNSEEN, ScriptedTeacher
from medscope.suite.trajectories import MIN_WINDOW_IOU, faults, make_trajectories


def ask(recording):
    return closed_tasks(recording, LANGUAGE, np.random.default_rng(0))


def of_kind(recording, kind, subject=None):
    return next(task for task in ask(recording) if task.kind == kind and task.subject == (subject or task.subject))


def teach(recording, task, budget, boundary_slack=0.0, tools=True, teacher=ScriptedTeacher):
    seconds = skim_seconds(recording.duration, budget.skim_frames)
    rng = np.random.default_rng(0)
    return teacher(task, recording, seconds, recording.duration, boundary_slack, rng, tools=tools)


def said(*seconds):
    """A dialogue in which one look has shown these seconds."""
    frames = [{"type": "image", "image": None, "second": second} for second in seconds]
    return [
        {"role": "user", "content": "the question"},
        {"role": "assistant", "content": "a call"},
        {"role": "tool", "content": frames},
    ]


def test_episodes_are_well_formed_and_look_at_seconds_of_the_skim(recording, environment, tiny_budget):
    anchors = {*skim_seconds(recording.duration, tiny_budget.skim_frames), round(recording.duration)}
    for task in ask(recording):
        for boundary_slack in (0, 0.5, 1):
            trajectory = run_episode(teach(recording, task, tiny_budget, boundary_slack), task, environment)
            assert is_well_formed(list(trajectory.turns))
            looks = 0 if task.kind == "order" else 1 if isinstance(task.evidence, Window) else 2
            assert [call.name for call in trajectory.calls] == ["crop_video", "get_frame"][:looks]
            assert len(trajectory.turns) == looks + 1 and all(call.executed for call in trajectory.calls)
            assert not looks or set(trajectory.calls[0].arguments.values()) <= anchors
            direct = run_episode(teach(recording, task, tiny_budget, tools=False), task, environment, tools=False)
            assert is_well_formed(list(direct.turns)) and not direct.calls and not direct.tools


def test_the_teacher_looks_around_the_evidence_and_slack_looks_wider(recording, tiny_budget):
    seconds = skim_seconds(recording.duration, tiny_budget.skim_frames)
    gap = max(np.diff([*seconds, recording.duration]))
    for task in ask(recording):
        careful, bold = (teach(recording, task, tiny_budget, boundary_slack).window() for boundary_slack in (1, 0))
        assert careful.start <= bold.start and bold.end <= careful.end and careful.length > bold.length
        evidence = task.evidence
        if isinstance(evidence, Timestamp):
            assert bold.contains(evidence.time)
        else:  # each edge is the next second of the skim
            assert 0 <= bold.start - evidence.start < gap and 0 <= bold.end - evidence.end < gap


def test_details_are_named_only_after_a_frame_that_shows_them(operation, tiny_budget):
    task = of_kind(operation, "instrument", "resection")
    interval = next(interval for interval in operation.intervals if interval.label == task.subject)
    before, inside = interval.window.start - 1, interval.window.start + 0.5
    for seconds, answer in (((before, inside), task.reference.text), ((before,), UNSEEN), ((), UNSEEN)):
        teacher = teach(operation, task, tiny_budget)
        teacher.next_turn([])
        turn = teacher.next_turn(said(*seconds))
        assert parse_answer(turn) == answer
        assert (interval.attributes["instrument"] in turn) == (answer != UNSEEN)


def test_a_window_is_known_without_the_details(operation, tiny_budget):
    task = of_kind(operation, "grounding", "resection")
    teacher = teach(operation, task, tiny_budget)
    teacher.next_turn([])
    turn = teacher.next_turn(said(0.0))
    assert turn.startswith("<think>resection</think>") and exact_judge(parse_answer(turn), task.reference) == 1


def test_details_can_be_seen_everywhere_in_their_interval(operation, tiny_budget):
    task = of_kind(operation, "instrument", "resection")
    for second in (task.evidence.start, task.evidence.end):
        teacher = teach(operation, task, tiny_budget)
        teacher.next_turn([])
        assert parse_answer(teacher.next_turn(said(second))) == task.reference.text


def test_an_oracle_takes_the_looks_of_the_teacher_or_crops_the_evidence(operation, tiny_budget, store):
    task = of_kind(operation, "instrument", "resection")
    for frames in (tiny_budget.skim_frames, 1):  # a skim of one frame shows the incision alone
        budget = replace(tiny_budget, skim_frames=frames)
        turns = oracle_turns(task, operation, store, budget)
        _, arguments = parse_tool_call(find_tool_call(turns[-1]))
        if frames == 1:
            assert arguments == {"start_time": task.evidence.start, "end_time": task.evidence.end}
        else:
            episode = run_episode(teach(operation, task, budget), task, ClinicalVideoEnvironment(store, budget))
            assert turns == list(episode.turns[:-1]) and parse_answer(turns[-1]) is None


def make(recording, asked, environment, boundary_slack=0.5, direct_share=0.5):
    recordings = {recording.video: recording}
    return make_trajectories(asked, recordings, environment, LANGUAGE.describe, boundary_slack, direct_share, seed=0)


def test_trajectories_that_are_kept_pass_format_answer_and_window(recording, environment):
    asked = ask(recording)
    kept, rejected = make(recording, asked, environment)
    with_tools = [trajectory for trajectory in kept if trajectory.tools]
    assert len(with_tools) >= 0.9 * sum(task.challenging for task in asked)
    assert set(rejected) <= {"window", "answer"}
    for trajectory in kept:
        assert is_well_formed(list(trajectory.turns)) and trajectory.task in asked
        assert trajectory.tools == bool(trajectory.calls) == (len(trajectory.turns) > 1)
    for trajectory in with_tools:
        task = trajectory.task
        assert task.challenging and all(call.executed for call in trajectory.calls)
        assert exact_judge(parse_answer(trajectory.turns[-1]), task.reference) == 1
        window = next(call.looked for call in reversed(trajectory.calls) if call.name == "crop_video")
        assert temporal_iou(window, evidence_window(task.evidence)) >= MIN_WINDOW_IOU
        environment.reset(path=recording.path)
        for turn in trajectory.turns[:-1]:
            step(environment, turn)
        assert tuple(environment.trace.calls) == trajectory.calls  # they are what the turns really call


def test_trajectories_come_in_the_order_of_their_tasks(operation, clip, environment):
    """They are made video by video, so that the store decodes each once."""
    asked = [task for pair in zip(ask(clip), ask(operation), strict=False) for task in pair]
    recordings = {recording.video: recording for recording in (operation, clip)}
    kept, _ = make_trajectories(asked, recordings, environment, LANGUAGE.describe, 0.0, 0.0, seed=0)
    assert [trajectory.task for trajectory in kept] == asked


def test_easy_tasks_and_a_share_of_the_others_are_answered_without_tools(operation, environment):
    asked = ask(operation)
    for share in (0, 1):
        direct = {t.task for t in make(operation, asked, environment, direct_share=share)[0] if not t.tools}
        assert direct == {task for task in asked if task.kind == "order" or share}


def test_the_same_seed_makes_the_same_trajectories(operation, environment):
    assert make(operation, ask(operation), environment) == make(operation, ask(operation), environment)


@pytest.mark.parametrize(
    "changes, reasons",
    [
        ({}, []),
        ({"reference": Window(100, 140)}, ["answer"]),
        ({"evidence": Window(100, 140)}, ["window"]),
        ({"evidence": Timestamp(50)}, []),  # an instant in the crop is shown, however short
        ({"evidence": Timestamp(140)}, ["window"]),
        ({"reference": Window(100, 140), "evidence": Window(100, 140)}, ["answer", "window"]),
    ],
)
def test_a_teacher_that_is_wrong_about_the_task_is_rejected(changes, reasons, operation, environment, tiny_budget):
    task = replace(of_kind(operation, "grounding", "resection"), **changes)  # it takes place from 30 to 76 s
    assert faults(run_episode(teach(operation, task, tiny_budget), task, environment)) == reasons
    kept, rejected = make(operation, [task], environment, boundary_slack=0, direct_share=0)
    assert (len(kept), rejected) == (0 if reasons else 1, Counter(reasons))


class Sloppy(ScriptedTeacher):
    """Forgets to think before it answers."""

    def dense_turn(self, window, seen):
        return super().dense_turn(window, seen).partition("</think>")[2]


class Astray(ScriptedTeacher):
    """Looks at the end of the video, whatever was asked."""

    def window(self):
        return Window(self.anchors[-3], self.anchors[-1])


class Distracted(ScriptedTeacher):
    """Names another instrument than the one that it was shown."""

    def dense_turn(self, window, seen):
        return super().dense_turn(window, seen).replace(f"<answer>{self.task.reference.text}", "<answer>crayon")


@pytest.mark.parametrize(
    "teacher, reasons",
    [(Sloppy, ["format"]), (Distracted, ["answer"]), (Astray, ["answer", "window"])],
)
def test_a_careless_teacher_is_rejected(teacher, reasons, operation, environment, tiny_budget):
    task = of_kind(operation, "instrument", "resection")
    trajectory = run_episode(teach(operation, task, tiny_budget, teacher=teacher), task, environment)
    assert faults(trajectory) == reasons


def test_a_label_that_the_skim_does_not_see_is_not_taught(operation, store, tiny_budget):
    environment = ClinicalVideoEnvironment(store, replace(tiny_budget, skim_frames=1))  # sees second 0 alone
    kept, rejected = make(operation, ask(operation), environment, direct_share=1)
    assert {trajectory.task.subject for trajectory in kept} <= {"incision"}
    assert rejected["unseen in the skim"] == sum(task.subject != "incision" for task in ask(operation))
