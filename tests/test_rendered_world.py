"""The rendered procedures: timelines that nest and hide, pairs that training never shows, pictures that repeat."""

from collections import Counter
from dataclasses import replace
from itertools import pairwise

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medscope.environment.tools import ToolBudget, crop_seconds, skim_seconds
from medscope.records import Interval, Recording, Window
from medscope.sources.rendered.camera import draw, write_video
from medscope.sources.rendered.collections import COLLECTIONS, sample_recording, view_of
from medscope.sources.rendered.painters import VIEWS
from medscope.sources.rendered.timeline import LEVELS, visible
from medscope.sources.rendered.words import (
    CAMERA,
    COUNTS,
    EVENTS,
    INSTRUMENTS,
    PHASES,
    PREFERRED,
    SIDES,
    STEPS,
    WITHHELD_EVENTS,
    WITHHELD_PHASES,
)

SKIM_FRAMES = 24
PROCEDURES = [name for name, profile in COLLECTIONS.items() if profile.kind == "procedure"]
TRAINING = [name for name, profile in COLLECTIONS.items() if profile.domain == "in"]


def sample(collection, seed=0, skim_frames=SKIM_FRAMES, rho=0.5, path="unused.mp4"):
    return sample_recording(
        collection, f"{collection}_{seed}", "rl", path, skim_frames, rho, np.random.default_rng(seed)
    )


def level(recording, name):
    return [i for i in recording.intervals if i.attributes["level"] == name]


def within(intervals, window):
    return [i for i in intervals if window.start <= i.window.start and i.window.end <= window.end]


def overlap(a, b):
    return max(0.0, min(a.end, b.end) - max(a.start, b.start))


def tiled(window, intervals):
    assert intervals[0].window.start == window.start and intervals[-1].window.end == window.end
    assert all(a.window.end == b.window.start and a.label != b.label for a, b in pairwise(intervals))


recordings = st.builds(
    sample, st.sampled_from(list(COLLECTIONS)), st.integers(0, 10**6), st.sampled_from([16, 20, 24, 32])
)
procedures = st.tuples(st.sampled_from(PROCEDURES), st.integers(0, 10**6), st.sampled_from([16, 20, 24, 32]))


@settings(deadline=None, max_examples=40)
@given(recordings)
def test_levels_nest(recording):
    phases, steps, events, camera = (level(recording, name) for name in LEVELS)
    tiled(Window(0, recording.duration), phases)
    for phase in phases:
        inner = within(steps, phase.window)
        tiled(phase.window, inner)
        assert 1 <= len(inner) <= 4
    for event in events:
        [step] = [s for s in steps if overlap(s.window, event.window)]
        assert within([event], step.window) and 6 <= event.window.length <= 12
        assert [e for e in events if overlap(e.window, step.window)] == [event]
    assert all(t == int(t) for i in recording.intervals for t in (i.window.start, i.window.end))
    assert all(overlap(a.window, b.window) == 0 for a, b in pairwise(camera))
    order = [(i.window.start, -i.window.length) for i in recording.intervals]
    assert order == sorted(order) and len(order) == len(phases) + len(steps) + len(events) + len(camera)


@settings(deadline=None, max_examples=40)
@given(procedures)
def test_the_skim_shows_every_phase_and_no_event(arguments):
    recording, profile = sample(*arguments), COLLECTIONS[arguments[0]]
    skim = skim_seconds(recording.duration, arguments[2])
    gap = recording.duration / arguments[2]
    phases = level(recording, "phase")
    assert profile.phases[0] <= len(phases) <= profile.phases[1]
    assert profile.seconds[0] <= recording.duration <= profile.seconds[1]
    assert max(Counter(p.label for p in phases).values()) <= 2
    for phase in phases:
        assert 1.7 * gap <= phase.window.length <= profile.longest_phase
        assert any(visible(recording, second)["phase"] == phase.label for second in skim)
        assert any(phase.window.start <= second < phase.window.end for second in skim)
    for hidden in level(recording, "event") + level(recording, "camera"):
        assert all(second <= hidden.window.start - 0.6 or second >= hidden.window.end + 0.6 for second in skim)


@settings(deadline=None, max_examples=40)
@given(procedures)
def test_a_crop_of_a_step_meets_its_event_also_where_the_camera_hides_a_part(arguments):
    recording = sample(*arguments)
    events, camera = level(recording, "event"), level(recording, "camera")
    for step in level(recording, "step"):
        seconds = crop_seconds(step.window, 1, ToolBudget(crop_frames=8))
        for event in within(events, step.window):
            assert any(visible(recording, second)["event"] == event for second in seconds)
    for event in events:
        hiding = [c for c in camera if overlap(c.window, event.window)]
        assert len(hiding) <= 1 and sum(overlap(c.window, event.window) for c in hiding) <= 0.4 * event.window.length
        for c in hiding:
            assert c.label != "outside"
            assert c.window.start <= event.window.start or c.window.end >= event.window.end
    assert all(3 <= c.window.length <= 8 and c.label in CAMERA for c in camera)


@settings(deadline=None, max_examples=40)
@given(recordings)
def test_withheld_pairs(recording):
    view, phases = view_of(recording), level(recording, "phase")
    assert view in COLLECTIONS[recording.collection].views
    for phase in phases:
        new_phase = (view, phase.label) in WITHHELD_PHASES
        assert phase.attributes["view"] == view and phase.label in PHASES
        assert recording.collection == "composition" or not new_phase
        for event in within(level(recording, "event"), phase.window):
            new_event = (phase.label, event.label) in WITHHELD_EVENTS
            assert (new_event or new_phase) == (recording.collection == "composition")


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**6))
def test_clips_have_one_phase_and_a_timestamp_per_event(seed):
    clip = sample("clips", seed)
    events = level(clip, "event")
    assert 12 <= clip.duration <= 24 and len(level(clip, "phase")) == 1 and 1 <= len(events) <= 2
    assert not level(clip, "camera")
    for event in events:
        assert event.timestamp == event.window.start
        assert visible(clip, event.timestamp)["event"] == event


@pytest.mark.parametrize("collection", COLLECTIONS)
def test_the_same_arguments_give_the_same_recording(collection):
    assert sample(collection, 3) == sample(collection, 3)
    assert sample(collection, 3).intervals != sample(collection, 4).intervals


@pytest.mark.parametrize("rho", [0.2, 0.5, 0.8])
def test_the_instrument_depends_on_the_phase_as_much_as_rho_says_and_nothing_else_depends(rho):
    details, preferred = [], []
    for seed in range(160):
        recording = sample("procedures", seed, rho=rho)
        for phase in level(recording, "phase"):
            for event in within(level(recording, "event"), phase.window):
                preferred.append(event.attributes["instrument"] == PREFERRED[phase.label])
                details.append((event.label, *(event.attributes[k] for k in ("instrument", "side", "count"))))
    assert len(preferred) > 800 and np.mean(preferred) == pytest.approx(rho, abs=0.05)
    for place, words in ((0, EVENTS), (2, SIDES), (3, COUNTS)):
        shares = Counter(detail[place] for detail in details)
        assert all(shares[word] / len(details) == pytest.approx(1 / len(words), abs=0.06) for word in words)
    for a, b, words in ((0, 2, EVENTS), (1, 2, INSTRUMENTS), (3, 2, COUNTS)):  # the side is left to all of them
        for word in words:
            sides = [detail[b] == "left" for detail in details if detail[a] == word]
            assert np.mean(sides) == pytest.approx(0.25, abs=0.2)


def test_how_often_phases_repeat_events_occur_and_the_camera_is_blind():
    sampled = [sample("procedures", seed) for seed in range(200)]
    labels = [[p.label for p in level(r, "phase")] for r in sampled]
    assert np.mean([len(set(some)) < len(some) for some in labels]) == pytest.approx(0.4, abs=0.1)
    per_phase = [len(within(level(r, "event"), p.window)) for r in sampled for p in level(r, "phase")]
    assert np.mean(np.array(per_phase) == 0) == pytest.approx(0.25, abs=0.1) and max(per_phase) == 2
    blind = sum(len(level(r, "camera")) for r in sampled) / sum(r.duration for r in sampled)
    assert blind * 120 == pytest.approx(1, abs=0.3)
    half_hidden = sum(
        any(overlap(c.window, e.window) for c in level(r, "camera")) for r in sampled for e in level(r, "event")
    )
    assert half_hidden > 40


@pytest.mark.parametrize(
    "change, message",
    [
        ({"collection": "heart"}, "collection 'heart' is unknown; the rendered world has procedures, clips"),
        ({"rho": 1.2}, "rho is 1.2; it is a probability"),
        ({"skim_frames": 6}, "skim_frames 6 does not suit procedures"),
        ({"skim_frames": 64}, "skim_frames 64 does not suit procedures"),
    ],
)
def test_impossible_arguments_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        sample(**{"collection": "procedures"} | change)


def scene(view="eye", phase="incision", step="cutting", event="tear", camera="smoke", **details):
    details = {"instrument": "hook", "side": "left", "count": "two"} | details
    intervals = (
        Interval(Window(0, 30), phase, {"level": "phase", "view": view}),
        Interval(Window(0, 30), step, {"level": "step"}),
        Interval(Window(8, 16), event, {"level": "event"} | details),
        Interval(Window(14, 18), camera, {"level": "camera"}),
    )
    return Recording("v", "v.mp4", 30, intervals, "procedures")


def test_visible_is_what_the_camera_leaves():
    recording = scene()
    clear = {"phase": "incision", "step": "cutting", "event": None, "camera": None}
    assert visible(recording, 0) == visible(recording, 7.9) == visible(recording, 18) == visible(recording, 30) == clear
    assert visible(recording, 8) == visible(recording, 13) == clear | {"event": recording.intervals[2]}
    blind = {"phase": None, "step": None, "event": None, "camera": "smoke"}
    assert visible(recording, 14) == visible(recording, 17) == blind
    for second in (-1, 31):
        with pytest.raises(ValueError, match="v, which lasts 30 s"):
            visible(recording, second)
        with pytest.raises(ValueError, match="v, which lasts 30 s"):
            draw(recording, second)


def test_frames_repeat_and_move():
    recording = scene()
    frame = draw(recording, 5)
    assert frame.shape == (112, 112, 3) and frame.dtype == np.uint8
    np.testing.assert_array_equal(frame, draw(scene(), 5))
    assert (frame != draw(recording, 6)).mean() > 0.3
    assert (frame != draw(replace(recording, video="w"), 5)).mean() > 0.3


@pytest.mark.parametrize("view", VIEWS)
def test_every_word_changes_the_picture(view):
    def distance(name, words, second):
        frames = [draw(scene(view, **{name: word}), second).astype(float) for word in words]
        return min(np.abs(a - b).mean() for i, a in enumerate(frames) for b in frames[:i])

    assert distance("phase", PHASES, 0) > 4
    assert distance("step", STEPS, 0) > 2
    assert distance("event", EVENTS, 10) > 2
    assert distance("camera", CAMERA, 15) > 10
    assert distance("instrument", INSTRUMENTS, 10) > 0.5
    assert distance("side", SIDES, 10) > 1
    assert distance("count", COUNTS, 10) > 0.1


@pytest.mark.parametrize("camera", CAMERA)
def test_a_blind_camera_shows_neither_phase_nor_event(camera):
    frames = [draw(scene(camera=camera, phase=phase), 15).astype(float) for phase in PHASES]
    assert max(np.abs(frame - frames[0]).mean() for frame in frames) < 6
    event, none = draw(scene(camera=camera), 15), draw(scene(camera=camera, event="bubbles"), 15)
    assert np.abs(event.astype(float) - none).mean() < 2


def test_the_file_shows_the_frames_and_repeats_to_the_byte(tmp_path):
    recording = sample("clips", 1, path=tmp_path / "a.mp4")
    write_video(recording)
    again = replace(recording, path=str(tmp_path / "b.mp4"))
    write_video(again)
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()
    with av.open(recording.path) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(frames) == recording.duration
    for second, frame in enumerate(frames):
        assert np.abs(frame.astype(float) - draw(recording, second)).mean() < 8
