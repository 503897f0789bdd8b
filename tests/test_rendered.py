"""The rendered source: timelines, what a skim can and cannot see, and the files on disk."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest

from medscope.sources.rendered.drawing import draw
from medscope.sources.rendered.looks import DETAILS
from medscope.sources.rendered.world import FAMILIES, render, sample_recording, write_video
from medscope.environment.tools import skim_seconds

SKIM_FRAMES = 16


def sample(family, seed=0, path="unused.mp4", skim_frames=SKIM_FRAMES):
    return sample_recording(family, f"{family}_rl_{seed:04d}", "rl", path, skim_frames, np.random.default_rng(seed))


def with_other_details(recording):
    family = FAMILIES[recording.family]

    def other(names, name):
        return names[(names.index(name) + 1) % len(names)] if name else None

    segments = (
        replace(
            segment,
            instrument=other(family.instruments, segment.instrument),
            complication=other(family.complications, segment.complication),
        )
        for segment in recording.segments
    )
    return replace(recording, segments=tuple(segments))


def decode(path):
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


@pytest.mark.parametrize("duration, frames, expected", [(10, 4, [0, 2, 5, 8]), (3.7, 16, [0, 1, 2]), (64, 2, [0, 32])])
def test_skim_seconds(duration, frames, expected):
    assert skim_seconds(duration, frames) == expected


@pytest.mark.parametrize("skim_frames", [8, 12, 16, 24, 32])
@pytest.mark.parametrize("family", FAMILIES)
def test_timelines_are_valid(family, skim_frames):
    kind = FAMILIES[family]
    for seed in range(40):
        recording = sample(family, seed, skim_frames=skim_frames)
        skim = skim_seconds(recording.duration, skim_frames)
        segments = recording.segments
        assert kind.seconds[0] <= recording.duration <= kind.seconds[1] and recording.duration % 1 == 0
        assert kind.scenes[0] <= len(segments) <= kind.scenes[1]
        assert len({segment.phase for segment in segments}) == len(segments)
        for segment in segments:
            assert segment.phase in kind.phases and segment.instrument in kind.instruments
            assert segment.complication in (kind.complications or (None,))
            assert segment.shown
            for stretch in segment.shown:
                assert segment.window.start <= stretch.start < stretch.end <= segment.window.end
                assert not any(stretch.contains(second) for second in skim)
        if kind.moments:
            moments = [segment.moment for segment in segments]
            assert set(moments) <= set(skim)
            assert all(1 <= moment <= recording.duration - 1 for moment in moments)
            assert all(later - earlier >= 2 for earlier, later in pairwise(moments))
        else:
            assert segments[0].window.start == 0 and segments[-1].window.end == recording.duration
            assert all(one.window.end == next_one.window.start for one, next_one in pairwise(segments))
            assert all(segment.window.length >= kind.least_phase for segment in segments)
            assert all(any(s.window.start <= second < s.window.end for second in skim) for s in segments)
        if kind.gap > 1:
            shown = [stretch for segment in segments for stretch in segment.shown]
            assert all(stretch.length >= 1.5 for stretch in shown)
            assert all(abs(edge - second) >= 0.5 for w in shown for edge in (w.start, w.end) for second in skim)


def test_names_are_single_words_of_one_meaning():
    families = [FAMILIES[name] for name in ("cataract", "laparoscopy", "clips")]
    names = [name for f in families for name in (*f.phases, *f.instruments, *f.complications)]
    assert len(names) == len(set(names))
    assert all(name.isalpha() and name.islower() for name in names)
    assert len({name for f in families for name in f.instruments}) == 15
    assert set(DETAILS) == {name for f in families for name in (*f.instruments, *f.complications)}


def test_a_skim_that_leaves_no_gap_is_refused():
    with pytest.raises(ValueError, match="too coarse or too fine"):
        sample("cataract", skim_frames=200)


@pytest.mark.parametrize("family", FAMILIES)
def test_details_are_hidden_from_the_skim_and_plain_between(family):
    recording = sample(family, seed=5)
    other = with_other_details(recording)
    for second in skim_seconds(recording.duration, SKIM_FRAMES):
        assert np.array_equal(draw(recording, second), draw(other, second))
    for segment in recording.segments:
        for stretch in segment.shown[:2]:
            time = (stretch.start + stretch.end) / 2
            changed = np.abs(draw(recording, time).astype(int) - draw(other, time)).max(axis=2) > 40
            assert changed.mean() > 0.03


def test_moments_can_be_seen_at_their_second():
    recording = sample("clips", seed=2)
    nothing = replace(recording, segments=())
    for segment in recording.segments:
        seen = np.abs(draw(recording, segment.moment).astype(int) - draw(nothing, segment.moment)).mean()
        assert seen > 20
        assert np.array_equal(draw(recording, segment.moment - 1), draw(nothing, segment.moment - 1))


def test_draw_refuses_times_outside_of_the_video():
    recording = sample("clips")
    with pytest.raises(ValueError, match="outside"):
        draw(recording, recording.duration + 1)


@pytest.mark.parametrize("family", ["clips", "laparoscopy_clips"])
def test_the_file_shows_what_draw_shows(family, tmp_path):
    recording = sample(family, seed=1, path=tmp_path / "video.mp4")
    write_video(recording, SKIM_FRAMES)
    frames = decode(recording.path)
    fps = FAMILIES[family].fps
    assert len(frames) == recording.duration * fps
    for index, frame in enumerate(frames):
        assert np.abs(frame.astype(int) - draw(recording, index / fps)).mean() < 12
    assert [path.name for path in tmp_path.iterdir()] == ["video.mp4"]


def test_write_video_refuses_details_that_a_skim_would_see(tmp_path):
    recording = sample("laparoscopy_clips", path=tmp_path / "video.mp4")
    first = recording.segments[0]
    careless = replace(recording, segments=(replace(first, shown=(first.window,)), *recording.segments[1:]))
    with pytest.raises(ValueError, match="would see"):
        write_video(careless, SKIM_FRAMES)


def test_render_repeats_grows_and_keeps(tmp_path):
    one = render({("clips", "rl"): 1, ("clips", "eval"): 1}, tmp_path / "one", 7, SKIM_FRAMES)
    two = render({("clips", "eval"): 2}, tmp_path / "two", 7, SKIM_FRAMES)
    assert [recording.video for recording in one] == ["clips_rl_0000", "clips_eval_0000"]
    assert replace(one[1], path="") == replace(two[0], path="")
    assert Path(one[1].path).read_bytes() == Path(two[0].path).read_bytes()
    assert Path(one[0].path) == tmp_path / "one" / "clips" / "clips_rl_0000.mp4"
    written = Path(two[0].path).stat().st_mtime_ns
    assert render({("clips", "eval"): 2}, tmp_path / "two", 7, SKIM_FRAMES) == two
    assert Path(two[0].path).stat().st_mtime_ns == written
    assert one[0].segments != render({("clips", "rl"): 1}, tmp_path / "other", 8, SKIM_FRAMES)[0].segments


def test_render_in_processes_gives_the_same_bytes(tmp_path):
    alone = render({("clips", "sft"): 2}, tmp_path / "alone", 0, SKIM_FRAMES, workers=1)
    together = render({("clips", "sft"): 2}, tmp_path / "together", 0, SKIM_FRAMES, workers=2)
    assert [Path(r.path).read_bytes() for r in alone] == [Path(r.path).read_bytes() for r in together]
