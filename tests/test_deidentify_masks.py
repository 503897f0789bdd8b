"""Masks of de-identified copies: rectangles, the circle of an endoscope, stretches; nothing masked is encoded."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from deidentified import frames, noise, only, rows, run, starts
from media import grey_frames, write_mp4
from PIL import Image
from real_data import real_file

from medscope.deidentify.circle import circle_of, find_circle
from medscope.deidentify.copying import copy_video, masked_frames
from medscope.deidentify.masks import Circle, Mask, Rectangle, device_of, read_devices
from medscope.environment.decoders import open_container
from medscope.records import Window
from medscope.sources.annotations.formats import read_annotations


@pytest.fixture
def home(tmp_path):
    (tmp_path / "in").mkdir()
    return tmp_path


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


@pytest.mark.slow  # seconds of 1080p
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
