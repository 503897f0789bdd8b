"""The index of a video: kept on disk, used again, made anew where the video or the kept file has changed."""

import os

import numpy as np
import pytest
from media import write_mp4
from timed import TENTHS, UNEVEN

from medscope.environment.video import open_video


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """The folder of kept indices."""
    monkeypatch.setenv("MEDSCOPE_INDEX_CACHE", str(tmp_path / "index"))
    return tmp_path / "index"


def test_a_second_look_reads_the_kept_index_and_not_the_packets(kept, tmp_path):
    path = write_mp4(tmp_path / "film.mp4", UNEVEN)
    first = open_video(path, "pyav")
    (file,) = kept.iterdir()
    assert "film" not in file.name
    with np.load(file) as found:
        changed = {**found, "pts": found["pts"][:-1]}
    np.savez(file, **changed)
    assert np.array_equal(open_video(path, "pyav").starts, first.starts[:-1]), "it would be whole from the packets"


def test_frames_and_times_are_those_of_the_first_look(kept, tmp_path):
    path = write_mp4(tmp_path / "film.mp4", UNEVEN)
    first, second = open_video(path, "pyav"), open_video(path, "pyav")
    assert np.array_equal(first.starts, second.starts) and first.duration == second.duration
    assert np.array_equal(first.read([0, 7, 3]), second.read([0, 7, 3]))


def test_a_video_that_has_changed_is_read_again(kept, tmp_path):
    path = write_mp4(tmp_path / "film.mp4", UNEVEN)
    before = open_video(path, "pyav").starts
    os.utime(write_mp4(path, TENTHS), ns=(0, 1))
    after = open_video(path, "pyav").starts
    assert after == pytest.approx(TENTHS, abs=1e-5) and after[-1] < before[-1]
    assert len(list(kept.iterdir())) == 1


def test_the_time_of_change_alone_makes_a_kept_index_old(kept, tmp_path):
    path = write_mp4(tmp_path / "film.mp4", UNEVEN)
    open_video(path, "pyav")
    (file,) = kept.iterdir()
    with np.load(file) as found:
        np.savez(file, **{**found, "pts": found["pts"][:-1]})
    os.utime(path, ns=(0, 1))
    assert len(open_video(path, "pyav").starts) == len(UNEVEN)


def test_a_kept_array_is_no_index(kept, tmp_path):
    path = write_mp4(tmp_path / "film.mp4", TENTHS)
    open_video(path, "pyav")
    (file,) = kept.iterdir()
    with file.open("wb") as out:
        np.save(out, np.arange(3))
    assert len(open_video(path, "pyav").starts) == len(TENTHS)


@pytest.mark.parametrize("rest", [b"", b"PK\x03\x04 cut short", b"no archive"])
def test_a_kept_file_that_cannot_be_read_is_made_anew(rest, kept, tmp_path):
    path = write_mp4(tmp_path / "film.mp4", TENTHS)
    open_video(path, "pyav")
    (file,) = kept.iterdir()
    whole = file.stat().st_size
    file.write_bytes(rest)
    assert len(open_video(path, "pyav").starts) == len(TENTHS) and file.stat().st_size == whole


def test_a_kept_file_is_never_unpickled(kept, tmp_path):
    path = write_mp4(tmp_path / "film.mp4", TENTHS)
    open_video(path, "pyav")
    (file,) = kept.iterdir()
    with np.load(file) as found:
        np.savez(file, **{**found, "pts": np.array([print], dtype=object)})
    assert len(open_video(path, "pyav").starts) == len(TENTHS)


@pytest.mark.parametrize("folder", ["a file in its place", "~/index"])
def test_no_room_is_said_and_the_video_opens(folder, tmp_path, monkeypatch, capsys):
    (tmp_path / "a file in its place").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("pwd.getpwuid", {}.__getitem__)  # a user without a name has no home
    monkeypatch.setenv("MEDSCOPE_INDEX_CACHE", folder)
    path = write_mp4(tmp_path / "film.mp4", TENTHS)
    assert len(open_video(path, "pyav").starts) == len(TENTHS)
    assert "cannot be kept" in capsys.readouterr().err
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a file in its place", "film.mp4"]
