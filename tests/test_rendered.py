"""The rendered source: timelines, what a skim can and cannot see, and the files on disk."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from pydantic import TypeAdapter

from medscope.environment.tools import skim_seconds
from medscope.records import Recording
from medscope.sources.make import make_source
from medscope.sources.rendered import source
from medscope.sources.rendered.drawing import draw
from medscope.sources.rendered.looks import DETAILS
from medscope.sources.rendered.scene import shown_in
from medscope.sources.rendered.source import RenderedSource
from medscope.sources.rendered.world import FAMILIES, sample_recording, write_video

SKIM_FRAMES = 16


def sample(family, seed=0, path="unused.mp4", skim_frames=SKIM_FRAMES):
    return sample_recording(family, f"{family}_rl_{seed:04d}", "rl", path, skim_frames, np.random.default_rng(seed))


def with_other_details(recording):
    family = FAMILIES[recording.collection]
    names = {"instrument": family.instruments, "complication": family.complications}

    def other(kind, name):
        return names[kind][(names[kind].index(name) + 1) % len(names[kind])]

    intervals = (
        replace(scene, attributes={kind: other(kind, name) for kind, name in scene.attributes.items()})
        for scene in recording.intervals
    )
    return replace(recording, intervals=tuple(intervals))


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
        scenes = recording.intervals
        assert kind.seconds[0] <= recording.duration <= kind.seconds[1] and recording.duration % 1 == 0
        assert kind.scenes[0] <= len(scenes) <= kind.scenes[1]
        assert len({scene.label for scene in scenes}) == len(scenes)
        for scene in scenes:
            assert scene.label in kind.phases and scene.attributes["instrument"] in kind.instruments
            assert scene.attributes.get("complication") in (kind.complications or (None,))
            assert scene.shown
            for stretch in scene.shown:
                assert scene.window.start <= stretch.start < stretch.end <= scene.window.end
                assert not any(stretch.contains(second) for second in skim)
        if kind.timestamps:
            times = [scene.timestamp for scene in scenes]
            assert set(times) <= set(skim)
            assert all(1 <= time <= recording.duration - 1 for time in times)
            assert all(later - earlier >= 2 for earlier, later in pairwise(times))
        else:
            assert scenes[0].window.start == 0 and scenes[-1].window.end == recording.duration
            assert all(one.window.end == next_one.window.start for one, next_one in pairwise(scenes))
            assert all(scene.window.length >= kind.least_phase for scene in scenes)
            assert all(any(s.window.start <= second < s.window.end for second in skim) for s in scenes)
        if kind.gap > 1:
            shown = [stretch for scene in scenes for stretch in scene.shown]
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
    for scene in recording.intervals:
        for stretch in scene.shown[:2]:
            time = (stretch.start + stretch.end) / 2
            changed = np.abs(draw(recording, time).astype(int) - draw(other, time)).max(axis=2) > 40
            assert changed.mean() > 0.03


def test_events_can_be_seen_at_their_second():
    recording = sample("clips", seed=2)
    nothing = replace(recording, intervals=())
    for scene in recording.intervals:
        seen = np.abs(draw(recording, scene.timestamp).astype(int) - draw(nothing, scene.timestamp)).mean()
        assert seen > 20
        assert np.array_equal(draw(recording, scene.timestamp - 1), draw(nothing, scene.timestamp - 1))


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
    first = recording.intervals[0]
    careless = replace(recording, intervals=(replace(first, shown=(first.window,)), *recording.intervals[1:]))
    with pytest.raises(ValueError, match="would see"):
        write_video(careless, SKIM_FRAMES)


def render(folder, collections, seed=7, workers=1, out_of_domain=()):
    return list(RenderedSource(folder, collections, out_of_domain, SKIM_FRAMES, seed, workers).recordings())


def test_the_source_repeats_grows_and_keeps(tmp_path):
    one = render(tmp_path / "one", {"clips": {"eval": 1, "rl": 1}})
    two = render(tmp_path / "two", {"clips": {"eval": 2}})
    assert [recording.video for recording in one] == ["clips_rl_0000", "clips_eval_0000"]
    assert replace(one[1], path="") == replace(two[0], path="")
    assert Path(one[1].path).read_bytes() == Path(two[0].path).read_bytes()
    assert Path(one[0].path) == tmp_path / "one" / "clips" / "clips_rl_0000.mp4"
    written = Path(two[0].path).stat().st_mtime_ns
    assert render(tmp_path / "two", {"clips": {"eval": 2}}) == two
    assert Path(two[0].path).stat().st_mtime_ns == written
    assert one[0].intervals != render(tmp_path / "other", {"clips": {"rl": 1}}, seed=8)[0].intervals


def test_a_film_of_another_seed_or_of_other_code_is_drawn_anew(tmp_path, monkeypatch):
    [old] = render(tmp_path, {"clips": {"eval": 1}})
    before = Path(old.path).read_bytes()
    [new] = render(tmp_path, {"clips": {"eval": 1}}, seed=8)
    assert new.path == old.path and new.intervals != old.intervals
    assert Path(new.path).read_bytes() != before, "labels of one seed over the film of another"
    Path(new.path).write_bytes(b"not drawn by this code")
    monkeypatch.setattr(source, "_code", lambda: "edited")
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


def test_recordings_come_split_by_split_with_collection_group_and_domain(tmp_path):
    collections = {"clips": {"eval": 1, "sft": 1}, "laparoscopy_clips": {"sft": 1, "eval": 1}}
    found = render(tmp_path, collections, out_of_domain=["clips"])
    assert [(r.split, r.collection, r.domain) for r in found] == [
        ("sft", "clips", "out"),
        ("sft", "laparoscopy_clips", "in"),
        ("eval", "clips", "out"),
        ("eval", "laparoscopy_clips", "in"),
    ]
    assert all(recording.group == recording.video for recording in found)


@pytest.mark.parametrize(
    "collections, out_of_domain, message",
    [
        ({"dentistry": {"sft": 1}}, [], "collections: dentistry is unknown"),
        ({"clips": {"train": 1}}, [], "collections.clips: train is unknown; the rendered world has warm_up"),
        ({"clips": {"sft": 1}}, ["laparoscopy"], "out_of_domain: laparoscopy is unknown"),
    ],
)
def test_unknown_names_are_refused(collections, out_of_domain, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        render(tmp_path, collections, out_of_domain=out_of_domain)


def test_an_unknown_source_is_refused():
    with pytest.raises(ValueError, match="source 'webcam' is unknown; choose one of rendered"):
        make_source("webcam")


def test_what_only_the_drawing_program_knows_is_not_written():
    recording = sample("cataract")
    adapter = TypeAdapter(Recording)
    written = adapter.dump_json(recording)
    assert b"shown" not in written
    first = adapter.validate_json(written).intervals[0]
    assert (first.window, first.label, first.attributes) == (
        recording.intervals[0].window,
        recording.intervals[0].label,
        recording.intervals[0].attributes,
    )
    assert shown_in(first) == (first.window,) != shown_in(recording.intervals[0])
