"""Step 1: where a video is cut. Scene boundaries by PySceneDetect beside annotated intervals, all in seconds."""

import asyncio
from collections.abc import Sequence
from itertools import pairwise

import av
import numpy as np
from pydantic.dataclasses import dataclass

from medscope.environment import VideoError
from medscope.environment.decoders import open_container
from medscope.records import Interval, Recording, Window
from medscope.suite.bulk import Rejected
from medscope.suite.teachers.endpoint.structured import content_key

SCAN_STEP = 0.2  # s between the frames that are compared; cuts are known to about this
SCAN_PIXELS = 160 * 120  # of a compared frame, about
TIMECODE_RATE = 1000.0  # PySceneDetect counts frames at some rate; seconds are what is given and taken


@dataclass(frozen=True)
class Film:
    """A recording and the hash of its file: `sha256` stands for the content in every key."""

    recording: Recording
    sha256: str


@dataclass(frozen=True)
class Segment:
    """A stretch of a film to be captioned. `label`: the annotated labels that it lies in, "" where there is none."""

    film: Film
    window: Window
    label: str = ""


@dataclass(frozen=True)
class Scenes:
    """The windows of a film's segments, in order and without gaps."""

    windows: tuple[Window, ...]

    def segments(self, film: Film) -> list[Segment]:
        return [Segment(film, window, label_of(window, film.recording.intervals)) for window in self.windows]


class SceneStep:
    """Film -> Scenes. Segments are `shortest` to about `longest` seconds long. Needs the extra `teacher`."""

    name = "scenes"

    def __init__(self, shortest: float = 4.0, longest: float = 60.0):
        if not 0 < 2 * shortest <= longest:
            raise ValueError(f"shortest is {shortest:g} s and longest {longest:g} s; longest is at least twice as long")
        self.shortest, self.longest = shortest, longest

    def key(self, film: Film) -> str:
        edges = [(i.window.start, i.window.end) for i in film.recording.intervals]
        return content_key(self.name, film.sha256, film.recording.duration, edges, self.shortest, self.longest)

    async def __call__(self, film: Film) -> Scenes | Rejected:
        recording = film.recording
        try:
            cuts = await asyncio.to_thread(scene_cuts, recording.path)
        except VideoError as error:
            return Rejected(f"the video cannot be read: {error}")
        windows = segment_windows(recording.duration, cuts, recording.intervals, self.shortest, self.longest)
        return Scenes(tuple(windows))


def scene_cuts(path: str) -> list[float]:
    """Seconds at which a new scene begins, from the first frame on. Raises `VideoError`, ImportError without extra."""
    try:
        from scenedetect import AdaptiveDetector, FrameTimecode
    except ImportError as error:
        raise ImportError("scene boundaries need PySceneDetect: pip install 'medscope[teacher]'") from error
    detector = AdaptiveDetector(min_scene_len=SCAN_STEP)
    cuts: list[float] = []
    try:
        for second, picture in _scan(path):
            found = detector.process_frame(FrameTimecode(second, TIMECODE_RATE), picture)
            cuts += [cut.seconds for cut in found]
    except (av.FFmpegError, OSError) as error:
        raise VideoError(f"{path}: cannot be scanned for scenes ({' '.join(str(error).split())[:200]})") from error
    return [round(cut, 3) for cut in cuts]


def _scan(path: str):  # noqa: ANN202  an iterator of (second, BGR picture [h, w, 3])
    with open_container(path) as container:
        if not container.streams.video:
            raise VideoError(f"{path}: the file has no video stream (audio only?)")
        stream, first, last = container.streams.video[0], None, -SCAN_STEP
        for frame in container.decode(stream):
            if frame.pts is None:
                continue
            time = float(frame.pts * stream.time_base)
            first = time if first is None else first
            if time - first < last + SCAN_STEP - 1e-6:
                continue
            last = time - first
            shrink = max(1.0, np.sqrt(frame.width * frame.height / SCAN_PIXELS))
            width, height = max(2, int(frame.width / shrink)), max(2, int(frame.height / shrink))
            yield max(0.0, last), frame.to_ndarray(format="bgr24", width=width, height=height)


def segment_windows(
    duration: float, cuts: Sequence[float], intervals: Sequence[Interval], shortest: float, longest: float
) -> list[Window]:
    """The windows of the segments of a video, from 0 to `duration`.

    Edges of annotated intervals and cuts are boundaries. A piece shorter than `shortest` is merged with a neighbour,
    over a cut rather than over an annotated edge, into the shorter one. A piece longer than `longest` is split evenly.
    """
    annotated = {edge for i in intervals for edge in (i.window.start, i.window.end) if 0 < edge < duration}
    edges = sorted({0.0, duration, *annotated, *(cut for cut in cuts if 0 < cut < duration)})
    while len(edges) > 2:
        lengths = np.diff(edges)
        piece = int(np.argmin(lengths))
        if lengths[piece] >= shortest:
            break
        removable = [i for i in (piece, piece + 1) if 0 < i < len(edges) - 1]
        del edges[min(removable, key=lambda i: (edges[i] in annotated, edges[i + 1] - edges[i - 1]))]
    windows = []
    for start, end in pairwise(edges):
        parts = max(1, int(np.ceil((end - start) / longest - 1e-9)))
        inner = [round(float(edge), 3) for edge in np.linspace(start, end, parts + 1)[1:-1]]
        windows += [Window(a, b) for a, b in pairwise([start, *inner, end])]
    return windows


def label_of(window: Window, intervals: Sequence[Interval]) -> str:
    """The labels of the intervals that hold the middle of a window, longest interval first, joined by `, `."""
    middle = (window.start + window.end) / 2
    holding = [i for i in intervals if i.window.contains(middle)]
    return ", ".join(dict.fromkeys(i.label for i in sorted(holding, key=lambda i: -i.window.length)))
