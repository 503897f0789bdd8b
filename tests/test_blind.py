"""The baseline without a video, by hand."""

from dataclasses import replace

from predicted import task

from medscope.evaluation.blind import predict_blind, teaching_tasks
from medscope.records import Timestamp, Window

DURATIONS = {"a": 100.0, "b": 200.0}


def test_it_gives_the_most_frequent_answer_of_the_kind_about_the_subjects_of_the_set():
    training = [
        *(task(n, "hook", kind="tool", split="sft", subject="cut") for n in range(2)),
        *(task(n, "blade", kind="tool", split="sft", subject="sew") for n in range(3)),
        *(task(n, "bleed", kind="event", split="sft", subject="cut") for n in range(9)),
    ]
    cut, sew = task(0, "hook", kind="tool", subject="cut"), task(1, "hook", kind="tool", subject="sew", collection="b")
    found = predict_blind(training, [cut, sew], DURATIONS)
    assert [p.answer for p in found] == ["hook", "blade"] and [p.accuracy for p in found] == [1, 0]
    both = predict_blind(training, [cut, task(1, "hook", kind="tool", subject="sew")], DURATIONS)
    assert [p.answer for p in both] == ["blade", "blade"]


def test_it_guesses_among_the_options_of_a_question():
    training = [
        *(task(n, "leak", kind="first", split="sft", subject="cut") for n in range(3)),
        *(task(n, "tear", kind="first", split="sft", subject="cut") for n in range(3, 5)),
    ]
    asked = replace(task(9, "tear", kind="first", subject="cut"), options=("burn", "tear"))
    assert [p.answer for p in predict_blind(training, [asked], DURATIONS)] == ["tear"]


def test_it_places_a_window_where_its_subject_lies_on_average():
    training = [
        task(0, "x", Window(10, 30), split="sft", subject="cut"),  # .1 to .3
        task(1, "x", Window(60, 100), split="sft", subject="cut", video="b"),  # .3 to .5
    ]
    (found,) = predict_blind(training, [task(0, Window(40, 80), subject="cut", video="b")], DURATIONS)
    assert found.answer == "from 40 to 80 s" and found.accuracy == 1 and found.calls == ()
    (found,) = predict_blind(training, [task(0, Timestamp(61), subject="cut", video="b")], DURATIONS)
    assert found.answer == "60 s" and found.accuracy == 1


def test_what_it_never_learned_it_answers_with_nothing_or_the_whole_video():
    text, window = task(0, "hook", subject="cut"), task(1, Window(0, 100), subject="cut")
    assert [p.answer for p in predict_blind([], [text, window], DURATIONS)] == ["", "from 0 to 100 s"]


def test_it_learns_from_closed_tasks_of_the_supervised_splits_only():
    tasks = [task(n, "x", split=split) for n, split in enumerate(("warm_up", "sft", "rl", "eval"))]
    tasks.append(task(4, "x", split="sft", free_text=True))
    assert [t.id for t in teaching_tasks(tasks)] == ["set:0", "set:1"]
