"""De-identified copies: what the original said is gone, the times are what they were, what is no good is left out."""

from pathlib import Path

import av
import numpy as np
import pytest
from deidentified import VFR, frames, noise, only, rows, run, starts, write_film
from dicoms import write_pictures
from media import grey_frames, level_index, turned_right, write_audio, write_mp4
from real_data import real_file

from medscope.deidentify.copying import CopyError, copy_video
from medscope.deidentify.masks import Mask, Rectangle
from medscope.environment import open_video
from medscope.environment.decoders import open_container

SECRETS = ("Doe^Jane", "Jane Doe", "theatre 3", "2024-05-06", "MDPM")


def write_named(path: Path, audio: bool = True) -> Path:
    """A film that says whose it is: tags of container and stream, a chapter of sound, a message beside the picture."""
    plain = write_mp4(path.with_suffix(".plain.mp4"), np.arange(8) / 25)
    message = b"\x06\x05\x14" + b"MDPM2024-05-06xx"[:16] + b"cam!" + b"\x80"  # user data: uuid of 16 bytes, 4 more
    with av.open(str(plain)) as source, av.open(str(path), "w") as film:
        film.metadata.update(title="Jane Doe", comment="theatre 3", creation_time="2024-05-06T07:08:09Z")
        stream = film.add_stream_from_template(source.streams.video[0])
        sound = film.add_stream("aac", rate=16000, layout="mono") if audio else None
        for packet in source.demux(source.streams.video[0]):
            if packet.dts is None:
                continue
            told = av.Packet(len(message).to_bytes(4, "big") + message + bytes(packet))
            told.pts, told.dts, told.time_base = packet.pts, packet.dts, packet.time_base
            told.stream, told.is_keyframe = stream, packet.is_keyframe
            film.mux(told)
        if sound:
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 16000, 0
            film.mux(sound.encode(frame))
            film.mux(sound.encode())
    plain.unlink()
    assert b"Jane Doe" in path.read_bytes() and b"MDPM2024" in path.read_bytes()
    return path


@pytest.fixture
def home(tmp_path):
    (tmp_path / "in").mkdir()
    return tmp_path


def test_a_copied_stream_says_nothing_and_has_the_same_frames(home):
    film = write_named(home / "in" / "Jane Doe 2024-05-06.mp4")
    assert run(home) == 0
    copy = only(home / "out")
    with av.open(str(copy)) as container:
        assert [stream.type for stream in container.streams] == ["video"]
        assert set(container.metadata) == {"major_brand", "minor_version", "compatible_brands"}
        assert container.streams[0].metadata == {"language": "und", "handler_name": "VideoHandler"}
    for file in (home / "out").iterdir():
        assert not [word for word in SECRETS if word.encode() in file.read_bytes() or word in file.name]
    assert np.array_equal(starts(film), starts(copy)) and np.array_equal(frames(film), frames(copy))


def test_an_encoded_copy_says_nothing(home):
    write_named(home / "in" / "a.mp4")
    (home / "masks.yaml").write_text("tower: [[0, 0, 16, 16]]")
    assert run(home, "--masks", str(home / "masks.yaml")) == 0
    copy = only(home / "out")
    with av.open(str(copy)) as container:
        assert [stream.type for stream in container.streams] == ["video"]
        assert set(container.metadata) == {"major_brand", "minor_version", "compatible_brands"}
    assert not [word for word in SECRETS if word.encode() in copy.read_bytes()]


def test_dicom_copies_carry_no_name(home):
    write_pictures(home / "in" / "doe.dcm", grey_frames(6), FrameTime="40", patient="4711")
    assert run(home, "--group-from", "patient") == 0
    copy = only(home / "out")
    everything = b"".join(file.read_bytes() for file in (home / "out").iterdir())
    assert b"Doe" not in everything and b"4711" not in everything
    assert [level_index(frame) for frame in frames(copy)] == [0, 1, 2, 3, 4, 5]
    assert np.allclose(starts(copy), np.arange(6) * 0.04, atol=1e-6)


@pytest.mark.parametrize(
    "name, codec, pixels, even, how",
    [
        ("vfr.mp4", "libx264", "yuv420p", False, "stream"),
        ("vfr.mkv", "libx264", "yuv420p", False, "stream"),
        ("stream.ts", "libx264", "yuv420p", True, "stream"),
        ("web.webm", "libvpx-vp9", "yuv420p", True, "stream"),
        ("old.mpg", "mpeg2video", "yuv420p", True, "encoded"),
        ("old.avi", "mjpeg", "yuvj422p", True, "encoded"),
        ("lossless.mkv", "ffv1", "bgr0", False, "encoded"),
    ],
)
def test_times_are_what_they_were(tmp_path, name, codec, pixels, even, how):
    film = write_film(tmp_path / name, codec, pixels, times=range(6) if even else VFR)
    for number, mask in enumerate((Mask(), Mask((Rectangle(0, 0, 16, 16),)))):
        copy = tmp_path / f"{number}.mp4"
        assert copy_video(str(film), copy, mask) == ("encoded" if mask else how)
        assert len(starts(copy)) == len(starts(film))
        assert np.abs(starts(copy) - starts(film)).max() < 1e-6
        assert np.abs(open_video(copy, decoder="decord").starts - starts(film)).max() < 1e-6
        shown = np.abs(frames(copy).astype(int) - frames(film))[:, 20:, 20:].mean()
        assert shown == 0 if how == "stream" and not mask else shown < 3  # colours too: no change of range


def test_odd_sizes_and_turned_pictures(tmp_path):
    with av.open(str(tmp_path / "odd.mkv"), "w") as film:
        stream = film.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 63, 47, "yuv444p"
        grey = np.linspace(40, 200, 63).astype(np.uint8)[None, :, None]
        frame = av.VideoFrame.from_ndarray(np.broadcast_to(grey, (47, 63, 3)).copy(), format="rgb24")
        film.mux([*stream.encode(frame), *stream.encode()])
    copy_video(str(tmp_path / "odd.mkv"), tmp_path / "odd.mp4", Mask())
    [before], [after] = frames(tmp_path / "odd.mkv"), frames(tmp_path / "odd.mp4")
    assert after.shape == (48, 64, 3) and np.abs(after[:47, :63].astype(int) - before).mean() < 3
    turned = turned_right(write_mp4(tmp_path / "up.mp4", [0, 0.04, 0.08], noise(3)), tmp_path / "turned.mp4")
    for number, mask in enumerate((Mask(), Mask((Rectangle(0, 0, 16, 24),)))):
        copy_video(str(turned), tmp_path / f"{number}.mp4", mask)
        before, after = frames(turned), frames(tmp_path / f"{number}.mp4")
        assert before.shape == after.shape == (3, 64, 48, 3)
        assert np.abs(after[:, 30:].astype(int) - before[:, 30:]).mean() < 3
    assert after[:, :20, :12].max() < 30 < before[:, :20, :12].max()


def test_a_film_whose_frames_have_no_times_of_their_own_is_refused(tmp_path):
    film = write_film(tmp_path / "b_frames.avi", "libx264", times=range(20))
    with pytest.raises(CopyError, match="convert it to MP4"):
        copy_video(str(film), tmp_path / "copy.mp4", Mask())
    assert {file.name for file in tmp_path.iterdir()} == {"b_frames.avi"}


def test_a_run_that_was_killed_goes_on(home):
    for number in range(2):
        write_mp4(home / "in" / f"{number}.mp4", np.arange(4 + number) / 25)
    assert run(home) == 0
    names = home / "key" / "names.csv"
    before = rows(home)
    copy = home / "out" / f"{before[1]['name']}.mp4"
    copy.with_name(copy.name + ".part").write_bytes(copy.read_bytes()[:100])
    copy.unlink()
    names.write_text(names.read_text() + f'"{before[1]["path"][:9]}')  # a row that a kill has cut short
    assert run(home) == 0
    assert rows(home) == before and copy.exists() and not list((home / "out").glob("*.part"))


def test_what_cannot_be_copied_is_quarantined_and_its_reason_stays_private(home, capsys):
    write_mp4(home / "in" / "good.mp4", np.arange(4) / 25)
    write_audio(home / "in" / "Doe.mp4")
    (home / "in" / "list.mp4").write_text("ffconcat version 1.0\nfile good.mp4\n")
    write_mp4(home / "in" / "other.mp4", np.arange(5) / 25)
    (home / "in" / "other.mp4").write_bytes((home / "in" / "other.mp4").read_bytes()[:700])
    assert run(home, "--max-quarantined", "0.5") == 1
    assert only(home / "out") and "1 of 4 files" in capsys.readouterr().out
    assert {file.name for file in (home / "out").iterdir()} == {only(home / "out").name, "groups.csv"}
    private = (home / "key" / "names_private" / "quarantine.jsonl").read_text()
    assert all(name in private for name in ("Doe.mp4", "list.mp4", "other.mp4"))


@pytest.mark.slow  # seconds of 1080p
def test_real_laparoscopy_with_sound(home):
    film = real_file("endo.mp4")
    (home / "in" / "endo.mp4").symlink_to(film)
    assert run(home) == 0
    copy = only(home / "out")
    with open_container(str(copy)) as container:
        assert [stream.type for stream in container.streams] == ["video"]
    assert np.array_equal(starts(copy), starts(film)) and len(starts(copy)) == 250
    at = [0, 77, 249]
    assert np.array_equal(open_video(copy).read(at), open_video(film).read(at))
