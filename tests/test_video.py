"""Seconds in, frames out: both decoders, broken files, sizes, and real recordings."""

import subprocess
import sys

import numpy as np
import pytest
from media import grey_frames, level_index, packaged_video, turned_right, write_audio, write_mp4, write_ultrasound
from timed import TENTHS, UNEVEN, even_fixture, large_fixture, uneven_fixture  # noqa: F401

import medscope.environment.frame_store as frame_store
from medscope.environment.decoders import DECODERS
from medscope.environment.environment import ClinicalVideoEnvironment
from medscope.environment.frame_store import FrameStore
from medscope.environment.tools import ToolBudget
from medscope.environment.video import VideoError, fit, open_video


@pytest.mark.parametrize("name", ["even", "uneven", "late", "rendered"])
def test_both_decoders_agree_on_every_frame_and_time(name, even, uneven, clip, tmp_path):
    late = write_mp4(tmp_path / "late.mp4", TENTHS + 3)  # its first frame is not at 0
    path = {"even": even, "uneven": uneven, "late": late, "rendered": clip.path}[name]
    decord, pyav = open_video(path, "decord"), open_video(path, "pyav")
    assert decord.starts == pytest.approx(pyav.starts, abs=1e-5) and decord.starts[0] == 0
    assert decord.duration == pytest.approx(pyav.duration, abs=1e-5)
    indices = [*range(len(decord.starts)), 0, 7, 7]  # back and forth, and one twice
    assert np.array_equal(decord.read(indices), pyav.read(indices))


@pytest.mark.parametrize("decoder", DECODERS)
def test_an_even_file_has_the_length_and_rate_it_was_written_with(decoder, even):
    video = open_video(even, decoder)
    assert (video.duration, video.fps) == (pytest.approx(1.2, abs=1e-5), pytest.approx(10, abs=1e-4))


@pytest.mark.parametrize("decoder", DECODERS)
def test_times_are_right_at_a_variable_frame_rate(decoder, uneven):
    video = open_video(uneven, decoder)
    asked = [0, 0.4, 0.46, 0.74, 1.2, 1.4, 2.84, 3.6, 3.7]
    expected = [0, 2, 3, 4, 5, 6, 7, 11, 11]  # with index / fps, second 1.2 would be frame 4
    frames, times = video.frames_at(asked)
    assert [level_index(frame) for frame in frames] == expected
    assert times == pytest.approx(UNEVEN[expected], abs=1e-5)


@pytest.mark.parametrize("time", [-0.01, 1.3, float("nan"), float("inf"), float("-inf")])
def test_a_time_outside_of_the_video_is_refused(time, even):
    with pytest.raises(VideoError, match=r"even\.mp4: .* outside of this video \(0 to 1\.20 s\)"):
        open_video(even).frames_at([0.5, time])


def broken(kind, folder):
    path = folder / f"{kind}.mp4"
    if kind in ("truncated", "truncated_after_its_header"):
        frames = np.random.default_rng(0).integers(0, 255, (30, 64, 64, 3), dtype=np.uint8)
        write_mp4(path, np.arange(30) / 10, frames, faststart=kind == "truncated_after_its_header")
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif kind == "empty":
        path.touch()
    elif kind == "audio":
        write_audio(path)
    elif kind == "text":
        path.write_text("this is not a video\n" * 100)
    elif kind == "playlist":  # FFmpeg would open the file that it names
        write_mp4(folder / "neighbour.mp4", TENTHS)
        path.write_text("ffconcat version 1.0\nfile neighbour.mp4\n")
    elif kind == "folder":
        path.mkdir()
    return path


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize(
    "kind, reason",
    [
        ("missing", "no such video file"),
        ("folder", "no such video file"),
        ("empty", "0 bytes"),
        ("truncated", "truncated"),
        ("truncated_after_its_header", "cannot open"),
        ("audio", "no video stream"),
        ("text", "not a video file"),
        ("playlist", "not a video file"),
    ],
)
def test_a_broken_file_is_an_error_that_names_it(kind, reason, decoder, tmp_path):
    path = broken(kind, tmp_path)
    with pytest.raises(VideoError) as error:
        open_video(path, decoder)
    assert str(error.value).startswith(f"{path}: ") and reason in str(error.value)


def test_a_file_without_frame_times_is_refused(tmp_path):
    write_mp4(tmp_path / "old.avi", TENTHS)
    with pytest.raises(VideoError, match=r"old\.avi: decord finds no presentation times"):
        open_video(tmp_path / "old.avi")


def test_an_unknown_decoder_is_refused(even):
    with pytest.raises(VideoError, match=r"unknown decoder 'guess'.*decord.*pyav"):
        open_video(even, "guess")


def test_a_video_of_one_frame_can_be_looked_at(tmp_path, tiny_budget):
    environment = ClinicalVideoEnvironment(FrameStore(), tiny_budget)
    environment.reset(path=str(write_mp4(tmp_path / "still.mp4", [0.0])))
    assert [block["text"] for block in environment.get_frame(0)[1::2]] == [" 0s"]


def test_frames_fit_into_their_pixels_and_keep_their_shape():
    image = fit(grey_frames(1, size=(640, 360))[0], 7056)
    assert image.width % 28 == 0 and image.height % 28 == 0 and image.width * image.height <= 7056
    assert image.width > image.height
    assert fit(grey_frames(1, size=(16, 16))[0], 784).size == (28, 28)


@pytest.mark.parametrize("max_pixels", [784, 3136, 7056])
def test_a_video_read_in_one_pass_shows_the_frames_that_seeking_finds(max_pixels, operation):
    seconds = [140.0, 3.0, 77.4, 21.6]
    at_once, times = FrameStore().frames(operation.path, seconds, max_pixels)
    one_by_one = FrameStore(max_bytes=1)  # keeps no video and no frame
    for image, time, second in zip(at_once, times, seconds, strict=True):
        (other,), (other_time,) = one_by_one.frames(operation.path, [second], max_pixels)
        assert time == other_time and image.size == other.size and image.tobytes() == other.tobytes()


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("turned", [False, True])
def test_large_frames_are_scaled_by_the_decoder_and_upright(decoder, turned, large, tmp_path, monkeypatch):
    path = turned_right(large, tmp_path / "turned.mp4") if turned else large
    store = FrameStore(decoder, max_bytes=1 << 18)
    video = store.video(str(path))
    assert video.size == ((480, 640) if turned else (640, 480))
    full = fit(video.read([7])[0], 50_176)
    monkeypatch.setattr(frame_store, "fit", None)  # the way of small videos
    image = store.frames(str(path), [0.7], 50_176)[0][0]
    assert image.size == full.size == ((168, 252) if turned else (252, 168))
    places = [(0.5, 0.1), (0.1, 0.5), (0.9, 0.5)]
    seen = [image.getpixel((int(x * image.width), int(y * image.height))) for x, y in places]
    red, green, grey = (200, 0, 0), (0, 200, 0), (140, 140, 140)
    np.testing.assert_allclose(seen, [green, grey, red] if turned else [red, green, grey], atol=25)
    assert np.abs(np.asarray(image, dtype=int) - np.asarray(full, dtype=int)).mean() < 3


@pytest.mark.slow
def test_no_reader_is_open_when_python_ends(large):
    """A decord reader that scales and is then still alive takes the process down with it (not always)."""
    code = f"""
import atexit
atexit.register(lambda: print(len(video._decoder.readers)))  # the first to be registered is the last to be called
from medscope.environment.video import open_video
video = open_video({str(large)!r})
video.read([0], (28, 28))
print(len(video._decoder.readers))"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "1\n0\n"), done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize(
    "name, size, frames, duration",
    [
        ("bikes.mp4", (640, 272), 250, 10.0),
        ("bigbuckbunny.mp4", (1280, 720), 132, 5.28),
        ("ultrasound.mp4", (320, 240), 30, 1.0),
    ],
)
def test_real_recordings_pass_through_the_tools(name, size, frames, duration, decoder, tmp_path):
    path = write_ultrasound(tmp_path / name) if name == "ultrasound.mp4" else packaged_video(name)
    video = open_video(path, decoder)
    assert len(video.starts) == frames and video.duration == pytest.approx(duration, abs=0.01)
    assert video.read([0, frames - 1]).shape == (2, size[1], size[0], 3)

    budget = ToolBudget(crop_frames=30)
    environment = ClinicalVideoEnvironment(FrameStore(decoder), budget)
    environment.reset(path=str(path))
    crop = environment.crop_video(0, min(1.0, video.duration))
    look = environment.get_frame(duration / 2)
    assert [call.executed for call in environment.trace.calls] == [True, True]
    for blocks, count, pixels in ((crop, round(frames / duration), 50_176), (look, 3, 200_704)):
        images, times = [b["image"] for b in blocks[::2]], [b["second"] for b in blocks[::2]]
        assert len({image.info["frame"] for image in images}) == len(images) == count  # no frame twice
        assert all(image.width * image.height <= pixels for image in images)
        assert times == sorted(times) and times[-1] <= video.duration
