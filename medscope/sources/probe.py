"""One look at a video file: its times, size, codec, key frames and hash. The whole file is read, one frame decoded."""

import hashlib
import os
from typing import Any

import av
import numpy as np

from medscope.environment import VideoError
from medscope.environment.decoders import open_container

SLACK = 1.0  # s that the length in a file's header may exceed its last frame: sound runs on, headers are rounded


def probe(path: str) -> dict[str, Any]:
    """Fields of a `VideoFile`: duration (s), fps, width, height, codec, sha256, key_frames (s from the first frame).

    Raises `VideoError` that names the file when it is missing, empty, no regular file, of no known container, without a
    video stream, truncated, or does not decode.
    """
    if not os.path.exists(path):
        raise VideoError(f"{path}: no such video file")
    if not os.path.isfile(path):
        raise VideoError(f"{path}: not a regular file")
    if os.path.getsize(path) == 0:
        raise VideoError(f"{path}: the file is empty (0 bytes)")
    try:
        seen = _index(path) | _decode(path)
    except VideoError:
        raise
    except Exception as error:  # damaged headers make PyAV raise more than its own errors
        raise VideoError(f"{path}: not a video file of a known container, or truncated or damaged ({error})") from error
    with open(path, "rb") as file:
        return {**seen, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def _index(path: str) -> dict[str, Any]:
    """Times of the packets of the video stream. `duration` ends one median frame after the last start."""
    with open_container(path) as container:
        if not container.streams.video:
            raise VideoError(f"{path}: the file has no video stream (audio only?)")
        stream = container.streams.video[0]
        packets = [(p.pts, p.is_keyframe, p.is_corrupt) for p in container.demux(stream) if p.size]
        promised, length = stream.frames, (container.duration or 0) / av.time_base
        # The header of these says how long the film is; other containers are measured by their last packet.
        has_length = container.format.name.startswith(("matroska", "mov"))
        base = float(stream.time_base)
    pts = np.array(sorted(pts for pts, _, _ in packets if pts is not None), dtype=np.float64) * base
    if len(pts) == 0:
        raise VideoError(f"{path}: the video stream holds no frames with a time; is the file truncated?")
    if len(packets) < promised:
        raise VideoError(f"{path}: it holds {len(packets)} of {promised} frames; is the file truncated?")
    if any(corrupt for _, _, corrupt in packets):
        raise VideoError(f"{path}: a frame is cut short; is the file truncated?")
    steps = np.diff(pts)
    duration = float(pts[-1] - pts[0] + (np.median(steps) if len(steps) else 0.0))
    if len(steps) and duration <= 0:
        raise VideoError(f"{path}: all frames have the same time; convert the file to MP4")
    if has_length and promised == 0 and pts[-1] + SLACK + duration / len(pts) < length:
        raise VideoError(f"{path}: its last frame is at {pts[-1]:.1f} s of {length:.1f} s; is the file truncated?")
    keys = sorted(pts_ * base - pts[0] for pts_, key, _ in packets if key and pts_ is not None)
    return {
        "duration": duration,
        "fps": len(pts) / duration if len(steps) else 1.0,
        "key_frames": tuple(round(max(0.0, key), 6) for key in keys) or (0.0,),
    }


def _decode(path: str) -> dict[str, Any]:
    """Size of the first frame as it is shown, and proof that its codec can be decoded."""
    with open_container(path) as container:
        stream = container.streams.video[0]
        first = next(container.decode(stream), None)
        if first is None:
            raise VideoError(f"{path}: no frame of the {stream.codec_context.name} stream decodes")
        size = (first.width, first.height) if round(first.rotation / 90) % 2 == 0 else (first.height, first.width)
        codec = stream.codec_context.name
    return {"width": size[0], "height": size[1], "codec": codec}
