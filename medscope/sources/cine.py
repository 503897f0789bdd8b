"""One DICOM file with many frames, written as an H.264 MP4 file with the times that the file states.

Pictures (JPEG baseline and lossless, RLE, uncompressed) are decoded by pydicom. Video transfer syntaxes (MPEG-2, H.264,
HEVC), which pydicom does not decode, are written out as the stream that they are and decoded by PyAV.
"""

from collections.abc import Iterator
from fractions import Fraction
from itertools import accumulate
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import av
import numpy as np

from medscope.environment.decoders import open_container

CRF = "16"  # of the copies: no loss that can be seen
TICK = Fraction(1, 90_000)  # s
_ITEM, _END = b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0"  # tags before a fragment, and after the last one
# Bare streams by the name of their transfer syntax. They hold no times and name no other file.
_BARE = (("HEVC", "hevc"), ("AVC", "h264"), ("MPEG2", "mpegvideo"))


class CineError(ValueError):
    """A DICOM file that is not a cine, or does not say when its frames were taken."""


def write_cine(path: Path, target: Path) -> None:
    """Write the frames of a DICOM file to `target`. Raises `CineError`, or what pydicom and PyAV raise for bad data."""
    from pydicom import dcmread

    header = dcmread(path, stop_before_pixels=True)
    if "Rows" not in header:
        raise CineError("the file holds no pictures")
    syntax = header.file_meta.TransferSyntaxUID
    if any(word in syntax.name for word, _ in _BARE):
        _write(target, _video_frames(path, header))
    else:
        count = int(header.get("NumberOfFrames") or 1)
        if count < 2:
            raise CineError("the file holds one frame, no cine")
        _write(target, zip(frame_times(header, count), _pictures(path, header), strict=True))


def frame_times(header: Any, count: int) -> list[float]:
    """Presentation times (s) of the frames: of FrameTimeVector, FrameTime, CineRate or RecommendedDisplayFrameRate.

    The first two state when frames were taken, the others how fast they are to be shown.
    """
    vector = header.get("FrameTimeVector")
    if vector is not None and len(steps := [float(step) for step in np.atleast_1d(vector)]) == count:
        times = [time / 1000 for time in accumulate(steps)]
        if any(step <= 0 for step in steps[1:]) or not np.isfinite(times).all():
            raise CineError("FrameTimeVector does not rise from frame to frame")
        return [time - times[0] for time in times]
    if vector is not None:
        raise CineError(f"FrameTimeVector holds {len(np.atleast_1d(vector))} times for {count} frames")
    return [index * frame_step(header) for index in range(count)]


def frame_step(header: Any) -> float:
    """Seconds from one frame to the next."""
    for name, seconds in (
        ("FrameTime", lambda value: value / 1000),
        ("CineRate", lambda value: 1 / value),
        ("RecommendedDisplayFrameRate", lambda value: 1 / value),
    ):
        value = header.get(name)
        if value is not None and value != "":
            if not 0 < float(value) < float("inf"):
                raise CineError(f"{name} is {value}; it must be more than 0")
            return seconds(float(value))
    raise CineError("it states neither FrameTime, FrameTimeVector, CineRate nor RecommendedDisplayFrameRate: no times")


def _pictures(path: Path, header: Any) -> Iterator[np.ndarray]:
    """Frames as uint8 [h, w, 3] RGB. Grey levels of more than 8 bits are windowed as the file says, or by range."""
    from pydicom.pixels import apply_color_lut, apply_modality_lut, apply_voi_lut, iter_pixels

    photometric = header.PhotometricInterpretation

    def frames() -> Iterator[np.ndarray]:
        for frame in iter_pixels(path):
            if photometric == "PALETTE COLOR":
                colours = apply_color_lut(frame, header)
                frame = colours >> 8 if colours.dtype == np.uint16 else colours
            elif photometric.startswith("MONOCHROME"):
                frame = apply_voi_lut(apply_modality_lut(frame, header), header)
            yield frame

    deep = photometric != "PALETTE COLOR" and not _is_8_bit(header)
    low, high = _range(frames()) if deep else (0.0, 255.0)
    for frame in frames():
        grey = np.clip((frame.astype(np.float32) - low) * (255 / max(high - low, 1e-9)), 0, 255).round()
        if photometric == "MONOCHROME1":
            grey = 255 - grey
        picture = grey.astype(np.uint8)
        yield np.stack([picture] * 3, axis=-1) if picture.ndim == 2 else picture


def _is_8_bit(header: Any) -> bool:
    """Whether the values are colours, or grey levels, of 8 bits as they stand."""
    if header.BitsAllocated == 8 and header.SamplesPerPixel == 3:
        return True
    plain = header.get("WindowWidth") is None and header.get("RescaleSlope") in (None, 1)
    return header.BitsAllocated == 8 and plain and header.get("PixelRepresentation", 0) == 0


def _range(frames: Iterator[np.ndarray]) -> tuple[float, float]:
    """Least and greatest value in all frames, so that brightness does not jump from one to the next."""
    bounds = [(float(frame.min()), float(frame.max())) for frame in frames]
    return min(low for low, _ in bounds), max(high for _, high in bounds)


def _video_frames(path: Path, header: Any) -> Iterator[tuple[float, np.ndarray]]:
    """Times and frames of an encapsulated video. A container has its own times, a bare stream the header's."""
    syntax = header.file_meta.TransferSyntaxUID
    with TemporaryDirectory() as folder:
        stream = Path(folder) / "stream"
        _write_stream(path, stream)
        bare = next(form for word, form in _BARE if word in syntax.name)
        try:
            container, timed = open_container(str(stream)), True
        except av.FFmpegError:
            container, timed = av.open(str(stream), format=bare), False
        with container:
            timed = timed and container.format.name not in ("mpegvideo", "h264", "hevc")
            if not container.streams.video:
                raise CineError("the encapsulated stream holds no video")
            first, step = None, 0.0 if timed else frame_step(header)
            for index, frame in enumerate(container.decode(container.streams.video[0])):
                time = frame.time if timed else index * step
                first = time if first is None else first
                yield time - first, frame.to_ndarray(format="rgb24")


def _write_stream(path: Path, target: Path) -> None:
    """Write the fragments of the pixel data one after the other, without the table of offsets before them.

    Raises `CineError` when the sequence of fragments does not come to its end.
    """
    from pydicom import dcmread

    with path.open("rb") as file, target.open("wb") as stream:
        dcmread(file, stop_before_pixels=True)
        element = file.read(12)  # the tag (7FE0,0010), OB, two empty bytes, a length that is not defined
        if element[:4] != b"\xe0\x7f\x10\x00" or element[8:] != b"\xff\xff\xff\xff":
            raise CineError("the pixel data are not encapsulated, though the transfer syntax is one of video")
        first = True
        while (item := file.read(8))[:4] == _ITEM:
            left = int.from_bytes(item[4:], "little")
            while left and (part := file.read(min(left, 1 << 20))):
                left -= len(part)
                stream.write(b"" if first else part)
            first = False
            if left:
                break
        if item[:4] != _END:
            raise CineError("the pixel data end in the middle of the stream; is the file truncated?")


def _write(target: Path, frames: Iterator[tuple[float, np.ndarray]]) -> None:
    """An H.264 file of the frames at their times (s). An odd side gains one row or column, as yuv420p needs."""
    with av.open(str(target), "w", options={"movflags": "faststart"}) as container:
        stream: Any = None
        for time, picture in frames:
            height, width = picture.shape[:2]
            picture = np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
            if stream is None:
                stream = container.add_stream("libx264", rate=25, options={"crf": CRF, "g": "50"})
                stream.height, stream.width = picture.shape[:2]
                stream.pix_fmt, stream.codec_context.time_base = "yuv420p", TICK
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            frame.pts, frame.time_base = round(time / TICK), TICK
            container.mux(stream.encode(frame))
        if stream is None:
            raise CineError("no frame of it can be decoded")
        container.mux(stream.encode())
