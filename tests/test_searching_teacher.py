"""Tasks about nested annotations, and the teacher that searches: coarse to fine, rejecting, zooming, recovering."""

from dataclasses import replace

import numpy as np
import pytest
from media import write_mp4

from medscope.environment import ClinicalVideoEnvironment, FrameStore
from medscope.environment.grammar import find_tool_call, is_well_formed, parse_answer, parse_tool_call, parse_window
from medscope.environment.tools import ToolBudget, crop_seconds, crop_window
from medscope.metrics import evidence_window, temporal_iou
from medscope.records import Interval, Recording, Task, Text, Window
from medscope.sources.source import TEMPLATES, Language
from medscope.suite.nested_tasks import CHOOSE, FIND, FIRST, NONE, WHICH, is_nested, nested_tasks
from medscope.suite.tasks import GROUNDING, ORDER
from medscope.suite.teachers.searching import SearchingTeacher
from medscope.suite.teachers.thoughts import Run, place, runs, story, told
from medscope.suite.trajectories import MIN_WINDOW_IOU, make_trajectories

BUDGET = ToolBudget(max_calls=6, skim_frames=20, crop_frames=12)
LANGUAGE = Language(
    {**TEMPLATES, "tool": ("Which tool is used at the {label} of the {within}?",)},
    options=("bleed", "tear", "burn", "leak"),
)


def interval(start: float, end: float, label: str, level: str, **attributes: str) -> Interval:
    return Interval(Window(start, end), label, {"level": level, **attributes})


@pytest.fixture
def recording() -> Recording:
    """300 s: wash, cut, wash again; the second wash bleeds from 212 to 220, the cut tears and then burns."""
    intervals = (
        interval(0, 80, "wash", "phase"),
        interval(0, 80, "hold", "step"),
        interval(80, 170, "cut", "phase"),
        interval(80, 130, "pull", "step"),
        interval(92, 101, "tear", "event", tool="hook"),
        interval(130, 170, "push", "step"),
        interval(140, 149, "burn", "event", tool="blade"),
        interval(170, 250, "wash", "phase"),
        interval(170, 200, "hold", "step"),
        interval(200, 250, "push", "step"),
        interval(212, 220, "bleed", "event", tool="hook"),
        interval(216, 220, "smoke", "camera"),
        interval(250, 300, "sew", "phase"),
        interval(250, 300, "hold", "step"),
    )
    return Recording("film", "film.mp4", 300, intervals, "films", split="sft", group="film")


def tasks(recording: Recording) -> list[Task]:
    return nested_tasks(recording, LANGUAGE, np.random.default_rng(0))


def task(recording: Recording, kind: str, subject: str = "", within: str = "") -> Task:
    return next(t for t in tasks(recording) if (t.kind, t.subject, t.within) == (kind, subject, within))


def play(
    recording: Recording, task: Task, seed: int = 1, budget: ToolBudget = BUDGET, allowed: int = 99, **settings: float
) -> tuple[list[str], list[Window], list[str]]:
    """The turns, the windows of the crops that were executed, and the names of all calls; one frame a second.

    Calls after the first `allowed` are refused.
    """
    teacher = SearchingTeacher(task, recording, budget, np.random.default_rng(seed), **settings)
    messages, turns, windows, names = [{"role": "user", "content": []}], [], [], []
    while True:
        turns.append(teacher.next_turn(messages))
        call = find_tool_call(turns[-1])
        if call is None:
            return turns, windows, names
        name, arguments = parse_tool_call(call)
        names.append(name)
        if len(names) > allowed:
            shown = []
        elif name == "get_frame":
            shown = [arguments["timestamp"] + step for step in (-1, 0, 1)]
        elif arguments["end_time"] < arguments["start_time"]:
            shown = []
        else:
            windows.append(crop_window(**arguments, duration=recording.duration, budget=BUDGET))
            shown = [float(round(second)) for second in crop_seconds(windows[-1], 1.0, BUDGET)]
        messages.append({"role": "tool", "content": [{"second": second} for second in shown]})


def test_a_flat_annotation_is_not_nested(recording):
    assert is_nested(recording)
    assert not is_nested(Recording("a", "a.mp4", 9, (Interval(Window(0, 9), "wash"),), "films"))


def test_every_question_has_one_answer(recording):
    found = tasks(recording)
    assert {t.kind for t in found} == {GROUNDING, ORDER, FIND, WHICH, CHOOSE, FIRST, "tool"}
    assert {t.subject for t in found if t.kind == GROUNDING} == {"cut", "sew"}  # `wash` comes twice
    assert task(recording, WHICH, "bleed", "wash").reference == Window(170, 250)
    assert task(recording, FIND, "bleed", "wash").least_calls == 3  # the first wash, the second, a closer look
    assert task(recording, FIRST, within="cut").reference == Text("tear")
    assert task(recording, CHOOSE, within="sew").reference == Text(NONE)
    assert len({t.id for t in found}) == len(found)


def test_a_choice_names_its_answer_among_four(recording):
    chosen = task(recording, CHOOSE, within="sew")
    assert set(chosen.options) == {"bleed", "tear", "burn", "leak"}
    assert all(option in chosen.question for option in chosen.options)


def test_runs_of_frames_and_their_edges(recording):
    found = runs(recording, [88, 91, 94, 100, 103], innermost=True)
    assert found == [Run("pull", (88, 91)), Run("tear", (94, 100)), Run("pull", (103,))]
    assert (place(found, 1).inner, place(found, 1).outer) == (Window(94, 103), Window(91, 103))
    assert told(found) == "pull 88s pull 91s tear 94s tear 100s pull 103s"
    assert story(found, 110) == "pull 88s pull 91s tear 94s tear 100s pull 103s end 110s"
    assert place(found, 2).inner == Window(103, 103)
    assert place(found, 2, end=110).inner == Window(103, 110)
    assert str(place(found, 0)) == f"{found[0].label} 88 88 94"


def test_smoke_hides_the_event_and_does_not_cut_the_phase(recording):
    assert [run.label for run in runs(recording, [210, 214, 217, 222], innermost=True)] == [
        "push",
        "bleed",
        "smoke",
        "push",
    ]
    assert runs(recording, [210, 217, 222], innermost=False) == [Run("wash", (210, 222))]


def test_it_rejects_the_first_candidate_and_looks_elsewhere(recording):
    turns, windows, _ = play(recording, task(recording, WHICH, "bleed", "wash"))
    assert windows == [Window(0, 90), Window(165, 255)]  # both edges as the skim shows them, every 15 s
    assert "| look | wash 0 0 90 | wash 165 180 255<" in turns[0]  # all candidates, the first one is next
    assert turns[1].startswith("<think>hold ")
    assert " | which wash bleed | not seen | look | wash 165 180 255" in turns[1]  # then elsewhere
    assert turns[2].startswith("<think>push 168s hold 176s ") and "bleed 213s" in turns[2]
    assert (
        " | which wash bleed | seen | cut 168s wash 176s " in turns[2]
    )  # the look once more, for the edges of the phase
    assert turns[2].endswith("sew 251s | answer | wash 168 176 251</think><answer>from 176 to 251 s</answer>")


def test_it_zooms_in_until_the_edges_are_seen(recording):
    turns, windows, _ = play(recording, task(recording, FIND, "tear", "cut"))
    assert len(windows) == 2
    assert windows[1].length < 0.6 * windows[0].length
    assert temporal_iou(parse_window(parse_answer(turns[-1])), Window(92, 101)) > 0.7


def test_an_attribute_takes_one_frame_inside_the_event(recording):
    turns, _, names = play(recording, task(recording, "tool", "burn", "cut"))
    assert names[-1] == "get_frame"
    assert parse_answer(turns[-1]) == "blade"


def test_without_patience_attributes_are_guessed_after_the_crops(recording):
    guessed = 0
    for seed in range(40):
        turns, windows, names = play(recording, task(recording, "tool", "burn", "cut"), seed, early_stop=1.0)
        assert len(windows) == 2 and parse_answer(turns[-1]) == "blade"
        if names == ["crop_video", "crop_video"]:
            guessed += 1
            assert " | seen | answer | blade<" in turns[-1]
    assert guessed == 40


@pytest.mark.parametrize("kind", [FIND, "tool"])
def test_without_patience_the_first_closer_look_is_the_last(recording, kind):
    asked = task(recording, kind, "burn", "cut")
    (_, whole, _), (turns, windows, _) = (play(recording, asked, early_stop=chance) for chance in (0.0, 1.0))
    assert len(whole) == 3 and len(windows) == 2 and windows[0] == whole[0]
    assert windows[1].start < whole[1].start and whole[1].end < windows[1].end, "with a frame too many on each side"
    assert kind != FIND or "| seen | answer | burn" in turns[-1]
    assert temporal_iou(windows[-1], Window(140, 149)) > 0.5 * MIN_WINDOW_IOU


@pytest.mark.parametrize("mistakes", [0.0, 1.0])
def test_one_call_is_kept_for_the_frame(recording, mistakes):
    """Of three calls two are crops; the first mistake would take the one for the frame."""
    asked = task(recording, "tool", "bleed", "wash")
    budget = replace(BUDGET, max_calls=3)
    turns, _, names = play(recording, asked, mistakes=mistakes, budget=budget)
    assert len(names) <= 3
    assert names[-1] == "get_frame" or parse_answer(turns[-1]) == "not seen"


def test_a_frame_that_does_not_show_the_event_names_nothing(recording):
    teacher = SearchingTeacher(task(recording, "tool", "burn", "cut"), recording, BUDGET, np.random.default_rng(0))
    turn = teacher.next_turn([])
    shown = [{"role": "tool", "content": [{"second": s} for s in (90.0, 100.0, 110.0)]}]
    while "get_frame" not in turn and find_tool_call(turn):
        turn = teacher.next_turn(shown)
        shown = [{"role": "tool", "content": [{"second": s} for s in (135.0, 141.0, 142.0, 160.0)]}]
    assert parse_answer(teacher.next_turn([{"role": "tool", "content": [{"second": 12.0}]}])) == "not seen"


def test_nothing_is_said_only_after_looks_that_cannot_miss(recording):
    turns, windows, _ = play(recording, task(recording, CHOOSE, within="sew"))
    assert parse_answer(turns[-1]) == NONE
    assert windows


def test_a_mistaken_call_is_corrected(recording):
    turns, windows, names = play(recording, task(recording, GROUNDING, "cut"), mistakes=1.0)
    assert len(names) == 2
    assert len(windows) == 1
    assert turns[1].startswith("<think>swap | grounding cut | ")
    assert is_well_formed(turns)


def test_a_mistake_may_begin_in_the_thought(recording):
    """Its place is then written the wrong way round, and the right one after the refusal."""
    wrong = 0
    for seed in range(20):
        turns, *_ = play(recording, task(recording, GROUNDING, "cut"), seed=seed, mistakes=1.0)
        first, second = (turn.split("</think>")[0].split(" | ")[-1] for turn in turns[:2])
        assert second == "cut 75 90 180"
        assert first in (second, "cut 180 90 75")
        wrong += first != second
    assert 4 < wrong < 16


def test_every_thought_says_what_is_asked(recording):
    for asked in tasks(recording):
        turns, *_ = play(recording, asked, mistakes=0.3)
        words = " ".join(filter(None, (asked.kind, asked.within, asked.subject, *asked.options)))
        assert all(turn.partition("</think>")[0].split(" | ")[1] == words for turn in turns), turns


def test_every_trajectory_is_well_formed_and_within_the_budget(recording):
    for asked in tasks(recording):
        turns, windows, names = play(recording, asked, early_stop=0.5, mistakes=0.3)
        assert is_well_formed(turns), turns
        assert len(names) <= BUDGET.max_calls
        assert (len(names) == 0) == (not asked.challenging)
        if windows and asked.kind == GROUNDING:
            assert temporal_iou(windows[-1], evidence_window(asked.evidence)) > 0.5


def test_without_tools_it_answers_from_the_skim(recording):
    asked = task(recording, FIND, "tear", "cut")
    turns = [SearchingTeacher(asked, recording, BUDGET, np.random.default_rng(0), tools=False).next_turn([])]
    assert is_well_formed(turns)
    assert parse_window(parse_answer(turns[0])) == Window(90, 180)


@pytest.mark.parametrize(
    "kind, subject, within",
    [(FIND, "bleed", "wash"), (FIRST, "", "cut"), (WHICH, "bleed", "wash")],
)
def test_a_call_too_many_is_followed_by_the_answer_that_was_seen(recording, kind, subject, within):
    asked = task(recording, kind, subject, within)
    most = len(play(recording, asked)[2])
    for allowed in range(1, most):
        turns, _, names = play(recording, asked, allowed=allowed)
        assert len(names) == allowed + 1 and is_well_formed(turns)
        assert turns[-1].startswith("<think>used | ")
    answer = parse_answer(turns[-1])
    if kind == WHICH:
        assert answer == "not seen", "the look that was refused is the one at the second wash"
    elif isinstance(asked.reference, Window):
        assert temporal_iou(parse_window(answer), asked.reference) >= 0.3
    else:
        assert answer == asked.reference.text


@pytest.fixture
def film(recording, tmp_path) -> Recording:
    """The recording with a film behind it, a frame a second."""
    return replace(recording, path=str(write_mp4(tmp_path / "film.mp4", range(300))))


def test_some_trajectories_end_with_a_refused_call_and_none_is_lost(film, monkeypatch):
    """The others are the same with and without refusals: the second search draws what the first drew."""
    environment = ClinicalVideoEnvironment(FrameStore(), BUDGET)
    made = {}
    for chance in (0.0, 1.0):
        monkeypatch.setattr("medscope.suite.trajectories.SPENT", chance)
        asked = [t for t in tasks(film) if t.challenging]
        made[chance], _ = make_trajectories(asked, {film.video: film}, environment, str, 0.0, 0.0, seed=0)
    assert [t.task.id for t in made[0.0]] == [t.task.id for t in made[1.0]]
    refused = [t for t in made[1.0] if t.calls and t.calls[-1].message == "all tool calls are used; answer now"]
    assert {t.task.kind for t in refused} >= {FIND, FIRST} and len(refused) < len(made[1.0])
    for whole, short in zip(made[0.0], made[1.0], strict=True):
        count = len(short.turns) - (1 if short in refused else 0)
        assert short.turns[:count] == whole.turns[:count]


@pytest.mark.parametrize("early_stop", [0.0, 0.01])
def test_an_attribute_whose_frame_is_refused_is_not_guessed(recording, early_stop):
    asked = task(recording, "tool", "tear", "cut")
    most = len(play(recording, asked)[2])
    refused = next(
        turns
        for seed in range(9)
        if len(turns := play(recording, asked, seed, allowed=most - 1, early_stop=early_stop)[0]) > most
    )
    assert parse_answer(refused[-1]) == "not seen"
