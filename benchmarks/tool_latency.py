"""Seconds of one `crop_video` and one `get_frame` on a long 1080p H.264 file, by every way of decoding, side by side.

`ours` is the `FrameStore` behind the tools with either decoder: the file stays open, a frame seen before comes from the
store. `longvt` does as the public peer LongVT: OpenCV opens the file for its length, decord opens it again, reads the
frames in full size, every one becomes PNG and base64. OpenCV and torchcodec are only needed here:

    pip install opencv-python-headless torchcodec; python benchmarks/tool_latency.py
"""

import argparse
import base64
import io
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import av
import numpy as np
from report import machine, plot_latency, write_results

from medscope.environment import FrameStore, ToolBudget
from medscope.environment.tools import crop_seconds, frame_seconds
from medscope.environment.video import fit
from medscope.records import Window

BUDGET = ToolBudget(crop_frames=32, crop_pixels=50_176, frame_pixels=200_704)
CROP_SECONDS = (10, 60)
Way = Callable[[list[float], int], object]  # seconds to show, most pixels of a frame


def write_test_video(path: Path, minutes: float, fps: int) -> None:
    """FFmpeg's moving test pattern in 1080p, a keyframe every two seconds."""
    source = f"testsrc2=size=1920x1080:rate={fps}:duration={minutes * 60}"
    with av.open(source, format="lavfi") as pattern, av.open(str(path), "w") as container:
        options = {"preset": "ultrafast", "crf": "23", "g": str(2 * fps)}
        stream = container.add_stream("libx264", rate=fps, options=options)
        stream.width, stream.height, stream.pix_fmt = 1920, 1080, "yuv420p"
        for frame in pattern.decode(video=0):
            container.mux(stream.encode(frame.reformat(format="yuv420p")))
        container.mux(stream.encode())


def ours(path: str, decoder: str) -> Way:
    store = FrameStore(decoder)
    store.video(path)
    return lambda seconds, pixels: store.frames(path, seconds, pixels)


def longvt(path: str) -> Way:
    """Everything anew for every call, as a tool server does that keeps nothing."""
    import cv2
    from decord import VideoReader, cpu

    def show(seconds: list[float], pixels: int) -> list[str]:
        capture = cv2.VideoCapture(path)
        fps = capture.get(cv2.CAP_PROP_FPS)
        capture.release()
        reader = VideoReader(path, ctx=cpu(0))
        coded = []
        for frame in reader.get_batch([min(round(s * fps), len(reader) - 1) for s in seconds]).asnumpy():
            buffer = io.BytesIO()
            fit(frame, pixels).save(buffer, format="PNG")
            coded.append(base64.b64encode(buffer.getvalue()).decode())
        return coded

    return show


def decord_alone(path: str) -> Way:
    """The open reader, frames in full size, no resize: what any use of decord costs at least."""
    from decord import VideoReader, cpu

    reader = VideoReader(path, ctx=cpu(0), num_threads=1)
    fps = reader.get_avg_fps()
    return lambda seconds, _: reader.get_batch([min(round(s * fps), len(reader) - 1) for s in seconds]).asnumpy()


def torchcodec(path: str) -> Way:
    from torchcodec.decoders import VideoDecoder

    decoder = VideoDecoder(path, num_ffmpeg_threads=1)

    def show(seconds: list[float], pixels: int) -> list:
        frames = decoder.get_frames_played_at(seconds).data
        return [fit(np.ascontiguousarray(frame.permute(1, 2, 0).numpy()), pixels) for frame in frames]

    return show


def seconds_of(way: Way, calls: list[tuple[list[float], int]]) -> list[float]:
    taken = []
    for seconds, pixels in calls:
        start = time.perf_counter()
        way(seconds, pixels)
        taken.append(time.perf_counter() - start)
    return taken


def main() -> None:
    """Command line: see --help."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--fps", type=int, default=25)
    parser.add_argument("--calls", type=int, default=30, help="of each tool")
    arguments = parser.parse_args()
    path = str(Path(tempfile.mkdtemp()) / "long.mp4")
    write_test_video(Path(path), arguments.minutes, arguments.fps)
    print(f"{os.path.getsize(path) / 2**20:.0f} MiB", flush=True)
    rng, duration = np.random.default_rng(0), arguments.minutes * 60
    crops, frames = [], []
    for _ in range(arguments.calls):
        length = rng.uniform(*CROP_SECONDS)
        start = rng.uniform(0, duration - length)
        crops.append((crop_seconds(Window(start, start + length), arguments.fps, BUDGET), BUDGET.crop_pixels))
        frames.append((frame_seconds(rng.uniform(1, duration - 1), duration, arguments.fps), BUDGET.frame_pixels))
    ways: dict[str, Callable[[], Way]] = {
        "ours, decord": lambda: ours(path, "decord"),
        "ours, pyav": lambda: ours(path, "pyav"),
        "decord alone": lambda: decord_alone(path),
    }
    if find_spec("cv2"):
        ways["longvt"] = lambda: longvt(path)
    if find_spec("torchcodec"):
        ways["torchcodec"] = lambda: torchcodec(path)
    rows = []
    for name, make in ways.items():
        start = time.perf_counter()
        try:
            way = make()
        except (ImportError, RuntimeError, OSError) as error:  # torchcodec without FFmpeg's libraries
            print(f"{name}: not available here ({str(error).splitlines()[0]})")
            continue
        row = {"way": name, "open_s": round(time.perf_counter() - start, 3)}
        for tool, calls in (("crop_video", crops), ("get_frame", frames)):
            row[f"{tool}_ms"] = round(1000 * statistics.median(seconds_of(way, calls)), 1)
            row[f"{tool}_again_ms"] = round(1000 * statistics.median(seconds_of(way, calls)), 2)
        rows.append(row)
        print(row, flush=True)
    peer = next((row for row in rows if row["way"] == "longvt"), None)
    for row in rows:
        if peer:
            row["crop_video_speedup"] = round(peer["crop_video_ms"] / row["crop_video_ms"], 2)
    write_results("tool_latency", rows, {**machine(), "video": f"{arguments.minutes} min, 1080p, {arguments.fps} fps"})
    plot_latency("tool_latency", rows)


if __name__ == "__main__":
    main()
