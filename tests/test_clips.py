"""Clips of a window: cut at a key frame, played by browsers, without what the file says about itself."""

import io

import av
import numpy as np
import pytest
from media import level_index, packaged_video, turned_right, write_mp4

from medscope.records import Window
from medscope.reporting.clips import cut_clip

HALF_SECONDS = [i / 2 for i in range(40)]  # a key frame every 8 frames: at 0, 4, 8, .. s


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    return write_mp4(tmp_path_factory.mktemp("films") / "film.mp4", HALF_SECONDS)


def decoded(clip):
    """{second of the video: grey level} of the frames of a clip."""
    with av.open(io.BytesIO(clip.content)) as container:
        stream = container.streams.video[0]
        return {
            round(clip.start + float(frame.pts * stream.time_base), 3): level_index(frame.to_ndarray(format="rgb24"))
            for frame in container.decode(stream)
        }


def test_a_clip_begins_at_the_key_frame_before_its_window_and_shows_all_of_it(film):
    clip = cut_clip(str(film), Window(9, 12), 1 << 20)
    frames = decoded(clip)
    assert clip.kind == "video/mp4" and clip.start == 8
    assert all(level == round(second * 2) % 12 for second, level in frames.items())
    assert {second for second in HALF_SECONDS if 8 <= second <= 12} <= set(frames)
    assert max(frames) < 16  # nothing of the next group of pictures


def test_a_clip_at_the_end_and_of_a_whole_video(film):
    assert set(decoded(cut_clip(str(film), Window(19, 20), 1 << 20))) == {16 + i / 2 for i in range(8)}
    assert len(decoded(cut_clip(str(film), Window(0, 20), 1 << 20))) == 40


def test_a_clip_over_its_bound_is_none(film):
    whole = cut_clip(str(film), Window(0, 20), 1 << 20)
    assert cut_clip(str(film), Window(0, 20), len(whole.content)) == whole
    assert cut_clip(str(film), Window(0, 20), len(whole.content) - 1) is None
    assert cut_clip(str(film), Window(0, 20), 100) is None


def test_a_codec_that_no_browser_plays_has_no_clip(tmp_path):
    with av.open(str(tmp_path / "old.avi"), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 64
        for level in range(10):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((64, 64, 3), level * 20, np.uint8))))
        container.mux(stream.encode())
    assert cut_clip(str(tmp_path / "old.avi"), Window(0, 1), 1 << 20) is None


def test_a_clip_is_as_upright_as_its_video_and_says_nothing_of_its_file(film, tmp_path):
    named = tmp_path / "named.mp4"
    with av.open(str(film)) as source, av.open(str(named), "w", format="mp4") as made:
        made.metadata["title"] = "patient 17"
        copy = made.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(source.streams.video[0]):
            if packet.dts is not None:
                packet.stream = copy
                made.mux(packet)
    assert b"patient 17" in named.read_bytes()
    assert b"patient 17" not in cut_clip(str(named), Window(9, 12), 1 << 20).content
    turned = cut_clip(str(turned_right(film, tmp_path / "turned.mp4")), Window(9, 12), 1 << 20)
    with av.open(io.BytesIO(turned.content)) as container:
        assert next(container.decode(container.streams.video[0])).rotation == -90


def test_a_real_recording_with_sound_gives_a_silent_clip():
    clip = cut_clip(str(packaged_video("bigbuckbunny.mp4")), Window(2, 4), 8 << 20)
    with av.open(io.BytesIO(clip.content)) as container:
        assert [stream.type for stream in container.streams] == ["video"]
    seconds = sorted(decoded(clip))
    assert seconds[0] == pytest.approx(clip.start) and clip.start <= 2 and 3.9 < seconds[-1] < 4.5
