"""The rendered procedures as a source."""

from dataclasses import replace
from pathlib import Path

import pytest

from medscope.environment import open_video
from medscope.sources.make import make_source
from medscope.sources.rendered import procedures
from medscope.sources.rendered.procedures import ProcedureSource
from medscope.sources.rendered.words import PREFERRED

SKIM_FRAMES = 16


def test_the_source_draws_what_it_says_and_keeps_it(tmp_path):
    source = make_source(
        "procedures", folder=tmp_path, collections={"clips": {"eval": 2}}, skim_frames=SKIM_FRAMES, seed=3
    )
    found = list(source.recordings())
    assert [r.video for r in found] == ["clips_eval_0000", "clips_eval_0001"]
    assert [open_video(r.path).duration for r in found] == [r.duration for r in found]
    written = [Path(r.path).stat().st_mtime_ns for r in found]
    assert list(source.recordings()) == found
    assert [Path(r.path).stat().st_mtime_ns for r in found] == written


def test_rho_ties_the_instrument_to_the_phase(tmp_path):
    """At 1 every event has the instrument of its phase; at 0 none has."""
    for rho in (1.0, 0.0):
        source = ProcedureSource(tmp_path, {"clips": {"sft": 1}}, SKIM_FRAMES, seed=0, rho=rho)
        for index in range(20):
            phase, *inner = source._sample("clips", "sft", index).intervals
            used = {interval.attributes.get("instrument") for interval in inner} - {None}
            assert used and (used == {PREFERRED[phase.label]} if rho else PREFERRED[phase.label] not in used)


def render(folder, collections, seed=7, workers=1):
    return list(ProcedureSource(folder, collections, SKIM_FRAMES, seed, workers=workers).recordings())


def test_the_source_repeats_grows_and_keeps(tmp_path):
    one = render(tmp_path / "one", {"clips": {"eval": 1, "rl": 1}})
    two = render(tmp_path / "two", {"clips": {"eval": 2}})
    assert [recording.video for recording in one] == ["clips_rl_0000", "clips_eval_0000"]
    assert replace(one[1], path="") == replace(two[0], path="")
    assert Path(one[1].path).read_bytes() == Path(two[0].path).read_bytes()
    assert Path(one[0].path) == tmp_path / "one" / "clips" / "clips_rl_0000.mp4"
    assert one[0].intervals != render(tmp_path / "other", {"clips": {"rl": 1}}, seed=8)[0].intervals


def test_a_film_of_another_seed_or_of_other_code_is_drawn_anew(tmp_path, monkeypatch):
    [old] = render(tmp_path, {"clips": {"eval": 1}})
    before = Path(old.path).read_bytes()
    [new] = render(tmp_path, {"clips": {"eval": 1}}, seed=8)
    assert new.path == old.path and new.intervals != old.intervals
    assert Path(new.path).read_bytes() != before, "labels of one seed over the film of another"
    Path(new.path).write_bytes(b"not drawn by this code")
    monkeypatch.setattr(procedures, "_code", lambda: "edited")
    render(tmp_path, {"clips": {"eval": 1}}, seed=8)
    assert Path(new.path).read_bytes() != b"not drawn by this code"


def test_a_kill_in_the_middle_of_a_line_draws_that_video_again(tmp_path):
    [recording] = render(tmp_path, {"clips": {"eval": 1}})
    memory = tmp_path / ".drawn.txt"
    memory.write_text(memory.read_text()[:15])
    Path(recording.path).write_bytes(b"half")
    assert render(tmp_path, {"clips": {"eval": 1}}) == [recording]
    assert Path(recording.path).read_bytes() != b"half"


@pytest.mark.slow
def test_processes_draw_the_same_bytes(tmp_path):
    alone = render(tmp_path / "alone", {"clips": {"sft": 2}}, seed=0)
    together = render(tmp_path / "together", {"clips": {"sft": 2}}, seed=0, workers=2)
    assert [Path(r.path).read_bytes() for r in alone] == [Path(r.path).read_bytes() for r in together]


@pytest.mark.slow
def test_recordings_come_split_by_split_with_collection_group_and_domain(tmp_path):
    found = render(tmp_path, {"view": {"eval": 1}, "clips": {"eval": 1, "sft": 1}})
    assert [(r.split, r.collection, r.domain) for r in found] == [
        ("sft", "clips", "in"),
        ("eval", "view", "out"),
        ("eval", "clips", "in"),
    ]
    assert all(recording.group == recording.video for recording in found)


@pytest.mark.parametrize(
    "collections, message",
    [
        ({"dentistry": {"eval": 1}}, "collections: dentistry is unknown; the rendered world has procedures, clips"),
        ({"clips": {"train": 1}}, "collections.clips: train is unknown; the rendered world has warm_up"),
    ],
)
def test_unknown_names_are_refused(collections, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        render(tmp_path, collections)


def test_an_unknown_source_is_refused():
    with pytest.raises(ValueError, match="source 'webcam' is unknown; choose one of procedures"):
        make_source("webcam")
