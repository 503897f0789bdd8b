"""De-identified copies: what the original said is gone, what is masked is black, the times are what they were."""

import csv
import stat
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from dicoms import write_pictures
from hypothesis import given, settings
from hypothesis import strategies as st
from media import grey_frames, level_index, turned_right, write_audio, write_mp4
from PIL import Image
from real_data import real_file

from medscope.deidentify.__main__ import main
from medscope.deidentify.circle import circle_of, find_circle
from medscope.deidentify.copying import CopyError, copy_video, masked_frames
from medscope.deidentify.masks import Circle, Mask, Rectangle, device_of, read_devices
from medscope.deidentify.names import COLUMNS, NameMap, check_private
from medscope.environment import open_video
from medscope.environment.decoders import open_container
from medscope.records import Window
from medscope.sources.annotations.formats import read_annotations
from medscope.sources.folder import find_videos

SECRETS = ("Doe^Jane", "Jane Doe", "theatre 3", "2024-05-06", "MDPM")
VFR = [0, 0.04, 0.041, 0.5, 0.503, 1.0, 2.007, 2.01, 9.0, 9.001]


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


def noise(count: int, size: tuple[int, int] = (64, 48), seed: int = 0) -> np.ndarray:
    """Frames [count, h, w, 3] of grey blocks that move."""
    block = np.random.default_rng(seed).integers(0, 255, (size[1] // 8, size[0] // 8, 1), np.uint8)
    picture = block.repeat(8, 0).repeat(8, 1).repeat(3, 2)
    return np.stack([np.roll(picture, i, axis=1) for i in range(count)])


def frames(path: Path) -> np.ndarray:
    video = open_video(path, decoder="pyav")
    return video.read(list(range(len(video.starts))))


def starts(path: Path) -> np.ndarray:
    return open_video(path, decoder="pyav").starts


def only(folder: Path) -> Path:
    [found] = folder.glob("*.mp4")
    return found


@pytest.fixture
def home(tmp_path):
    (tmp_path / "in").mkdir()
    return tmp_path


def run(home: Path, *options: str) -> int:
    return main([str(home / "in"), "--out", str(home / "out"), "--names", str(home / "key" / "names.csv"), *options])


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


def write_film(path: Path, codec: str, pixels: str = "yuv420p", size=(64, 48), times=VFR, **options: str) -> Path:
    """A film of `noise` in any codec and container."""
    with av.open(str(path), "w") as film:
        stream = film.add_stream(codec, rate=25, options=options)
        (stream.width, stream.height), stream.pix_fmt = size, pixels
        if times is VFR:
            stream.codec_context.time_base = Fraction(1, 1000)
        for number, picture in enumerate(noise(len(times), size)):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = (
                (round(times[number] * 1000), Fraction(1, 1000)) if times is VFR else (number, Fraction(1, 25))
            )
            film.mux(stream.encode(frame))
        film.mux(stream.encode())
    return path


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


@pytest.mark.parametrize("pixels", ["yuv420p", "yuv444p", "bgr0"])
def test_nothing_of_what_is_masked_reaches_the_encoder(tmp_path, pixels):
    """Two films that differ under the mask alone give the encoder the same frames."""
    mask = Mask((Rectangle(8, 4, 24, 10),), Circle(32, 24, 26), (Window(0.2, 0.3),))
    hidden = mask.hidden(64, 48)
    seen = []
    for colour in ((255, 0, 80), (0, 200, 255)):
        film = tmp_path / "film.mkv"
        with av.open(str(film), "w") as container:
            stream = container.add_stream("ffv1", rate=25)
            stream.width, stream.height, stream.pix_fmt = 64, 48, pixels
            for index, picture in enumerate(noise(10)):
                picture[hidden | mask.hides(index / 25)] = colour
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                if pixels == "yuv420p":  # so that the film itself carries no colour across the rim of the mask
                    frame = av.VideoFrame.from_ndarray(subsampled(frame, hidden), format=pixels)
                frame.pts, frame.time_base = index, Fraction(1, 25)
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
        with open_container(str(film)) as container:
            seen.append([picture.to_ndarray() for picture, _ in masked_frames(container, mask)])
    assert len(seen[0]) == 10 and np.array_equal(*seen)
    assert seen[0][0].std() > 10 and seen[0][5][:48].max() == 16


def subsampled(frame: av.VideoFrame, hidden: np.ndarray) -> np.ndarray:
    """A frame as yuv420p whose chroma is grey but where all four pixels of a sample are hidden."""
    luma, blue, red = frame.to_ndarray(format="yuv444p")
    whole = hidden.reshape(24, 2, 32, 2).all(axis=(1, 3))
    chromas = [np.where(whole, plane[::2, ::2], 128).astype(np.uint8) for plane in (blue, red)]
    return np.concatenate([part.reshape(-1) for part in (luma, *chromas)]).reshape(72, 64)


def test_masked_pixels_and_stretches_are_black(tmp_path):
    film = write_mp4(tmp_path / "film.mp4", np.arange(10) / 25, np.full((10, 48, 64, 3), 200, np.uint8))
    mask = Mask((Rectangle(0, 0, 32, 16),), None, (Window(0.08, 0.16),))
    copy_video(str(film), tmp_path / "copy.mp4", mask)
    shown = frames(tmp_path / "copy.mp4")
    assert shown[:, :16, :32].max() <= 3
    assert shown[2:5].max() <= 3  # 0.08, 0.12 and 0.16 s, both ends too
    for visible in (shown[:2], shown[5:]):
        assert abs(visible[:, 16:].mean() - 200) < 4
    assert np.array_equal(starts(film), starts(tmp_path / "copy.mp4"))


def test_a_film_whose_frames_have_no_times_of_their_own_is_refused(tmp_path):
    film = write_film(tmp_path / "b_frames.avi", "libx264", times=range(20))
    with pytest.raises(CopyError, match="convert it to MP4"):
        copy_video(str(film), tmp_path / "copy.mp4", Mask())
    assert {file.name for file in tmp_path.iterdir()} == {"b_frames.avi"}


def endoscope(width=320, height=180, x=150.0, y=95.0, radius=100.0, text=True) -> np.ndarray:
    """A lit circle, cut by the frame above and below, with a dark vessel at its rim and text in a corner."""
    rows, columns = np.ogrid[:height, :width]
    grey = np.where((columns - x) ** 2 + (rows - y) ** 2 <= radius**2, 120, 6).astype(np.uint8)
    grey[85:95, 235:260] = 10
    if text:
        grey[4:16, 4:40] = 240
    return grey


def test_the_circle_is_found_from_its_dark_corners():
    circle = circle_of(endoscope())
    assert abs(circle.x - 150) < 2 and abs(circle.y - 95) < 2 and 96 < circle.radius <= 101
    assert Mask(circle=circle).hidden(320, 180)[4:16, 4:40].all()
    assert circle_of(np.full((180, 320), 120, np.uint8)) is None  # fills the frame
    assert circle_of(np.full((180, 320), 5, np.uint8)) is None
    box = np.full((180, 320), 5, np.uint8)
    box[20:160, 40:280] = 120
    assert circle_of(box) is None


def test_the_circle_of_a_real_laparoscopy():
    circle = find_circle(str(real_file("endo.mp4")))
    assert 600 < circle.x < 660 and 540 < circle.radius < 600
    assert find_circle(str(real_file("endo.mp4"))) == circle


def test_circle_by_command(home, capsys):
    picture = np.repeat(endoscope()[..., None], 3, axis=2)
    write_mp4(home / "in" / "scope.mp4", np.arange(4) / 25, np.stack([picture] * 4))
    write_mp4(home / "in" / "full.mp4", np.arange(4) / 25)
    assert run(home, "--circle") == 0
    assert "1 as they were, 1 encoded anew" in (out := capsys.readouterr().out) and "no circle:   1 videos" in out
    names = {Path(row["path"]).name: row["name"] for row in rows(home)}
    assert frames(home / "out" / f"{names['scope.mp4']}.mp4")[:, 4:16, 4:40].max() <= 30


def rows(home: Path) -> list[dict[str, str]]:
    with (home / "key" / "names.csv").open(newline="") as file:
        return list({row["path"]: row for row in csv.DictReader(file)}.values())


def test_names_are_random_stable_and_private(home, capsys):
    for number, name in enumerate(("case_1", "case_2")):
        write_mp4(home / "in" / f"{name}.mp4", np.arange(4 + number) / 25)
    assert run(home) == 0
    before = rows(home)
    copies = {file.name: file.stat().st_mtime_ns for file in (home / "out").glob("*.mp4")}
    assert set(copies) == {f"{row['name']}.mp4" for row in before} and len(copies) == 2
    assert not [name for name in copies if "case" in name]
    assert stat.S_IMODE((home / "key" / "names.csv").stat().st_mode) == 0o600
    assert stat.S_IMODE((home / "key" / "names_private").stat().st_mode) == 0o700
    (home / "out" / f"{before[0]['name']}.mp4").unlink()
    write_mp4(home / "in" / "case_3.mp4", np.arange(7) / 25)
    assert run(home) == 0
    assert "2 as they were, 0 encoded anew, 1 from before" in capsys.readouterr().out
    assert rows(home)[:2] == before and len(rows(home)) == 3
    kept = home / "out" / f"{before[1]['name']}.mp4"
    assert kept.stat().st_mtime_ns == copies[kept.name]
    found = find_videos(home / "out", f"map:{home / 'out' / 'groups.csv'}")
    assert {file.video: file.group for file in found} == {row["name"]: row["group"] for row in rows(home)}


def test_groups_stay_together_under_new_names(home):
    for patient, name in (("anna", "1"), ("anna", "2"), ("bert", "1")):
        (home / "in" / patient).mkdir(exist_ok=True)
        write_mp4(home / "in" / patient / f"{name}.mp4", np.arange(4 + len(list(home.rglob("*.mp4")))) / 25)
    assert run(home, "--group-from", "parent") == 0
    groups = {row["path"].split("/in/")[1]: row["group"] for row in rows(home)}
    assert groups["anna/1.mp4"] == groups["anna/2.mp4"] != groups["bert/1.mp4"]
    assert "anna" not in (home / "out" / "groups.csv").read_text()


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


def test_other_masks_make_the_copy_anew_and_never_leave_the_old_one(home, capsys):
    write_mp4(home / "in" / "film.mp4", np.arange(4) / 25, np.full((4, 48, 64, 3), 200, np.uint8))
    assert run(home) == 0
    masks = home / "masks.json"
    masks.write_text('{"tower": [[0, 0, 32, 16]]}')
    assert run(home, "--masks", str(masks)) == 0
    assert frames(only(home / "out"))[:, :16, :32].max() <= 3
    masks.write_text('{"tower": [[0, 0, 320, 160]]}')  # not inside this film
    assert run(home, "--masks", str(masks), "--max-quarantined", "0") == 1
    assert not list((home / "out").glob("*.mp4"))
    assert "not inside its frames of 64x48" in capsys.readouterr().out


STRETCHES = "video,start,end,label\nfilm,0,0.4,work\nfilm,0.08,0.16,out_of_body\n"


def test_out_of_body_stretches_are_black_and_annotations_get_the_new_name(home):
    write_mp4(home / "in" / "film.mp4", np.arange(10) / 25, np.full((10, 48, 64, 3), 200, np.uint8))
    (home / "a.csv").write_text(STRETCHES)
    options = ("--annotations", str(home / "a.csv"), "--format", "csv", "--mask-labels", "out_of_body")
    assert run(home, *options) == 0
    shown = frames(only(home / "out"))
    assert [bool(frame.max() <= 3) for frame in shown] == [False] * 2 + [True] * 3 + [False] * 5
    stated, bad = read_annotations(home / "out" / "annotations.csv", "csv")
    assert not bad and {item.annotation.video for item in stated} == {only(home / "out").stem}
    assert [(a.annotation.start, a.annotation.end, a.annotation.label) for a in stated] == [
        (0, pytest.approx(0.4), "work"),
        (0.08, 0.16, "out_of_body"),
    ]


@pytest.mark.parametrize(
    "text, problem",
    [
        (STRETCHES + "film,0.1,99,out_of_body\n", "cannot be placed"),
        (STRETCHES + "film,zero,0.2,out_of_body\n", "cannot be placed"),
        ("video,start,end,label\nfilm,0,0.4,work\n", "no annotation has the label 'out_of_body'"),
    ],
)
def test_a_stretch_that_cannot_be_placed_ends_the_run(home, capsys, text, problem):
    write_mp4(home / "in" / "film.mp4", np.arange(10) / 25)
    (home / "a.csv").write_text(text)
    options = ("--annotations", str(home / "a.csv"), "--format", "csv", "--mask-labels", "out_of_body")
    assert run(home, *options) == 2
    assert problem in capsys.readouterr().err and not (home / "out").exists()


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


HOSTILE = ["--out=x", 'a,b"c', "new\nline", "=cmd()", "ümlaut 手術", "a..", "%s{0}", "'; rm -rf", " "]


def test_hostile_names(home):
    for number, name in enumerate(HOSTILE):
        write_mp4(home / "in" / f"{name}.mp4", np.arange(3 + number) / 25)
    (home / "in" / b"\xff\xfe.mp4".decode("utf-8", "surrogateescape")).write_bytes(b"x")
    for _ in range(2):
        assert run(home) == 0
        assert {Path(row["path"]).name for row in rows(home)} == {f"{name}.mp4" for name in HOSTILE}
        assert len(list((home / "out").glob("*.mp4"))) == len(HOSTILE)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=("Cs",)), min_size=1), unique=True, min_size=1, max_size=5))
def test_any_path_comes_back_from_the_map(tmp_path_factory, paths):
    file = tmp_path_factory.mktemp("map") / "names.csv"
    made = NameMap(file)
    made.assign((path, f"g{path}") for path in paths)
    made.finish(paths[0], "recipe")
    read = NameMap(file)
    assert read.rows == made.rows and len({row.name for row in read.rows.values()}) == len(paths)


def test_the_map_refuses_what_it_did_not_write(tmp_path):
    file = tmp_path / "names.csv"
    head = ",".join(COLUMNS)
    for text, problem in [
        ("old,new\n", "line 1"),
        (f"{head}\n/a,../../etc,g,{'0' * 16},\n", "line 2"),
        (f"{head}\n/a\n/b,{'1' * 16},g,{'0' * 16},\n", "line 2"),
        (f"{head}\n" + "".join(f"/{p},{'1' * 16},g,{'0' * 16},\n" for p in "ab"), "have the same name"),
    ]:
        file.write_text(text)
        with pytest.raises(ValueError, match=problem):
            NameMap(file)


def test_the_map_stays_private(tmp_path):
    project = tmp_path / "project"
    (project / ".dvc").mkdir(parents=True)
    for names, out, problem in [
        (tmp_path / "in" / "n.csv", "out", "among the originals"),
        (tmp_path / "out" / "n.csv", "out", "among the copies"),
        (project / "data" / "n.csv", "out", "git or DVC"),
        (tmp_path / "n.txt", "out", "ends in .csv"),
        (tmp_path / "n.csv", "in/out", "apart"),
    ]:
        with pytest.raises(ValueError, match=problem):
            check_private(names, tmp_path / "in", tmp_path / out)
    check_private(tmp_path / "key" / "n.csv", tmp_path / "in", tmp_path / "out")


def test_devices(tmp_path):
    file = tmp_path / "masks.yaml"
    file.write_text(
        "tower_a: [[0, 0, 400, 60]]\n"
        "tower_b: {videos: '*/b_*', size: [64, 48], rectangles: [[1, 2, 3, 4]], circle: [32, 24, 20]}\n"
    )
    devices = read_devices(file)
    assert device_of(devices, "tower_a/x").rectangles == (Rectangle(0, 0, 400, 60),)
    assert device_of(devices, "ward/tower_a/x").name == "tower_a"
    assert device_of(devices, "ward/b_1").circle == Circle(32, 24, 20)
    with pytest.raises(ValueError, match="no device of the masks"):
        device_of(devices, "x")
    with pytest.raises(ValueError, match="64x48"):
        devices[1].check(1920, 1080)


BAD_MASKS = """
a: 3
a: [[0, 0, 1]]
a: [[0, 0, 0, 5]]
a: [[-1, 0, 5, 5]]
a: [[0.5, 0, 5, 5]]
a: [[true, 0, 5, 5]]
a: {rectangles: 5}
a: {circle: [1, 2]}
a: {circle: [1, 2, .nan]}
a: {size: big}
a: {rects: []}
a: {videos: 3}
'../x': []
[1]
a: [
"""


@pytest.mark.parametrize("text", ["", *BAD_MASKS.strip().splitlines()])
def test_bad_masks_name_the_file(tmp_path, text):
    (tmp_path / "masks.yaml").write_text(text)
    with pytest.raises(ValueError, match=r"masks\.yaml: "):
        read_devices(tmp_path / "masks.yaml")


def test_a_contact_sheet_per_device(home, capsys):
    write_mp4(home / "in" / "a.mp4", np.arange(4) / 25)
    write_mp4(home / "in" / "b.mp4", np.arange(4) / 25, grey_frames(4, size=(96, 48)))
    assert run(home) == 0
    sheets = home / "key" / "names_private" / "contact_sheets"
    assert {file.name for file in sheets.iterdir()} == {"64x64.png", "96x48.png"}
    with Image.open(sheets / "96x48.png") as sheet:
        assert sheet.width > 4 * 320 and np.asarray(sheet).std() > 10
    assert "Text that is burnt into the picture cannot be promised away." in capsys.readouterr().out


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
