"""The rendered procedures as a source."""

from pathlib import Path

import pytest

from medscope.environment import open_video
from medscope.sources.make import make_source
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


def test_unknown_names_are_refused(tmp_path):
    with pytest.raises(ValueError, match="collections: cataract is unknown; the rendered world has procedures, clips"):
        ProcedureSource(tmp_path, {"cataract": {"eval": 1}}, SKIM_FRAMES, seed=0)
    with pytest.raises(ValueError, match="test is unknown"):
        ProcedureSource(tmp_path, {"clips": {"test": 1}}, SKIM_FRAMES, seed=0)
