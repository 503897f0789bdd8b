"""Two decoders behind one seam: a path in, the presentation time of every frame and frames by index out."""

import os
import weakref
from bisect import bisect_right
from itertools import groupby
from typing import Any

import av
import numpy as np

from medscope.environment.frame_index import frame_index

Size = tuple[int, int]  # width, height
# Containers that hold their own frames. Playlists (ffconcat, HLS) are not among them: they open other files.
CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegvideo,mpegts,asf,flv,ogg"
# Streams without an index: decord finds neither their times nor their frames, PyAV reads them whatever is asked for.
STREAMS = ("mpeg", "mpegts", "mpegvideo")
INHERITED: list[Any] = []  # readers of the process that forked this one, kept for ever


def open_container(path: str) -> av.container.InputContainer:
    """Open a file as one of `CONTAINERS`, whatever its name says. Raises `av.FFmpegError` for anything else."""
    # Titles in another encoding are no reason to refuse a film.
    return av.open(path, options={"format_whitelist": CONTAINERS}, metadata_errors="replace")


class DecordReader:
    """decord: fast to open; it scales large frames itself."""

    def __init__(self, path: str):
        self.path = path
        self._keep({None: self._open(None)})
        reader = self.readers[None]
        stamps = np.asarray(reader.get_frame_timestamp(range(len(reader))), dtype=np.float64)
        self.starts = stamps.reshape(-1, 2)[:, 0]

    def _open(self, size: Size | None) -> Any:
        import torch  # noqa: F401  decord must be loaded after torch, or both crash in their OpenMP runtimes
        from decord import VideoReader, cpu

        width, height = size or (-1, -1)
        return VideoReader(self.path, ctx=cpu(0), num_threads=1, width=width, height=height)

    def _keep(self, readers: dict[Size | None, Any]) -> None:
        self.readers, self.process = readers, os.getpid()
        weakref.finalize(self, _free, readers, self.process)

    def read(self, indices: list[int], size: Size | None) -> np.ndarray:
        self._leave_inherited()
        if size not in self.readers:
            self.readers.pop(None, None)  # a large video, from now on read in the sizes of skim, crop and frame
            self.readers[size] = self._open(size)
        return self.readers[size].get_batch(indices).asnumpy()

    def rest(self) -> None:
        """An open reader decodes on behind the frames that it was asked for, a second for a large video. A seek ends
        that."""
        self._leave_inherited()
        for reader in self.readers.values():
            reader.seek(0)

    def close(self) -> None:
        """Close the file. `read` opens it again, without reading its times again."""
        self._leave_inherited()
        self.readers.clear()

    def _leave_inherited(self) -> None:
        """Readers that were open when this process was forked have no thread here that decodes: reading by one hangs,
        and so does freeing one."""
        if self.process != os.getpid():
            INHERITED.append(self.readers)
            self._keep({})


def _free(readers: dict[Size | None, Any], process: int) -> None:
    """Also where Python ends: a scaling reader that is still alive then crashes the process."""
    if process == os.getpid():
        readers.clear()
    else:
        INHERITED.append(readers)


class PyAVReader:
    """PyAV: reads the whole file once for its index, which is kept on disk, then seeks by keyframe."""

    def __init__(self, path: str):
        self.path = path
        with open_container(path) as container:
            index = frame_index(path, container)
        self.pts, self.keys = index.pts.tolist(), index.keys.tolist()
        self.starts = index.pts * index.time_base

    def read(self, indices: list[int], size: Size | None) -> np.ndarray:
        wanted = {self.pts[i] for i in indices}
        found: dict[int, np.ndarray] = {}
        with open_container(self.path) as container:
            stream = container.streams.video[0]
            for key, targets in groupby(sorted(wanted), self._key):
                targets = set(targets)
                # Transport and programme streams have no index: a seek may land behind the key frame. Then go back.
                for back in (0, 1, 4, 16, len(self.keys)):
                    container.seek(self.keys[max(0, bisect_right(self.keys, key) - 1 - back)], stream=stream)
                    for frame in container.decode(stream):
                        if frame.pts in targets:
                            found[frame.pts] = self._picture(frame, size)
                        if frame.pts is not None and frame.pts >= max(targets):
                            break
                    if targets <= found.keys():
                        break
                else:
                    self._read_from_start(targets - found.keys(), size, found)
        return np.stack([found[self.pts[i]] for i in indices])

    def rest(self) -> None:
        """Nothing goes on between two reads."""

    def close(self) -> None:
        """Nothing stays open between two reads."""

    def _read_from_start(self, targets: set[int], size: Size | None, found: dict[int, np.ndarray]) -> None:
        """Decode the file without a seek until all targets are found."""
        with open_container(self.path) as container:
            for frame in container.decode(container.streams.video[0]):
                if frame.pts in targets:
                    found[frame.pts] = self._picture(frame, size)
                if frame.pts is not None and frame.pts >= max(targets):
                    break

    @staticmethod
    def _picture(frame: av.VideoFrame, size: Size | None) -> np.ndarray:
        """Upright, as decord gives it: FFmpeg's rotation is counter-clockwise, in degrees."""
        turns = round(frame.rotation / 90)
        width, height = (size if turns % 2 == 0 else size[::-1]) if size else (None, None)
        return np.rot90(frame.to_ndarray(format="rgb24", width=width, height=height), turns)

    def _key(self, pts: int) -> int:
        """The keyframe from which a frame is decoded."""
        return self.keys[max(0, bisect_right(self.keys, pts) - 1)]


DECODERS = {"decord": DecordReader, "pyav": PyAVReader}
