"""The manifest agrees with what later stages see, a bad file is quarantined with its reason, none is read twice."""

import hashlib
import os
import shutil

import av
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from media import grey_frames, level_index, packaged_video, turned_right, write_audio, write_mp4
from real_data import real_file

from medscope.environment import VideoError, open_video
from medscope.files import read_jsonl
from medscope.sources import manifest
from medscope.sources.folder import find_videos
from medscope.sources.manifest import (
    PARTIAL,
    Found,
    Quarantined,
    QuarantineError,
    VideoFile,
    check_limit,
    check_share,
    make_manifest,
    write_manifest,
)
from medscope.sources.probe import probe

STREAMS = {".mpg": "mpeg1video", ".mpeg": "mpeg2video", ".ts": "libx264"}
TIMES = np.arange(24) / 12


def write_as(path, codec, rate=12, count=24):
    """`grey_frames` in another container."""
    frames = grey_frames(count)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.height, stream.width, stream.pix_fmt = 64, 64, "yuv420p"
        for index, picture in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            frame.pts = index
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize("name", ["bikes.mp4", "bigbuckbunny.mp4", "endo.mp4"])
@pytest.mark.parametrize("decoder", ["decord", "pyav"])
def test_probe_sees_what_the_environment_sees(name, decoder):
    path = real_file(name) if name == "endo.mp4" else packaged_video(name)
    seen, video = probe(str(path)), open_video(path, decoder)
    assert seen["duration"] == pytest.approx(video.duration, abs=1e-3)
    assert seen["fps"] == pytest.approx(video.fps, abs=1e-3)
    assert (seen["width"], seen["height"]) == video.size
    assert seen["codec"] == "h264"
    assert all(np.abs(video.starts - key).min() < 1e-3 for key in seen["key_frames"])
    assert seen["key_frames"][0] == 0


def test_facts_of_the_real_laparoscopy():
    seen = probe(str(real_file("endo.mp4")))
    assert (seen["width"], seen["height"], seen["codec"]) == (1280, 720, "h264")
    assert (seen["duration"], seen["fps"]) == (pytest.approx(10, abs=0.05), pytest.approx(25, abs=0.1))


def test_hash_is_that_of_the_bytes(tmp_path):
    path = tmp_path / "a.mp4"
    write_mp4(path, TIMES)
    assert probe(str(path))["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("suffix", "codec"),
    [
        (".mkv", "libx264"),
        (".mov", "libx264"),
        (".avi", "mpeg4"),
        (".webm", "libvpx"),
        (".mpg", "mpeg1video"),
        (".mpeg", "mpeg2video"),
        (".ts", "libx264"),
    ],
)
def test_containers(tmp_path, suffix, codec):
    rate = 25 if codec in ("mpeg1video", "mpeg2video") else 12
    path = write_as(tmp_path / f"a{suffix}", codec, rate)
    assert [found.path for found in find_videos(tmp_path)] == [str(path)]
    seen = probe(str(path))
    assert seen["duration"] == pytest.approx(24 / rate, abs=0.06)
    assert seen["fps"] == pytest.approx(rate, rel=0.05)
    assert (seen["width"], seen["height"]) == (64, 64)
    if suffix not in STREAMS:
        agree(path, seen)


def agree(path, seen):
    """Whether both decoders find the same length, size and frames."""
    for decoder in ("decord", "pyav"):
        video = open_video(path, decoder)
        assert (video.duration, video.size) == (pytest.approx(seen["duration"], abs=0.05), (64, 64))
        assert [level_index(frame) for frame in video.read([0, 5, 11])] == [0, 5, 11]


@pytest.mark.parametrize(("suffix", "codec"), STREAMS.items())
def test_streams_without_an_index(tmp_path, suffix, codec):
    path = write_as(tmp_path / f"a{suffix}", codec, 25)
    agree(path, probe(str(path)))


def test_a_title_in_another_encoding_stops_nothing(tmp_path):
    path = write_mp4(tmp_path / "a.mp4", TIMES, faststart=True)
    path.write_bytes(path.read_bytes().replace(b"VideoHandler", b"Aufnahme M\xfc"))
    videos, quarantined = make_manifest(find_videos(tmp_path), tmp_path / "out")
    assert len(videos) + len(quarantined) == 1


def test_variable_frame_rate(tmp_path):
    path = write_mp4(tmp_path / "a.mp4", [0, 0.1, 0.2, 2.0, 4.0])
    assert probe(str(path))["duration"] == pytest.approx(open_video(path).duration, abs=1e-3)


def test_upright_size(tmp_path):
    write_mp4(tmp_path / "a.mp4", TIMES, grey_frames(24, (640, 480)))
    seen = probe(str(turned_right(tmp_path / "a.mp4", tmp_path / "b.mp4")))
    assert (seen["width"], seen["height"]) == (480, 640)


def bad_files(folder):
    """File name -> words of its reason."""
    good = write_mp4(folder / "good.mp4", TIMES, faststart=True)
    content = good.read_bytes()
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "cut.mp4").write_bytes(content[: len(content) * 2 // 3])
    late = write_mp4(folder / "late.mp4", TIMES)  # its index is at the end
    late.write_bytes(late.read_bytes()[: late.stat().st_size // 2])
    (folder / "playlist.mp4").write_text(f"ffconcat version 1.0\nfile '{good}'\n")
    (folder / "hls.ts").write_text(f"#EXTM3U\n#EXTINF:2,\n{good}\n#EXT-X-ENDLIST\n")
    (folder / "noise.avi").write_bytes(np.random.default_rng(0).bytes(5000))
    write_audio(folder / "sound.mp4")
    (folder / "same.mp4").write_bytes(content)
    (folder / "gone.mov").symlink_to(folder / "nowhere.mov")
    os.mkfifo(folder / "pipe.mp4")
    mkv = write_as(folder / "cut.mkv", "libx264", count=240)
    mkv.write_bytes(mkv.read_bytes()[: mkv.stat().st_size // 2])
    return {
        "empty.mp4": "empty",
        "cut.mp4": "truncated",
        "late.mp4": "truncated",
        "playlist.mp4": "known container",
        "hls.ts": "known container",
        "noise.avi": "known container",
        "sound.mp4": "no video stream",
        "same.mp4": "same bytes as",
        "gone.mov": "no such video file",
        "pipe.mp4": "not a regular file",
        "cut.mkv": "truncated",
    }


def test_every_bad_file_has_its_reason_and_none_stops_the_run(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    expected = bad_files(folder)
    videos, quarantined = make_manifest(find_videos(folder), tmp_path / "out")
    assert [video.video for video in videos] == ["good"]
    reasons = {os.path.basename(record.path): record.reason for record in quarantined}
    assert set(reasons) == set(expected)
    for name, words in expected.items():
        assert words in reasons[name] and name in reasons[name]


def test_every_prefix_of_a_video_is_refused_or_whole(tmp_path):
    """A file that was cut anywhere never passes as a shorter video."""
    whole = write_mp4(tmp_path / "whole.mp4", TIMES, faststart=True).read_bytes()
    cut = tmp_path / "cut.mp4"
    for length in range(0, len(whole), 211):
        cut.write_bytes(whole[:length])
        with pytest.raises(VideoError, match=r"cut\.mp4"):
            probe(str(cut))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return write_mp4(tmp_path_factory.mktemp("whole") / "a.mp4", TIMES, faststart=True).read_bytes()


@pytest.mark.slow
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
@given(changes=st.lists(st.tuples(st.integers(0, 1500), st.integers(0, 255)), min_size=1, max_size=8))
def test_a_damaged_file_is_read_or_refused_and_nothing_else(whole, tmp_path, changes):
    content = bytearray(whole)
    for place, value in changes:
        content[place % len(content)] = value
    path = tmp_path / "damaged.mp4"
    path.write_bytes(content)
    try:
        seen = probe(str(path))
    except VideoError as error:
        assert "damaged.mp4" in str(error)
    else:
        video = VideoFile(video="a", path=str(path), group="a", bytes=1, modified=1, **seen)
        assert video.duration < 1e12


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "in"
    for name, length in (("b.mp4", 5), ("a/c.mp4", 7), ("a/d.mp4", 9)):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write_mp4(folder / name, TIMES[:length])
    return folder


@pytest.fixture
def probed(monkeypatch):
    """Names of the files that are probed (the real probe runs)."""
    names = []
    monkeypatch.setattr(manifest, "probe", lambda path: names.append(os.path.basename(path)) or probe(path))
    return names


def run(folder, out):
    videos, quarantined = make_manifest(find_videos(folder), out)
    write_manifest(out, videos, quarantined)
    return videos, quarantined


def test_nothing_is_read_twice(folder, tmp_path, probed):
    first = run(folder, tmp_path / "out")
    assert sorted(probed) == ["b.mp4", "c.mp4", "d.mp4"]
    assert run(folder, tmp_path / "out") == first
    assert len(probed) == 3
    assert read_jsonl(tmp_path / "out" / "manifest.jsonl", VideoFile) == first[0]


def test_a_changed_file_is_read_again(folder, tmp_path, probed):
    run(folder, tmp_path / "out")
    write_mp4(folder / "b.mp4", TIMES[:11])
    videos, _ = run(folder, tmp_path / "out")
    assert probed[3:] == ["b.mp4"]
    assert next(v for v in videos if v.video == "b").duration == pytest.approx(11 / 12, abs=0.01)


def test_a_file_that_is_gone_leaves_the_manifest(folder, tmp_path):
    run(folder, tmp_path / "out")
    (folder / "b.mp4").unlink()
    assert [video.video for video in run(folder, tmp_path / "out")[0]] == ["a/c", "a/d"]


def test_a_copy_that_comes_first_is_kept_whatever_was_known(folder, tmp_path):
    run(folder, tmp_path / "out")
    shutil.copy(folder / "b.mp4", folder / "a" / "a.mp4")
    videos, quarantined = run(folder, tmp_path / "out")
    assert [video.video for video in videos] == ["a/a", "a/c", "a/d"]
    assert "same bytes as" in quarantined[0].reason


def test_a_killed_run_goes_on_where_it_stopped(folder, tmp_path, probed, monkeypatch):
    out = tmp_path / "out"
    videos, _ = run(folder, out)
    text = (out / "manifest.jsonl").read_text().splitlines()
    (out / "manifest.jsonl").unlink()
    (out / PARTIAL).write_text("\n" + text[0] + "\n" + text[1][:40])  # the second line was being written
    probed.clear()
    assert run(folder, out)[0] == videos
    assert sorted(probed) == ["b.mp4", "d.mp4"]
    assert not (out / PARTIAL).exists()


def test_share():
    check_share("files", 1, 10, 0.1, "out")
    with pytest.raises(QuarantineError, match=r"2 of 10 files .*20.0%.*10.0%.*quarantine.jsonl"):
        check_share("files", 2, 10, 0.1, "out")
    with pytest.raises(ValueError, match="max_quarantined is 3"):
        check_limit(3)


def test_a_problem_that_the_source_found_is_quarantined(tmp_path):
    videos, quarantined = make_manifest([Found("a", "a.mp4", problem="a.mp4: no group")], tmp_path)
    assert (videos, quarantined) == ([], [Quarantined("a.mp4", "a.mp4: no group")])
