"""Seconds in, frames out, from one file.

Frame times are the presentation times of the file, never index / fps, so that a variable frame rate is right too.
Every problem is a `VideoError` that names the file: a broken video is never replaced by another one.
"""

import math
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import av
import numpy as np
from PIL import Image
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

from medscope.environment.decoders import DECODERS, STREAMS, Size, open_container

PATCH_FACTOR = 28  # pixels a side of one visual token of Qwen2.5-VL (patch 14, merged 2 x 2)


class VideoError(ValueError):
    """A file that cannot be read as video, or a time outside of it."""


class Video:
    """An opened video: `duration` (s), `fps` (mean), `starts` (s, the presentation time of every frame, from 0)."""

    def __init__(self, path: str | Path, decoder: str = "decord"):
        self.path = str(path)
        if decoder not in DECODERS:
            raise VideoError(f"unknown decoder {decoder!r}; choose one of {sorted(DECODERS)}")
        if self._check_container() in STREAMS:
            decoder = "pyav"  # the only one that can
        try:
            self._decoder = DECODERS[decoder](self.path)
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

    def _check_container(self) -> str:
        """The name of the container."""
        file = Path(self.path)
        if not file.is_file():
            raise VideoError(f"{self.path}: no such video file")
        if file.stat().st_size == 0:
            raise VideoError(f"{self.path}: the file is empty (0 bytes)")
        try:
            with open_container(self.path) as container:
                streams, name = container.streams.video, container.format.name
                self.pixels = streams[0].width * streams[0].height if streams else 0
        except av.FFmpegError as error:
            raise VideoError(
                f"{self.path}: not a video file of a known container, or truncated ({_first_line(error)})"
            ) from error
        if not streams:
            raise VideoError(f"{self.path}: the file has no video stream (audio only?)")
        return name

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

    def rest(self) -> None:
        """Let the decoder stop where it is; the next `read` starts anew from a key frame, or opens the file again."""
        try:
            self._decoder.rest()
        except Exception:  # what was read is good; a file that has gone says so at the next read
            self._decoder.close()

    def close(self) -> None:
        """Close the file; the next `read` opens it again. Times and size stay."""
        self._decoder.close()

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


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
