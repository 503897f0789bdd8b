"""One video file to one MP4 file without metadata and sound.

Its stream is copied as it is, or its frames are masked and encoded anew. Frames of the copy have the times of the
original, counted from its first frame, and are as many.
"""

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.bitstream import BitStreamFilterContext

from medscope.deidentify.masks import Mask
from medscope.environment.decoders import PyAVReader, open_container

SAME = 1e-6  # s that a frame of a copy may be off
BLEED = 4  # pixels that colour is carried when a frame is converted to yuv420p: the colour near a mask is left out
CRF, GOP = "18", "50"  # of a copy that is encoded anew
# Codecs whose stream is copied, and the units that are left out: messages beside the picture, where recorders put the
# date, the place and the name of the device. The streams of other codecs are encoded anew.
# Second: the name of the codec in an MP4 file.
STREAMS = {
    "h264": ("filter_units=remove_types=6", "avc1"),
    "hevc": ("filter_units=remove_types=39-40", "hvc1"),
    "av1": ("filter_units=remove_types=5", "av01"),
    "vp9": ("null", "vp09"),
}
NATIVE = ("yuv420p", "yuvj420p")  # formats whose planes are masked as they are
Progress = Callable[[float], Any]  # is told the seconds of video that are done


class CopyError(ValueError):
    """A video that cannot be copied frame by frame, and why."""


def copy_video(source: str, target: Path, mask: Mask, progress: Progress = lambda seconds: None) -> str:
    """Write the copy of `source` to `target`, which must not exist; return `stream` or `encoded`.

    The stream is copied where no mask is asked for and its codec allows it. A kill leaves `target` + `.part`. Raises
    `CopyError`, and what PyAV raises for a damaged file.
    """
    part = target.with_name(target.name + ".part")
    try:
        how = "encoded"
        if not mask and _copy_stream(source, part, progress) and not _difference(source, part, pictures=True):
            how = "stream"
        else:
            _encode(source, part, mask, progress)
            if difference := _difference(source, part, pictures=False):
                raise CopyError(difference)
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
    return how


def _copy_stream(source: str, part: Path, progress: Progress) -> bool:
    """Whether the stream can be copied as it is, and was."""
    with open_container(source) as container:
        stream = container.streams.video[0]
        if stream.codec_context.name not in STREAMS:
            return False
        messages, tag = STREAMS[stream.codec_context.name]
        try:
            with _open_copy(part) as copy:
                made = copy.add_stream_from_template(stream)
                kept = BitStreamFilterContext(messages, stream, made)
                made.codec_context.codec_tag = tag  # the filter has set that of the other container
                for packet in _ordered(container.demux(stream)):
                    if packet is not None:  # the filter empties it
                        progress(float((packet.pts - (stream.start_time or 0)) * packet.time_base))
                    for filtered in kept.filter(packet):
                        filtered.stream = made
                        copy.mux(filtered)
        except (av.FFmpegError, ValueError) as error:
            if is_disk_full(error):
                raise
            return False
    return True


def _ordered(packets: Iterator[av.Packet]) -> Iterator[av.Packet | None]:
    """Packets that a muxer takes, then None. Matroska states no decoding time for the first ones: they come before.

    Raises ValueError for packets without times, and for a film that is cut by an edit list.
    """
    waiting: list[av.Packet] = []
    for packet in packets:
        if not packet.size:
            continue
        if packet.is_discard or packet.pts is None:
            raise ValueError("its packets do not tell its times")
        waiting.append(packet)
        if packet.dts is None:
            continue
        for back, early in enumerate(reversed(waiting[:-1]), start=1):
            early.dts = packet.dts - back
        yield from waiting
        waiting = []
    if waiting:
        raise ValueError("its packets do not tell its times")
    yield None


def _encode(source: str, part: Path, mask: Mask, progress: Progress) -> None:
    with open_container(source) as container, _open_copy(part) as copy:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        made: Any = None
        for picture, frame in masked_frames(container, mask):
            if made is None:
                made = copy.add_stream("libx264", rate=stream.average_rate or 25, options={"crf": CRF, "g": GOP})
                made.height, made.width = picture.height, picture.width
                made.pix_fmt, made.codec_context.time_base = "yuv420p", stream.time_base
                _keep_colours(made.codec_context, frame)
            copy.mux(made.encode(picture))
            progress(float(picture.pts * stream.time_base))
        if made is None:
            raise CopyError("no frame of it decodes")
        copy.mux(made.encode())


def masked_frames(container: Any, mask: Mask) -> Iterator[tuple[av.VideoFrame, av.VideoFrame]]:
    """What the encoder sees: every frame upright and masked as yuv420p, with its ticks; and the frame as it was.

    Nothing of what is masked is in the first: it does not depend on the pixels below the mask.
    """
    stream = container.streams.video[0]
    hidden = coloured = np.zeros((0, 0), dtype=bool)
    for time, pts, frame in _timed(container, stream):
        planes = _planes(frame)
        if not len(hidden):
            hidden = _even(mask.hidden(planes[0].shape[1], planes[0].shape[0]))
            coloured = _halved(_grown(hidden, 0 if frame.format.name in NATIVE else BLEED))
        planes[0] = _even(planes[0])
        if planes[0].shape != hidden.shape:
            raise CopyError(f"the size of its frames changes at {time:.2f} s")
        if mask:
            everything = mask.hides(time)
            planes[0][... if everything else hidden] = 0 if _is_full_range(frame) else 16
            for chroma in planes[1:]:
                chroma[... if everything else coloured] = 128
        picture = av.VideoFrame.from_ndarray(_packed(planes), format="yuv420p")
        picture.pts, picture.time_base = pts, stream.time_base
        yield picture, frame


def _open_copy(part: Path) -> av.container.OutputContainer:
    container = av.open(str(part), "w", format="mp4", options={"movflags": "faststart"})
    container.flags |= av.container.Flags.bitexact.value  # names no software
    return container


def _timed(container: Any, stream: Any) -> Iterator[tuple[float, int, av.VideoFrame]]:
    """Seconds and ticks since the first frame, and the frame. Times that do not rise are refused."""
    first = last = None
    for frame in container.decode(stream):
        if frame.pts is None:
            raise CopyError("it holds a frame without a time; convert it to MP4")
        first = frame.pts if first is None else first
        if last is not None and frame.pts <= last:
            seconds = float((last - first) * stream.time_base)
            raise CopyError(f"two of its frames have the same time, {seconds:.3f} s; convert it to MP4")
        last = frame.pts
        yield float((frame.pts - first) * stream.time_base), frame.pts - first, frame


def _planes(frame: av.VideoFrame) -> list[np.ndarray]:
    """Luma [h, w] and two chromas [h/2, w/2], upright."""
    turns = round(frame.rotation / 90)
    if frame.format.name not in NATIVE:
        frame = frame.reformat(format="yuvj420p" if _is_full_range(frame) else "yuv420p")
    planes = [
        np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)[:, : plane.width]
        for plane in frame.planes
    ]
    return [np.rot90(plane, turns).copy() for plane in planes]


def _is_full_range(frame: av.VideoFrame) -> bool:
    """Whether black is 0, and not 16."""
    return not frame.format.is_rgb and (frame.format.name.startswith("yuvj") or frame.color_range == 2)


def _even(plane: np.ndarray) -> np.ndarray:
    """With one more row or column where a side is odd, as yuv420p needs."""
    height, width = plane.shape
    return np.pad(plane, ((0, height % 2), (0, width % 2)), mode="edge")


def _grown(hidden: np.ndarray, reach: int) -> np.ndarray:
    """The hidden pixels and those at most `reach` away from one along rows and columns."""
    for axis in (0, 1):
        spread = hidden.copy()
        for step in range(1, reach + 1):
            near, far = (slice(None),) * axis, hidden.shape[axis]
            spread[(*near, slice(step, far))] |= hidden[(*near, slice(0, far - step))]
            spread[(*near, slice(0, far - step))] |= hidden[(*near, slice(step, far))]
        hidden = spread
    return hidden


def _halved(hidden: np.ndarray) -> np.ndarray:
    """The samples of a chroma plane that cover a hidden pixel."""
    height, width = hidden.shape
    return hidden.reshape(height // 2, 2, width // 2, 2).any(axis=(1, 3))


def _packed(planes: list[np.ndarray]) -> np.ndarray:
    """The form in which PyAV takes yuv420p: [h * 3/2, w]."""
    height, width = planes[0].shape
    return np.concatenate([plane.reshape(-1) for plane in planes]).reshape(height * 3 // 2, width)


def _keep_colours(codec: Any, frame: av.VideoFrame) -> None:
    codec.color_range = 2 if _is_full_range(frame) else 1
    if not frame.format.is_rgb:
        codec.colorspace = frame.colorspace
        codec.color_primaries, codec.color_trc = frame.color_primaries, frame.color_trc


def _difference(source: str, copy: Path, pictures: bool) -> str:
    """What tells the copy from the original: its frames' number or times, or (asked for) a picture; "" for nothing."""
    before, after = PyAVReader(source), PyAVReader(str(copy))
    if len(before.starts) != len(after.starts):
        return f"{len(after.starts)} of {len(before.starts)} frames decode"
    off = np.abs((before.starts - before.starts[0]) - (after.starts - after.starts[0]))
    if off.max() > SAME:
        return f"the time of frame {off.argmax()} would shift by {off.max():.6f} s"
    for index in sorted({0, len(before.starts) // 2, len(before.starts) - 1}) if pictures else ():
        try:
            same = np.array_equal(before.read([index], None), after.read([index], None))
        except LookupError:  # a packet whose time no decoded frame has
            return f"frame {index} does not decode"
        if not same:
            return f"frame {index} would change"
    return ""


def is_disk_full(error: BaseException) -> bool:
    """Whether the disk is full or cannot be written: no fault of the video."""
    return getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
