"""The camera of the rendered procedures: `draw` paints the frame of a recording at any second, `write_video` them all.

Tissue, phase and tools are painted once each and kept. For a frame they are shifted against one another as camera and
hands sway; shadow, veil and noise come on top.
"""

import math
from functools import cache, lru_cache
from pathlib import Path
from zlib import crc32

import av
import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from medscope.records import Interval, Recording
from medscope.sources.rendered.painters import VIEWS
from medscope.sources.rendered.painters.blind import SHARE, cover
from medscope.sources.rendered.painters.brushes import CANVAS, FRAME_PIXELS, SPARE
from medscope.sources.rendered.painters.events import paint_event, paint_marks
from medscope.sources.rendered.painters.phases import tinted
from medscope.sources.rendered.painters.tools import paint_instrument, paint_step
from medscope.sources.rendered.timeline import going_on
from medscope.sources.rendered.words import COUNTS

FPS = 1
LAYER = CANVAS // 2  # pixels: a frame and room to sway
Layer = tuple[np.ndarray, np.ndarray]  # float32: colour times cover [LAYER, LAYER, 3], 1 - cover [LAYER, LAYER, 1]


def draw(recording: Recording, time: float) -> np.ndarray:
    """The frame at `time` seconds: uint8 [112, 112, 3], always the same for the same recording and time.

    Raises ValueError for a time outside of the recording.
    """
    now = going_on(recording, time)
    seed = crc32(recording.video.encode())
    habits = _habits(seed)
    sway = np.sin(2 * math.pi * (habits[0] + time * habits[1]))
    camera = _shifted(5 * sway[0:2])
    hands = _shifted(5 * sway[0:2] + 3 * sway[2:4])

    frame = _scene(now["phase"].attributes["view"], seed, _key(now["phase"]))[camera]
    event = now.get("event")
    if event is not None:
        frame = _over(frame, _happening(seed, _key(event), tuple(event.attributes.items())), camera)
    frame = _over(frame, _step(seed, _key(now["step"])), hands)
    if event is not None:
        frame = _over(frame, _instrument(seed, _key(event), tuple(event.attributes.items())), hands)
    if "camera" in now:
        share = SHARE[now["camera"].label]
        frame = (1 - share) * frame + share * _cover(seed, _key(now["camera"]))[camera]
    frame = frame * _shadow(now["phase"].attributes["view"])
    frame += np.float32(0.6 + 0.4 * sway[4]) * _veil()[_shifted(14 * sway[5:7])]
    frame += _noise()[_shifted(np.random.default_rng([seed, round(time * 1000)]).uniform(-16, 16, 2))]
    return frame.clip(0, 255).astype(np.uint8)


def write_video(recording: Recording) -> None:
    """Write `recording.path` as H.264, whole or not at all. The same recording gives the same bytes."""
    path = Path(recording.path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".part.mp4")
    with av.open(str(temporary), "w") as container:
        # Same bytes every time: one thread, and none of the fast paths of x264 whose result varies from run to run.
        options = {"crf": "31", "preset": "veryfast", "g": "8", "threads": "1", "x264-params": "cpu-independent=1"}
        stream = container.add_stream("libx264", rate=FPS, options=options)
        stream.width = stream.height = FRAME_PIXELS
        stream.pix_fmt = "yuv420p"
        for second in range(int(recording.duration)):
            frame = av.VideoFrame.from_ndarray(draw(recording, second), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    temporary.replace(path)


def _key(interval: Interval) -> tuple[str, int]:
    """What tells an interval from the others of its video: the seed of its looks."""
    return interval.label, round(interval.window.start)


def _rng(seed: int, key: tuple[str, int]) -> np.random.Generator:
    return np.random.default_rng([seed, crc32(key[0].encode()), key[1]])


def _shifted(shift: np.ndarray) -> tuple[slice, slice]:
    """A frame's place within a layer; the shift is at most SPARE pixels."""
    left, top = (SPARE + round(float(s)) for s in shift)
    return slice(top, top + FRAME_PIXELS), slice(left, left + FRAME_PIXELS)


def _over(frame: np.ndarray, layer: Layer, place: tuple[slice, slice]) -> np.ndarray:
    colour, through = layer
    return frame * through[place] + colour[place]


@lru_cache(maxsize=16)
def _habits(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Phases and speeds of the sway of this video's camera and hands."""
    rng = np.random.default_rng(seed)
    return rng.random(7), rng.uniform(0.05, 0.4, 7)


@lru_cache(maxsize=16)
def _tissue(view: str, seed: int) -> np.ndarray:
    """What the camera of video `seed` looks at, in white light: float32 [LAYER, LAYER, 3]."""
    rng = np.random.default_rng(seed)
    picture = Image.new("RGB", (CANVAS, CANVAS))
    VIEWS[view](ImageDraw.Draw(picture), rng)
    grains = Image.fromarray(rng.integers(0, 255, (30, 30), dtype=np.uint8))
    grain = np.asarray(grains.resize((LAYER, LAYER), Image.Resampling.BICUBIC), np.float32)[..., None]
    return np.asarray(picture.reduce(2), np.float32) * (0.94 + 0.12 * grain / 255)


@lru_cache(maxsize=16)
def _scene(view: str, seed: int, phase: tuple[str, int]) -> np.ndarray:
    return tinted(_tissue(view, seed), phase[0], _rng(seed, phase))


def _layer(picture: Image.Image) -> Layer:
    pixels = np.array(picture, np.float32)
    pixels[..., 3] /= 255
    pixels[..., :3] *= pixels[..., 3:]
    half = (pixels[::2, ::2] + pixels[1::2, ::2] + pixels[::2, 1::2] + pixels[1::2, 1::2]) / 4
    return half[..., :3], 1 - half[..., 3:]


def _empty() -> tuple[Image.Image, ImageDraw.ImageDraw]:
    picture = Image.new("RGBA", (CANVAS, CANVAS))
    return picture, ImageDraw.Draw(picture)


@lru_cache(maxsize=16)
def _step(seed: int, step: tuple[str, int]) -> Layer:
    picture, pen = _empty()
    paint_step(pen, step[0], _rng(seed, step))
    return _layer(picture)


@lru_cache(maxsize=16)
def _happening(seed: int, event: tuple[str, int], attributes: tuple[tuple[str, str], ...]) -> Layer:
    picture, pen = _empty()
    rng, details = _rng(seed, event), dict(attributes)
    paint_event(pen, event[0], rng)
    picture = picture.filter(ImageFilter.GaussianBlur(1.2))  # part of the tissue, not on top of it
    paint_marks(ImageDraw.Draw(picture), COUNTS.index(details["count"]) + 1, details["side"], rng)
    return _layer(picture)


@lru_cache(maxsize=16)
def _instrument(seed: int, event: tuple[str, int], attributes: tuple[tuple[str, str], ...]) -> Layer:
    picture, pen = _empty()
    details = dict(attributes)
    paint_instrument(pen, details["instrument"], details["side"], _rng(seed + 1, event))
    return _layer(picture)


@lru_cache(maxsize=16)
def _cover(seed: int, camera: tuple[str, int]) -> np.ndarray:
    return cover(camera[0], _rng(seed, camera), LAYER)


@cache
def _noise() -> np.ndarray:
    return np.random.default_rng(0).normal(0, 2, (LAYER, LAYER, 1)).astype(np.float32)


@cache
def _veil() -> np.ndarray:
    """Thin haze over the scene, drifting with the camera."""
    grains = Image.fromarray(np.random.default_rng(1).integers(0, 255, (6, 6), dtype=np.uint8))
    return np.asarray(grains.resize((LAYER, LAYER), Image.Resampling.BICUBIC), np.float32)[..., None] / 11


@cache
def _shadow(view: str) -> np.ndarray:
    """How much light of the scene arrives: a scope's round sight ends sharply, a microscope's fades."""
    y, x = np.mgrid[:FRAME_PIXELS, :FRAME_PIXELS] * 2 / (FRAME_PIXELS - 1) - 1
    distance = np.hypot(x, y)[..., None].astype(np.float32)
    if view == "eye":
        return 1.05 - 0.2 * distance**2
    return np.clip((1.2 - distance) * 14, 0, 1) * (1.08 - 0.22 * distance**2)
