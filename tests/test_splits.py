"""Splits: published ones are kept, groups stay together, a recording that is added moves no other."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medscope.records import Recording
from medscope.suite.splits import SHARES, assign_splits, group_of


def recording(video, group="", split=None, domain="in"):
    return Recording(video, f"{video}.mp4", 60, (), "set", domain=domain, split=split, group=group)


@st.composite
def collections(draw):
    """Recordings in groups; the published split of a group, if any, is that of all its published videos."""
    published = draw(st.dictionaries(st.sampled_from("abcdef"), st.sampled_from(list(SHARES)), max_size=4))
    rows = draw(st.lists(st.tuples(st.sampled_from(["", *"abcdef"]), st.booleans()), max_size=30))
    return [
        recording(f"video{number}", group, published.get(group) if tells else None)
        for number, (group, tells) in enumerate(rows)
    ]


@given(collections(), st.integers(0, 3))
def test_every_recording_has_a_split_and_no_group_is_separated(recordings, seed):
    assigned = assign_splits(recordings, SHARES, seed)
    assert [r.video for r in assigned] == [r.video for r in recordings]
    splits = {}
    for before, after in zip(recordings, assigned, strict=True):
        assert after.split == (before.split or after.split) is not None
        assert splits.setdefault(group_of(after), after.split) == after.split


@given(collections(), st.text(min_size=1, max_size=5))
def test_a_recording_added_later_moves_no_other(recordings, name):
    grown = assign_splits([recording(f"new {name}"), *recordings])
    assert grown[1:] == assign_splits(recordings)


def test_the_shares_are_those_that_are_asked_for_and_the_seed_draws():
    recordings = [recording(f"video{number}") for number in range(2000)]
    shares = {"warm_up": 0.0, "sft": 0.5, "rl": 0.2, "eval": 0.3}
    counts = Counter(r.split for r in assign_splits(recordings, shares))
    assert set(counts) == {"sft", "rl", "eval"}
    assert all(abs(counts[split] / 2000 - share) < 0.04 for split, share in shares.items())
    assert assign_splits(recordings, shares, seed=1) != assign_splits(recordings, shares, seed=0)


def test_published_splits_are_kept_and_their_group_joins_them():
    recordings = [recording("one", "patient"), recording("two", "patient", "rl"), recording("three", "", "eval")]
    assert [r.split for r in assign_splits(recordings)] == ["rl", "rl", "eval"]


def test_out_of_domain_recordings_are_for_evaluation():
    recordings = [recording(f"video{number}", domain="out") for number in range(20)]
    assert {r.split for r in assign_splits(recordings)} == {"eval"}


@pytest.mark.parametrize(
    "recordings, message",
    [
        ([recording("a", "p", "sft"), recording("b", "p", "eval")], r"group p is in the splits sft and eval \(b\)"),
        ([recording("a"), recording("a")], "video 'a' comes twice"),
        ([recording("a", split="sft", domain="out")], "out-of-domain collection set and in split sft"),
        ([recording("a", "p", "sft"), recording("b", "p", domain="out")], "group p is in the splits sft and eval"),
    ],
)
def test_what_would_leak_is_refused(recordings, message):
    with pytest.raises(ValueError, match=message):
        assign_splits(recordings)


def test_shares_that_are_none_are_refused():
    with pytest.raises(ValueError, match="add up to 1"):
        assign_splits([], {"sft": 0.5, "eval": 0.4})
