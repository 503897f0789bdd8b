"""Seconds in, frames out. Two decoders behind one seam (`DECODERS`), and a store that decodes a frame only once.

Frame times are the presentation times of the file, never index / fps, so that a variable frame rate is right too.
Every problem is a `VideoError` that names the file: a broken video is never replaced by another one.
"""

import math
import weakref
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Sequence
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

Size = tuple[int, int]  # width, height
PATCH_FACTOR = 28  # pixels a side of one visual token of Qwen2.5-VL (patch 14, merged 2 x 2)


class VideoError(ValueError):
    """A file that cannot be read as video, or a time outside of it."""


class _Decord:
    def __init__(self, path: str):
        self.path = path
        reader = self._open(None)
        self.readers = {None: reader}
        weakref.finalize(self, self.readers.clear)  # a scaling reader still alive when Python ends crashes the process
        stamps = np.asarray(reader.get_frame_timestamp(range(len(reader))), dtype=np.float64)
        self.starts = stamps.reshape(-1, 2)[:, 0]

    def _open(self, size: Size | None) -> Any:
        import torch  # noqa: F401  decord must be loaded after torch, or both crash in their OpenMP runtimes
        from decord import VideoReader, cpu

        width, height = size or (-1, -1)
        return VideoReader(self.path, ctx=cpu(0), num_threads=1, width=width, height=height)

    def read(self, indices: list[int], size: Size | None) -> np.ndarray:
        if size not in self.readers:
            self.readers.pop(None, None)  # a large video, from now on read in the sizes of skim, crop and frame
            self.readers[size] = self._open(size)
        return self.readers[size].get_batch(indices).asnumpy()


class _PyAV:
    def __init__(self, path: str):
        self.path = path
        with av.open(path) as container:
            stream = container.streams.video[0]
            self.time_base = float(stream.time_base)
            packets = [p for p in container.demux(stream) if p.pts is not None]
            self.pts = sorted(packet.pts for packet in packets)
            self.keys = sorted(packet.pts for packet in packets if packet.is_keyframe) or self.pts[:1]
            if len(packets) < stream.frames:
                raise EOFError(f"it holds {len(packets)} of {stream.frames} frames; is the file truncated?")
        self.starts = np.asarray(self.pts, dtype=np.float64) * self.time_base

    def read(self, indices: list[int], size: Size | None) -> np.ndarray:
        wanted = {self.pts[i] for i in indices}
        found: dict[int, np.ndarray] = {}
        with av.open(self.path) as container:
            stream = container.streams.video[0]
            for key, targets in groupby(sorted(wanted), self._key):
                last = max(targets)
                container.seek(key, stream=stream)
                for frame in container.decode(stream):
                    if frame.pts in wanted:
                        found[frame.pts] = self._picture(frame, size)
                    if frame.pts is not None and frame.pts >= last:
                        break
        return np.stack([found[self.pts[i]] for i in indices])

    @staticmethod
    def _picture(frame: av.VideoFrame, size: Size | None) -> np.ndarray:
        """Upright, as decord gives it: FFmpeg's rotation is counter-clockwise, in degrees."""
        turns = round(frame.rotation / 90)
        width, height = (size if turns % 2 == 0 else size[::-1]) if size else (None, None)
        return np.rot90(frame.to_ndarray(format="rgb24", width=width, height=height), turns)

    def _key(self, pts: int) -> int:
        """The keyframe from which a frame is decoded."""
        return self.keys[max(0, bisect_right(self.keys, pts) - 1)]


DECODERS = {"decord": _Decord, "pyav": _PyAV}


class Video:
    """An opened video: `duration` (s), `fps` (mean), `starts` (s, the presentation time of every frame, from 0)."""

    def __init__(self, path: str | Path, decoder: str = "decord"):
        self.path = str(path)
        self._check_container()
        try:
            self._decoder = DECODERS[decoder](self.path)
        except KeyError:
            raise VideoError(f"unknown decoder {decoder!r}; choose one of {sorted(DECODERS)}") from None
        except Exception as error:  # decoders raise bare RuntimeErrors of their own
            raise VideoError(f"{self.path}: {decoder} cannot open this file ({_first_line(error)})") from error
        if len(self._decoder.starts) == 0:
            raise VideoError(f"{self.path}: the video stream holds no frames; is the file truncated?")
        self.starts = self._decoder.starts - self._decoder.starts[0]
        steps = np.diff(self.starts)
        last_step = float(np.median(steps)) if len(steps) else 0.0
        self.duration = float(self.starts[-1] + last_step)
        if len(steps) and self.duration == 0:
            raise VideoError(f"{self.path}: {decoder} finds no presentation times in this file; convert it to MP4")
        self.fps = len(self.starts) / self.duration if len(steps) else 1.0  # any rate will do for a single frame

    def _check_container(self) -> None:
        file = Path(self.path)
        if not file.is_file():
            raise VideoError(f"{self.path}: no such video file")
        if file.stat().st_size == 0:
            raise VideoError(f"{self.path}: the file is empty (0 bytes)")
        try:
            with av.open(self.path) as container:
                streams = container.streams.video
                self.pixels = streams[0].width * streams[0].height if streams else 0
        except av.FFmpegError as error:
            raise VideoError(f"{self.path}: not a readable video, or truncated ({_first_line(error)})") from error
        if not streams:
            raise VideoError(f"{self.path}: the file has no video stream (audio only?)")

    def nearest(self, times: Sequence[float]) -> list[int]:
        """Index of the frame nearest to each second. NaN, negative times and times past the end are errors."""
        for time in times:
            if not math.isfinite(time) or time < 0 or time > self.duration:
                raise VideoError(f"{self.path}: {time} s is outside of this video (0 to {self.duration:.2f} s)")
        right = np.searchsorted(self.starts, times).clip(1, max(1, len(self.starts) - 1))
        left = right - 1
        right = np.minimum(right, len(self.starts) - 1)
        closer_left = np.abs(np.asarray(times) - self.starts[left]) <= np.abs(self.starts[right] - np.asarray(times))
        return np.where(closer_left, left, right).tolist()

    @cached_property
    def size(self) -> Size:
        """Width and height of a frame as it is shown."""
        height, width, _ = self.read([0])[0].shape
        return width, height

    def read(self, indices: list[int], size: Size | None = None) -> np.ndarray:
        """Frames by index as uint8 [n, h, w, 3] RGB, in full or scaled to `size` by the decoder."""
        try:
            return self._decoder.read(indices, size)
        except Exception as error:
            raise VideoError(f"{self.path}: frames {indices} cannot be decoded ({_first_line(error)})") from error

    def frames_at(self, times: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
        """The frames nearest to `times` (s): uint8 [n, h, w, 3] RGB, and their actual times [n] (s)."""
        indices = self.nearest(times)
        return self.read(indices), self.starts[indices]


def open_video(path: str | Path, decoder: str = "decord") -> Video:
    """Open a video file. Raises `VideoError` naming the file when it is missing, empty, truncated or not a video."""
    return Video(path, decoder)


def fitted(size: Size, max_pixels: int) -> Size:
    """The size with at most `max_pixels`, sides multiples of 28 px, aspect ratio kept."""
    height, width = smart_resize(
        size[1], size[0], factor=PATCH_FACTOR, min_pixels=PATCH_FACTOR**2, max_pixels=max_pixels
    )
    return width, height


def fit(frame: np.ndarray, max_pixels: int) -> Image.Image:
    """Resize a frame [h, w, 3] to at most `max_pixels`, sides multiples of 28 px, aspect ratio kept."""
    width, height = fitted((frame.shape[1], frame.shape[0]), max_pixels)
    return Image.fromarray(frame).resize((width, height), Image.Resampling.BOX if width < frame.shape[1] else None)


LARGE = 640 * 480  # pixels from which the decoder itself scales down (benchmarks/tool_latency.py)
OPEN_PIXELS = 8 * 1920 * 1080  # of all open videos: decord holds more than 100 bytes a pixel for every size it reads
SMALL_SHARE = 1 / 128  # a video whose frames take no more of the store is decoded whole: one pass instead of many seeks
READ_AT_ONCE = 64  # frames decoded before they are resized


def _read_fitted(video: Video, indices: list[int], max_pixels: int) -> list[Image.Image]:
    if video.pixels >= max(LARGE, 4 * max_pixels):
        size = fitted(video.size, max_pixels)
        return [Image.fromarray(frame).copy() for frame in video.read(indices, size)]  # own memory, not the batch's
    return [fit(frame, max_pixels) for frame in video.read(indices)]


class FrameStore:
    """Resized frames of many videos in a least-recently-used store bounded in bytes: every frame is decoded once.

    The images carry `info["frame"] = (path, index, max_pixels)`, the key under which a policy may cache features.
    """

    def __init__(self, decoder: str = "decord", max_bytes: int = 1 << 30, max_open: int = 256):
        self.decoder, self.max_bytes, self.max_open = decoder, max_bytes, max_open
        self.bytes = 0
        self._frames: OrderedDict[tuple[str, int, int], Image.Image] = OrderedDict()
        self._videos: OrderedDict[str, Video] = OrderedDict()

    def video(self, path: str) -> Video:
        if path not in self._videos:
            self._videos[path] = open_video(path, self.decoder)
            while len(self._videos) > 1 and not self._few_open():
                self._videos.popitem(last=False)
        self._videos.move_to_end(path)
        return self._videos[path]

    def _few_open(self) -> bool:
        pixels = sum(video.pixels for video in self._videos.values())
        return len(self._videos) <= self.max_open and pixels <= OPEN_PIXELS

    def frames(self, path: str, times: Sequence[float], max_pixels: int) -> tuple[list[Image.Image], list[float]]:
        """Frames nearest to `times` (s), at most `max_pixels` each, and their actual times (s)."""
        video = self.video(path)
        indices = video.nearest(times)
        missing = sorted({i for i in indices if (path, i, max_pixels) not in self._frames})
        if missing and len(video.starts) * max_pixels * 3 <= self.max_bytes * SMALL_SHARE:
            missing = [i for i in range(len(video.starts)) if (path, i, max_pixels) not in self._frames]
        fresh: dict[int, Image.Image] = {}
        for first in range(0, len(missing), READ_AT_ONCE):
            some = missing[first : first + READ_AT_ONCE]
            for index, image in zip(some, _read_fitted(video, some, max_pixels), strict=True):
                image.info["frame"] = (path, index, max_pixels)
                fresh[index] = image
        images = [fresh[i] if i in fresh else self._touch((path, i, max_pixels)) for i in indices]
        for image in fresh.values():
            self._frames[image.info["frame"]] = image
            self.bytes += image.width * image.height * 3
        while self.bytes > self.max_bytes:
            _, old = self._frames.popitem(last=False)
            self.bytes -= old.width * old.height * 3
        return images, [round(float(video.starts[i]), 2) for i in indices]

    def _touch(self, key: tuple[str, int, int]) -> Image.Image:
        self._frames.move_to_end(key)
        return self._frames[key]


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
