"""A stretch of a video as a file that a browser plays, cut by copying packets: nothing is decoded or encoded."""

import io
from dataclasses import dataclass

import av

from medscope.environment.decoders import open_container
from medscope.records import Window

# What browsers play, by codec: container and media type. Other codecs have no clip.
PLAYED = {
    "h264": ("mp4", "video/mp4"),
    "hevc": ("mp4", "video/mp4"),
    "av1": ("mp4", "video/mp4"),
    "vp8": ("webm", "video/webm"),
    "vp9": ("webm", "video/webm"),
}


@dataclass(frozen=True)
class Clip:
    """A file's content, its media type, and the second of the video at which it begins."""

    content: bytes
    kind: str
    start: float


def cut_clip(path: str, window: Window, max_bytes: int) -> Clip | None:
    """The packets from the key frame before `window` to its end, without sound and without the file's metadata.

    None where a browser does not play the codec, or where the clip would have more than `max_bytes`. Raises
    `av.FFmpegError` for a file that cannot be read.
    """
    with open_container(path) as source:
        stream = source.streams.video[0]
        if stream.codec_context.name not in PLAYED:
            return None
        container, kind = PLAYED[stream.codec_context.name]
        base = stream.time_base
        zero = stream.start_time or 0  # the project's seconds count from the first frame
        end = zero + round(window.end / base)
        source.seek(zero + round(window.start / base), stream=stream, backward=True)
        packets, size = [], 0
        for packet in source.demux(stream):
            if packet.pts is None or packet.dts is None:
                continue
            if packet.dts > end:
                break
            size += packet.size
            if size > max_bytes:
                return None
            packets.append(packet)
        if not packets:
            return None
        first = min(packet.pts for packet in packets if packet.is_keyframe or packet is packets[0])
        file = io.BytesIO()
        with av.open(file, "w", format=container) as made:
            copy = made.add_stream_from_template(stream)
            for packet in packets:
                packet.pts -= first
                packet.dts -= first
                packet.stream = copy
                made.mux(packet)
    content = file.getvalue()
    return Clip(content, kind, float((first - zero) * base)) if len(content) <= max_bytes else None
