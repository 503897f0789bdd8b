"""Where the frames of a file are: read once by looking at every packet, then kept on disk for later runs.

Kept in `~/.cache/medscope/index`, or where MEDSCOPE_INDEX_CACHE says, one file for each video: the times of all frames,
those of key frames, and the size and time of change of the video. A video that has changed is read again. The name is a
hash of the video's path, so that no recording is listed by its name.
"""

import hashlib
import os
import sys
import zipfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np

VERSION = 1  # raise it when a change of code finds other frames in the same file


@dataclass(frozen=True)
class FrameIndex:
    """`pts`: presentation times of all frames, sorted, in units of `time_base` (s); `keys`: those of key frames."""

    pts: np.ndarray
    keys: np.ndarray
    time_base: float


def frame_index(path: str, container: av.container.InputContainer) -> FrameIndex:
    """The index of an opened file. Raises `EOFError` for a file with fewer frames than it says."""
    kept, state = _kept(path), _state(path)
    if (known := _read(kept, state)) is not None:
        return known
    stream = container.streams.video[0]
    # Times alone: the packets of an hour would be the file in memory.
    times = [(p.pts, p.is_keyframe) for p in container.demux(stream) if p.pts is not None]
    if len(times) < stream.frames:
        raise EOFError(f"it holds {len(times)} of {stream.frames} frames; is the file truncated?")
    pts = np.array(sorted(pts for pts, _ in times), dtype=np.int64)
    keys = np.array(sorted(pts for pts, key in times if key), dtype=np.int64)
    index = FrameIndex(pts, keys if len(keys) else pts[:1], float(stream.time_base))
    _write(kept, state, index)
    return index


def _kept(path: str) -> Path:
    folder = Path(os.environ.get("MEDSCOPE_INDEX_CACHE", "~/.cache/medscope/index"))
    with suppress(RuntimeError):  # nobody's home: a container under a number without a name
        folder = folder.expanduser()
    return folder / f"{hashlib.sha256(os.fsencode(os.path.abspath(path))).hexdigest()[:32]}.npz"


def _state(path: str) -> np.ndarray:
    """Version of the index, bytes of the video, its time of change (ns)."""
    found = os.stat(path)
    return np.array([VERSION, found.st_size, found.st_mtime_ns], dtype=np.int64)


def _read(kept: Path, state: np.ndarray) -> FrameIndex | None:
    """The index that is kept, if it is of the file in this state. One that cannot be read is made anew."""
    if not zipfile.is_zipfile(kept):
        return None
    try:
        with np.load(kept, allow_pickle=False) as found:
            if not np.array_equal(found["state"], state):
                return None
            return FrameIndex(found["pts"], found["keys"], float(found["time_base"]))
    except (OSError, ValueError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile):
        return None


def _write(kept: Path, state: np.ndarray, index: FrameIndex) -> None:
    """Whole or not at all; several processes may write the same. Where there is no room the next run reads again."""
    temporary = kept.with_name(f"{kept.stem}.{os.getpid()}.part")
    try:
        if kept.parts[0] == "~":
            raise OSError("this user has no home; set MEDSCOPE_INDEX_CACHE to a folder")
        kept.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            np.savez(file, state=state, pts=index.pts, keys=index.keys, time_base=index.time_base)
        temporary.replace(kept)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        print(f"{kept}: the index of a video cannot be kept ({error}); it is read again next time", file=sys.stderr)
