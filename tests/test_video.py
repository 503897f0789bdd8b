"""Seconds in, frames out: both decoders, broken files, the frame store, and real recordings."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from media import grey_frames, level_index, packaged_video, turned_right, write_audio, write_mp4, write_ultrasound

import medscope.environment.frame_store as frame_store
from medscope.environment.decoders import DECODERS, DecordReader
from medscope.environment.environment import ClinicalVideoEnvironment
from medscope.environment.frame_store import FrameStore
from medscope.environment.tools import ToolBudget
from medscope.environment.video import Video, VideoError, fit, open_video

TENTHS = np.arange(12) / 10
UNEVEN = np.array([0, 0.1, 0.2, 0.7, 0.75, 0.8, 1.8, 2.8, 2.9, 3.0, 3.3, 3.6])


@pytest.fixture(scope="module")
def even(tmp_path_factory):
    return write_mp4(tmp_path_factory.mktemp("media") / "even.mp4", TENTHS)


@pytest.fixture(scope="module")
def uneven(tmp_path_factory):
    return write_mp4(tmp_path_factory.mktemp("media") / "uneven.mp4", UNEVEN)


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


@pytest.fixture
def reads(monkeypatch):
    """Every index that any video really decodes, in order."""
    decoded, read = [], Video.read

    def counted(video, indices, size=None):
        decoded.extend(indices)
        return read(video, indices, size)

    monkeypatch.setattr(Video, "read", counted)
    return decoded


def test_the_store_decodes_every_frame_once(even, reads):
    store = FrameStore(max_bytes=1 << 18)  # too small to take the whole video at once
    first, times = store.frames(str(even), [0, 0.31, 0.32, 0.9], 784)
    again, _ = store.frames(str(even), [0.9, 0.3, 0.6], 784)
    assert reads == [0, 3, 9, 6] and times == [0, 0.3, 0.3, 0.9]
    assert again[0] is first[3] and again[1] is first[1] is first[2]
    assert [image.info["frame"] for image in again] == [(str(even), i, 784) for i in (9, 3, 6)]
    store.frames(str(even), [0.9], 3136)  # another size is another image
    assert reads == [0, 3, 9, 6, 9]


def test_the_store_decodes_a_video_whole_that_takes_little_of_it(even, reads):
    store = FrameStore()
    for time in (0.3, 0.9):
        images, times = store.frames(str(even), [time], 784)
        assert (level_index(np.asarray(images[0])), times) == (round(10 * time), [time])
    store.frames(str(even), [0.9], 3136)  # another size: resized from the frames of the same pass
    assert reads == list(range(12))


def test_frames_that_nobody_asked_for_displace_no_other(even, uneven, monkeypatch):
    monkeypatch.setattr(frame_store, "SMALL_SHARE", 1)
    store = FrameStore(max_bytes=14 * 28 * 28 * 3)
    whole, _ = store.frames(str(even), [0.0], 784)
    store.frames(str(uneven), [0.0], 784)
    known = [key[:2] for key in store._frames]
    assert known == [*((str(even), i) for i in range(12)), (str(uneven), 0)]
    assert store.frames(str(even), [0.0], 784)[0][0] is whole[0]


@pytest.mark.parametrize("max_pixels", [784, 3136, 7056])
def test_a_video_read_in_one_pass_shows_the_frames_that_seeking_finds(max_pixels, operation):
    seconds = [140.0, 3.0, 77.4, 21.6]
    at_once, times = FrameStore().frames(operation.path, seconds, max_pixels)
    one_by_one = FrameStore(max_bytes=1)  # keeps no video and no frame
    for image, time, second in zip(at_once, times, seconds, strict=True):
        (other,), (other_time,) = one_by_one.frames(operation.path, [second], max_pixels)
        assert time == other_time and image.size == other.size and image.tobytes() == other.tobytes()


@pytest.mark.parametrize("room", [0, 1, 3, 5])  # frames; a request may be larger than the whole store
def test_the_store_stays_within_its_bytes_and_breaks_nothing(room, even, reads):
    size = 28 * 28 * 3
    store = FrameStore(max_bytes=room * size)
    for asked in ([0.0, 0.1, 0.2, 0.3], [0.3, 0.0], [0.1], [1.1, 0.3, 1.1]):
        images, times = store.frames(str(even), asked, 784)
        assert [level_index(np.asarray(image)) for image in images] == [round(10 * time) for time in asked]
        assert times == asked and store.bytes <= room * size
    assert len(reads) == {0: 9, 1: 8, 3: 7, 5: 5}[room]


def test_the_store_forgets_the_frames_not_used_for_longest(even, reads):
    store = FrameStore(max_bytes=2 * 28 * 28 * 3)
    for time in (0.0, 0.1, 0.0, 0.2, 0.0, 0.1):
        store.frames(str(even), [time], 784)
    assert reads == [0, 1, 2, 1]


def test_the_store_keeps_few_files_open_and_opens_them_again(even, uneven, clip):
    store = FrameStore(max_open=1, max_bytes=1)  # no frame is kept
    for _ in range(2):
        for path in (str(even), str(uneven), clip.path):
            assert len(store.frames(path, [0, 0.5], 784)[0]) == 2
            assert list(store._open) == [path]


def test_a_video_that_was_closed_is_opened_again_without_reading_its_times_again(even, uneven, monkeypatch):
    opened, times = [], DecordReader.__init__

    def counted(reader, path):
        opened.append(path)
        times(reader, path)

    monkeypatch.setattr(DecordReader, "__init__", counted)
    store = FrameStore(max_open=1, max_bytes=2 * 28 * 28 * 3)  # no frame is kept for long
    for _ in range(3):
        for path, index in ((str(even), 7), (str(uneven), 3)):
            time = float(store.video(path).starts[index])
            images, seconds = store.frames(path, [time], 784)
            assert level_index(np.asarray(images[0])) == index and seconds == [pytest.approx(time, abs=0.01)]
    assert opened == [str(even), str(uneven)]


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """640 x 480: a red band on top, a green one on the left, then grey that tells the index."""
    frames = grey_frames(12, (640, 480)).copy()
    frames[:, :160, :], frames[:, 160:, :160] = (200, 0, 0), (0, 200, 0)
    return write_mp4(tmp_path_factory.mktemp("media") / "large.mp4", TENTHS, frames)


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


def test_few_large_videos_stay_open(large, even, clip, monkeypatch):
    monkeypatch.setattr(frame_store, "OPEN_PIXELS", 640 * 480 + 64 * 64)
    store = FrameStore(max_bytes=1)
    for path, kept in ((large, 1), (even, 2), (clip.path, 2), (large, 1)):
        store.frames(str(path), [0.5], 784)
        assert len(store._open) == kept and str(path) in store._open


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


def test_threads_share_a_store(even, uneven, clip):
    store = FrameStore(max_bytes=6 * 28 * 28 * 3, max_open=1)  # so small that every thread drops what others use
    paths = [str(even), str(uneven), clip.path]

    def look(number):
        path = paths[number % 3]
        times = [0.1 * (number % 7), 0.5, 0.9]
        images, _ = store.frames(path, times, 784)
        return [image.info["frame"][0] for image in images] == [path] * 3

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(look, range(120)))
    assert store.bytes == sum(image.width * image.height * 3 for image in store._frames.values())
