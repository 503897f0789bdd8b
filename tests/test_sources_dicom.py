"""DICOM cines: every transfer syntax becomes an MP4 file with the frames and the times of the DICOM file."""

import numpy as np
import pytest
from dicoms import H264, HEVC, MPEG2, dataset, write_lossless_jpeg, write_pictures, write_video
from media import grey_frames, level_index
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.pixels import pixel_array
from pydicom.uid import RLELossless

from medscope.environment import open_video
from medscope.sources.cine import CineError, frame_times, write_cine
from medscope.sources.dicom import KEY_FILE, find_cines
from medscope.sources.folder import without_suffix
from medscope.sources.make import make_source

COUNT = 8


def copied(source, tmp_path):
    target = tmp_path / "copy.mp4"
    write_cine(source, target)
    return open_video(target)


def shown_levels(video):
    return [level_index(frame) for frame in video.read(list(range(len(video.starts))))]


def test_real_ultrasound_has_its_frame_time_and_its_frames(tmp_path):
    path = get_testdata_file("examples_ybr_color.dcm", download=False)  # JPEG baseline, FrameTime 33.333, no CineRate
    video = copied(path, tmp_path)
    assert len(video.starts) == 30
    assert video.starts == pytest.approx(np.arange(30) * 0.033333, abs=1e-4)
    frames = pixel_array(dcmread(path))
    for index in (0, 17, 29):
        assert np.abs(video.read([index])[0].astype(int) - frames[index]).mean() < 2


@pytest.mark.parametrize("colour", [True, False])
def test_uncompressed(tmp_path, colour):
    frames = grey_frames(COUNT) if colour else grey_frames(COUNT)[..., 0]
    video = copied(write_pictures(tmp_path / "a.dcm", frames, FrameTime="40"), tmp_path)
    assert shown_levels(video) == list(range(COUNT))
    assert video.starts == pytest.approx(np.arange(COUNT) * 0.04, abs=1e-4)


def test_run_length(tmp_path):
    made = dataset(grey_frames(COUNT), CineRate="10")
    made.compress(RLELossless)
    made.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    video = copied(tmp_path / "a.dcm", tmp_path)
    assert shown_levels(video) == list(range(COUNT))
    assert video.starts == pytest.approx(np.arange(COUNT) * 0.1, abs=1e-4)


def test_jpeg_lossless(tmp_path):
    pytest.importorskip("gdcm", reason="python-gdcm decodes JPEG lossless")
    video = copied(write_lossless_jpeg(tmp_path / "a.dcm", grey_frames(COUNT)[..., 0], FrameTime="50"), tmp_path)
    assert shown_levels(video) == list(range(COUNT))
    assert video.duration == pytest.approx(COUNT * 0.05, abs=1e-3)


@pytest.mark.parametrize(
    ("syntax", "codec", "form"),
    [
        (H264, "libx264", "h264"),
        (H264, "libx264", "mpegts"),
        (HEVC, "libx265", "hevc"),
        (MPEG2, "mpeg2video", "mpeg2video"),
        (MPEG2, "mpeg2video", "mpegts"),
    ],
)
def test_encapsulated_video(tmp_path, syntax, codec, form):
    path = write_video(tmp_path / "a.dcm", syntax, codec, form, COUNT, FrameTime="40")
    video = copied(path, tmp_path)
    assert shown_levels(video) == list(range(COUNT))
    assert video.starts == pytest.approx(np.arange(COUNT) * 0.04, abs=1e-4)


def test_a_bare_stream_has_the_times_of_the_header_not_a_default_of_25(tmp_path):
    path = write_video(tmp_path / "a.dcm", H264, "libx264", "h264", COUNT, FrameTime="100")
    assert copied(path, tmp_path).duration == pytest.approx(0.8, abs=1e-3)


def test_deep_grey_levels_keep_one_scale_over_all_frames(tmp_path):
    frames = grey_frames(COUNT)[..., 0].astype(np.uint16) * 16  # 12 bits of 16
    video = copied(write_pictures(tmp_path / "a.dcm", frames, FrameTime="40"), tmp_path)
    means = [float(frame.mean()) for frame in video.read(list(range(COUNT)))]
    assert means == pytest.approx(np.linspace(0, 255, COUNT), abs=4)


def test_inverted_grey_levels(tmp_path):
    made = dataset(grey_frames(COUNT)[..., 0], FrameTime="40")
    made.PhotometricInterpretation = "MONOCHROME1"
    made.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    assert copied(tmp_path / "a.dcm", tmp_path).read([0])[0].mean() > 250


def test_palette(tmp_path):
    """Indices 0 to 7 into a palette of 16 bits whose red rises and whose blue is full."""
    made = dataset(np.broadcast_to(np.arange(COUNT, dtype=np.uint8)[:, None, None], (COUNT, 64, 64)), FrameTime="40")
    made.PhotometricInterpretation = "PALETTE COLOR"
    ramp = (np.arange(256) * 32 % 256 * 257).astype(np.uint16)
    for name, values in (("Red", ramp), ("Green", ramp * 0), ("Blue", ramp * 0 + 65535)):
        setattr(made, f"{name}PaletteColorLookupTableDescriptor", [256, 0, 16])
        setattr(made, f"{name}PaletteColorLookupTableData", values.astype(np.uint16).tobytes())
    made.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    frames = copied(tmp_path / "a.dcm", tmp_path).read(list(range(COUNT)))
    means = frames.mean(axis=(1, 2))
    assert means[:, 0] == pytest.approx(np.arange(COUNT) * 32, abs=6)
    assert means[:, 1].max() < 12 and means[:, 2].min() > 240


def test_odd_sides_gain_a_pixel(tmp_path):
    video = copied(write_pictures(tmp_path / "a.dcm", grey_frames(COUNT, (65, 49)), FrameTime="40"), tmp_path)
    assert video.size == (66, 50)


@pytest.mark.parametrize(
    ("header", "times"),
    [
        ({"FrameTime": "50"}, [0, 0.05, 0.1]),
        ({"CineRate": "20"}, [0, 0.05, 0.1]),
        ({"RecommendedDisplayFrameRate": "10"}, [0, 0.1, 0.2]),
        ({"FrameTime": "50", "CineRate": "1000"}, [0, 0.05, 0.1]),
        ({"FrameTimeVector": ["0", "30", "70"], "FrameTime": "50"}, [0, 0.03, 0.1]),
        ({"FrameTimeVector": ["10", "30", "70"]}, [0, 0.03, 0.1]),
    ],
)
def test_times(header, times):
    assert frame_times(dataset(grey_frames(3), **header), 3) == pytest.approx(times)


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ({}, "neither FrameTime"),
        ({"FrameTime": "0"}, "FrameTime is 0"),
        ({"CineRate": "-3"}, "CineRate is -3"),
        ({"FrameTimeVector": ["0", "30"]}, "2 times for 3 frames"),
        ({"FrameTimeVector": ["0", "30", "0"]}, "does not rise"),
    ],
)
def test_times_that_are_not_there(header, words):
    with pytest.raises(CineError, match=words):
        frame_times(dataset(grey_frames(3), **header), 3)


def test_unequal_times_reach_the_copy(tmp_path):
    path = write_pictures(tmp_path / "a.dcm", grey_frames(4), FrameTimeVector=["0", "100", "20", "500"])
    assert copied(path, tmp_path).starts == pytest.approx([0, 0.1, 0.12, 0.62], abs=1e-4)


@pytest.fixture
def hospital(tmp_path):
    """Two cines of one patient, one of another, one without a number, a still, a text and half a file."""
    folder = tmp_path / "in"
    for name, patient, shift in (("a/one.dcm", "7", 0), ("a/two.dcm", "7", 1), ("b/one", "8", 2), ("c.dcm", "", 3)):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write_pictures(folder / name, np.roll(grey_frames(COUNT), shift, axis=0), patient=patient, FrameTime="40")
    write_pictures(folder / "still.dcm", grey_frames(1))
    (folder / "text.dcm").write_text("not DICOM")
    whole = write_video(folder / "half.dcm", H264, "libx264", "h264", COUNT, FrameTime="40").read_bytes()
    (folder / "half.dcm").write_bytes(whole[: len(whole) // 2])
    (folder / "notes.txt").write_text("no video")
    return folder


def test_source(hospital, tmp_path):
    source = make_source(
        "dicom", folder=hospital, copies=tmp_path / "copies", out=tmp_path / "out", max_quarantined=0.5, collection="us"
    )
    recordings = {recording.video: recording for recording in source.recordings()}
    assert list(recordings) == ["a/one", "a/two", "b/one", "c"]
    groups = {video: recording.group for video, recording in recordings.items()}
    assert groups["a/one"] == groups["a/two"] != groups["b/one"]
    assert groups["c"] == "c"  # without a number of the patient it stands alone
    assert open_video(recordings["b/one"].path).duration == pytest.approx(COUNT * 0.04, abs=1e-3)
    reasons = (tmp_path / "out" / "quarantine.jsonl").read_text()
    for words in ("one frame, no cine", "text.dcm", "half.dcm"):
        assert words in reasons
    assert "notes" not in reasons


def test_copies_carry_nothing_of_the_header(hospital, tmp_path):
    find_cines(hospital, tmp_path / "copies")
    for file in (tmp_path / "copies").rglob("*.mp4"):
        content = file.read_bytes()
        assert b"Doe" not in content and b"Jane" not in content
    assert (tmp_path / "copies" / KEY_FILE).stat().st_mode & 0o077 == 0


def test_copies_are_made_once_and_again_when_the_file_changes(hospital, tmp_path):
    copies = tmp_path / "copies"
    first = find_cines(hospital, copies)
    state = {file: file.stat().st_mtime_ns for file in copies.rglob("*.mp4")}
    assert find_cines(hospital, copies) == first  # the same groups too: the key stays
    assert {file: file.stat().st_mtime_ns for file in copies.rglob("*.mp4")} == state
    write_pictures(hospital / "c.dcm", grey_frames(3), FrameTime="40")
    find_cines(hospital, copies)
    assert len(open_video(copies / "c.mp4").starts) == 3
    assert not list(copies.rglob("*.part*"))


def test_copies_inside_the_folder_are_refused(hospital):
    with pytest.raises(ValueError, match="outside of it"):
        find_cines(hospital, hospital / "copies")


@pytest.mark.parametrize("part", range(1, 12))
def test_half_a_file_is_a_problem(tmp_path, part):
    (tmp_path / "in").mkdir()
    for name, made in (
        ("video.dcm", write_video(tmp_path / "video", H264, "libx264", "mpegts", COUNT, FrameTime="40")),
        ("pictures.dcm", write_pictures(tmp_path / "pictures", grey_frames(COUNT), FrameTime="40")),
    ):
        content = made.read_bytes()
        (tmp_path / "in" / name).write_bytes(content[: len(content) * part // 12])
    found = find_cines(tmp_path / "in", tmp_path / "copies")
    assert len(found) == 2 and all(file.problem.startswith(f"{tmp_path}/in/") for file in found)
    assert not list((tmp_path / "copies").glob("*.mp4"))


def test_suffixes_of_dicom_are_no_part_of_a_name():
    assert without_suffix("a/one.dcm") == "a/one"
