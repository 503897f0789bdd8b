"""A store of resized frames of many videos: every frame is decoded once and shared by rollouts and threads."""

from collections import OrderedDict
from collections.abc import Sequence
from threading import RLock

import numpy as np
from PIL import Image

from medscope.environment.video import Video, fit, fitted, open_video

LARGE = 640 * 480  # pixels from which the decoder itself scales down (benchmarks/tool_latency.py)
OPEN_PIXELS = 8 * 1920 * 1080  # of all open videos: decord holds more than 100 bytes a pixel for every size it reads
KNOWN_FRAMES = 1 << 25  # of all videos whose times are kept: 256 MiB
SMALL_SHARE = 1 / 128  # a video whose frames take no more of the store is resized whole while there is room for it
SMALL_FILE = 1 / 32  # of the store's bytes: full frames of a video that is decoded in one pass instead of many seeks
READ_AT_ONCE = 64  # frames decoded before they are resized


class FrameStore:
    """Resized frames of many videos in a least-recently-used store bounded in bytes: every frame is decoded once.

    The images carry `info["frame"] = (path, index, max_pixels)`, the key under which a policy may cache features.
    Threads may share a store: one at a time decodes.
    """

    def __init__(self, decoder: str = "decord", max_bytes: int = 1 << 30, max_open: int = 256):
        self.decoder, self.max_bytes, self.max_open = decoder, max_bytes, max_open
        self.bytes = 0
        self._lock = RLock()
        self._known_frames = 0  # of all `_videos`
        self._whole: tuple[Video, np.ndarray] | None = None  # the small video read last, in full frames
        self._frames: OrderedDict[tuple[str, int, int], Image.Image] = OrderedDict()
        self._videos: OrderedDict[str, Video] = OrderedDict()
        self._open: OrderedDict[str, Video] = OrderedDict()

    def video(self, path: str) -> Video:
        """The video of a path: its times and size are read once, its file may be closed and opened again."""
        with self._lock:
            if path not in self._videos:
                self._videos[path] = open_video(path, self.decoder)
                self._known_frames += len(self._videos[path].starts)
                self._hold_open(path)
            self._videos.move_to_end(path)
            while len(self._videos) > 1 and self._known_frames > KNOWN_FRAMES:
                forgotten, video = self._videos.popitem(last=False)
                self._known_frames -= len(video.starts)
                self._open.pop(forgotten, None)
            return self._videos[path]

    def _hold_open(self, path: str) -> None:
        """Count a file as open, and close those not read for longest where too many or too large ones are."""
        self._open[path] = self._videos[path]
        self._open.move_to_end(path)
        while len(self._open) > 1 and not self._few_open():
            self._open.popitem(last=False)[1].close()

    def _few_open(self) -> bool:
        pixels = sum(video.pixels for video in self._open.values())
        return len(self._open) <= self.max_open and pixels <= OPEN_PIXELS

    def frames(self, path: str, times: Sequence[float], max_pixels: int) -> tuple[list[Image.Image], list[float]]:
        """Frames nearest to `times` (s), at most `max_pixels` each, and their actual times (s)."""
        with self._lock:
            video = self.video(path)
            indices = video.nearest(times)
            missing = sorted({i for i in indices if (path, i, max_pixels) not in self._frames})
            if missing and self._has_room_for_all(video, max_pixels):
                missing = [i for i in range(len(video.starts)) if (path, i, max_pixels) not in self._frames]
            if missing:
                self._hold_open(path)
            fresh = self._decode(video, path, missing, max_pixels)
            images = [fresh[i] if i in fresh else self._touch((path, i, max_pixels)) for i in indices]
            self._remember(fresh)
            return images, [round(float(video.starts[i]), 2) for i in indices]

    def _has_room_for_all(self, video: Video, max_pixels: int) -> bool:
        """Whether frames that nobody has asked for yet are resized too: they displace no other frame."""
        size = len(video.starts) * max_pixels * 3
        return size <= self.max_bytes * SMALL_SHARE and self.bytes + size <= self.max_bytes

    def _decode(self, video: Video, path: str, indices: list[int], max_pixels: int) -> dict[int, Image.Image]:
        fresh: dict[int, Image.Image] = {}
        for first in range(0, len(indices), READ_AT_ONCE):
            some = indices[first : first + READ_AT_ONCE]
            for index, image in zip(some, self._read_fitted(video, some, max_pixels), strict=True):
                image.info["frame"] = (path, index, max_pixels)
                fresh[index] = image
        if fresh:
            video.rest()
        return fresh

    def _read_fitted(self, video: Video, indices: list[int], max_pixels: int) -> list[Image.Image]:
        if video.pixels >= max(LARGE, 4 * max_pixels):
            size = fitted(video.size, max_pixels)
            return [Image.fromarray(frame).copy() for frame in video.read(indices, size)]  # own memory, not the batch's
        if len(video.starts) * video.pixels * 3 > self.max_bytes * SMALL_FILE:
            return [fit(frame, max_pixels) for frame in video.read(indices)]
        if self._whole is None or self._whole[0] is not video:
            self._whole = video, video.read(list(range(len(video.starts))))
        return [fit(self._whole[1][index], max_pixels) for index in indices]

    def _remember(self, fresh: dict[int, Image.Image]) -> None:
        for image in fresh.values():
            self._frames[image.info["frame"]] = image
            self.bytes += image.width * image.height * 3
        while self.bytes > self.max_bytes:
            _, old = self._frames.popitem(last=False)
            self.bytes -= old.width * old.height * 3

    def _touch(self, key: tuple[str, int, int]) -> Image.Image:
        self._frames.move_to_end(key)
        return self._frames[key]
