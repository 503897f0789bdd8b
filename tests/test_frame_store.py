"""The frame store: what it decodes, keeps, forgets and closes, also for threads that share it."""

import gc
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest
from media import level_index
from timed import even_fixture, large_fixture, uneven_fixture  # noqa: F401

import medscope.environment.frame_store as frame_store
from medscope.environment.decoders import DecordReader
from medscope.environment.frame_store import FrameStore
from medscope.environment.video import Video


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


def test_few_large_videos_stay_open(large, even, clip, monkeypatch):
    monkeypatch.setattr(frame_store, "OPEN_PIXELS", 640 * 480 + 64 * 64)
    store = FrameStore(max_bytes=1)
    for path, kept in ((large, 1), (even, 2), (clip.path, 2), (large, 1)):
        store.frames(str(path), [0.5], 784)
        assert len(store._open) == kept and str(path) in store._open


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


def test_decord_does_not_decode_on_behind_a_read(large, monkeypatch):
    """It would, a second for each read of a 1080p file, while the model trains. A seek ends that."""
    done, open_reader = [], DecordReader._open

    class Watched:
        def __init__(self, reader):
            self.reader = reader

        def __len__(self):
            return len(self.reader)

        def __getattr__(self, name):
            return lambda *given: done.append((name, given)) or getattr(self.reader, name)(*given)

    monkeypatch.setattr(DecordReader, "_open", lambda self, size: Watched(open_reader(self, size)))
    first, _ = FrameStore(max_bytes=1 << 18).frames(str(large), [0.5, 0.6], 50_176)
    assert [name for name, _ in done[-2:]] == ["get_batch", "seek"] and done[-1][1] == (0,)
    store = FrameStore(max_bytes=1)  # keeps no frame
    for _ in range(2):  # the second time behind a seek
        again, _ = store.frames(str(large), [0.5, 0.6], 50_176)
        assert [image.tobytes() for image in again] == [image.tobytes() for image in first]


@pytest.mark.parametrize("use", ["read", "close", "forget"])
def test_a_forked_process_leaves_the_open_files_of_its_parent_alone(large, even, use):
    """decord's threads are not forked: to read by such a file, or to free it, would wait for them for ever."""
    store = FrameStore(max_bytes=1, max_open=1 if use == "close" else 9)
    expected, _ = store.frames(str(large), [0.5], 50_176)

    def child():
        if use == "forget":
            store._videos.clear(), store._open.clear(), gc.collect()
        if use == "close":
            store.frames(str(even), [1.0], 784)
        image = store.frames(str(large), [0.5], 50_176)[0][0]
        assert image.tobytes() == expected[0].tobytes()

    process = get_context("fork").Process(target=child)
    process.start()
    process.join(60)
    hangs = process.is_alive()
    process.kill()
    assert not hangs and process.exitcode == 0
    assert store.frames(str(large), [0.5], 50_176)[0][0].tobytes() == expected[0].tobytes()
