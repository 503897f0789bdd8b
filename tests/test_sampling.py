"""Which tasks are taken: kinds, answers and videos in turns, a smaller sample within a larger one."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from medscope.records import Task, Text, Window
from medscope.suite.sampling import in_turns, sample_tasks


def task(number, kind="side", answer="left", video="a", split="sft"):
    reference = Text(answer) if answer else Window(number, number + 1)
    return Task(f"{video}/{kind}/{number}", video, "v.mp4", "?", reference, Window(0, 1), kind, split, "set")


def test_a_rare_kind_and_a_rare_answer_have_their_turn():
    frequent = [task(n, "find", "", f"v{n % 5}") for n in range(40)]
    sides = [task(n, "side", "left", f"v{n % 5}") for n in range(20)] + [
        task(30 + n, "side", "above") for n in range(4)
    ]
    taken = in_turns([*frequent, *sides], 16)
    assert Counter(t.kind for t in taken) == {"find": 8, "side": 8}
    assert Counter(t.reference.text for t in taken if t.kind == "side") == {"left": 4, "above": 4}
    assert max(Counter(t.video for t in taken).values()) <= 6  # of 6 videos; the rare answer has one


def test_no_video_gives_more_than_its_share_and_other_splits_give_nothing():
    tasks = [task(n, video=f"v{n % 3}", split="sft" if n % 2 else "rl") for n in range(60)]
    for split in ("sft", "rl"):
        chosen = sample_tasks(tasks, split, 4, seed=1)
        assert Counter(t.video for t in chosen) == {"v0": 4, "v1": 4, "v2": 4} and {t.split for t in chosen} == {split}
    assert sample_tasks(tasks, "sft", 4, seed=1) != sample_tasks(tasks, "sft", 4, seed=2)


drawn = st.tuples(st.sampled_from("abc"), st.sampled_from(["", "x", "y"]), st.sampled_from("uvw"))


@given(st.lists(drawn, max_size=20), st.integers(0, 20), st.integers(0, 20))
def test_a_smaller_sample_lies_within_a_larger_one_and_both_keep_the_order(made, few, more):
    tasks = [task(n, kind, answer, video) for n, (kind, answer, video) in enumerate(made)]
    small, large = in_turns(tasks, min(few, more)), in_turns(tasks, max(few, more))
    assert set(map(id, small)) <= set(map(id, large)) and len(large) == min(len(tasks), max(few, more))
    assert [tasks.index(t) for t in large] == sorted(tasks.index(t) for t in large)
