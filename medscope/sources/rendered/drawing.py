"""The camera of the rendered world: `draw` paints the frame of a recording at any time, without a file.

A scene (the looks of view and phase) is painted once; instrument, complication, sway, veil and noise come on top.
"""

import math
from functools import cache, lru_cache
from zlib import crc32

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from medscope.records import Recording
from medscope.sources.rendered.looks import (
    DETAIL,
    DETAILS,
    EVENTS,
    GREY,
    IRISES,
    LOOKS,
    PATTERNS,
    VIEWS,
    WHITE,
    Colour,
    Mark,
)
from medscope.sources.rendered.scene import shown_in

FRAME_PIXELS = 112
CANVAS = 256  # scenes are painted at twice the size, with 16 px to spare on each side for the camera to drift
MIDDLE = complex(CANVAS / 2, CANVAS / 2)  # points of the canvas are complex numbers: x + y*1j, y downwards


def draw(recording: Recording, time: float) -> np.ndarray:
    """The frame at `time` seconds: uint8 [112, 112, 3], always the same for the same recording and time."""
    if not 0 <= time <= recording.duration:
        raise ValueError(f"{time:g} s is outside of {recording.video}, which lasts {recording.duration:g} s")
    view, seed = VIEWS[recording.collection], crc32(recording.video.encode())
    # At a boundary the later scene has begun; only clips have stretches without a scene.
    current = next((s for s in reversed(recording.intervals) if s.window.contains(time)), None)
    scene = _scene(view, seed, current and current.label).copy()
    if current is not None and current.timestamp is not None:
        scene = Image.blend(_scene(view, seed, None), scene, min(1.0, (0.8 - abs(time - current.timestamp)) / 0.3))
    shown = current is not None and any(stretch.contains(time) for stretch in shown_in(current))
    habits = np.random.default_rng(seed).random(12)  # of this video's camera and hands
    sway = np.sin(2 * math.pi * (habits + time * np.linspace(0.05, 0.4, 12)))

    pen = ImageDraw.Draw(scene)
    turn = np.exp(1j * (1.25 * math.pi + 0.12 * sway[0]))
    grip = MIDDLE + (64 if shown else 86) * (1 + 1j) + 4 * complex(sway[1], sway[2])
    _stroke(pen, [grip - 120 * turn, grip], 22, (70, 74, 80))
    _stroke(pen, [grip - 120 * turn, grip], 14, (172, 176, 182))
    if shown:
        _stamp(pen, DETAILS[current.attributes["instrument"]], grip, DETAIL * turn, rim=5)
        complication = current.attributes.get("complication")
        if complication is not None:
            place = MIDDLE - 50 - 48j + 8 * complex(habits[3], habits[4]) + 3 * complex(sway[3], sway[4])
            _stamp(pen, DETAILS[complication], place, DETAIL * np.exp(0.15j * sway[5]), rim=5)

    side = 2 * FRAME_PIXELS * (0.95 - 0.03 * habits[6] + 0.02 * sway[6])
    corner = MIDDLE - side / 2 * (1 + 1j) + 6 * complex(sway[7], sway[8])
    box = (corner.real, corner.imag, corner.real + side, corner.imag + side)
    frame = np.asarray(scene.resize((FRAME_PIXELS, FRAME_PIXELS), Image.Resampling.BILINEAR, box), np.float32)
    frame = frame * _vignette(view) + _veil()[_crop(40 * sway[9:11])] * (0.6 + 0.4 * sway[11])
    frame += _noise()[_crop(np.random.default_rng([seed, round(time * 1000)]).uniform(-60, 60, 2))]
    return frame.clip(0, 255).astype(np.uint8)


def _crop(shift: np.ndarray) -> tuple[slice, slice]:
    top, left = (int(s) + (CANVAS - FRAME_PIXELS) // 2 for s in shift)
    return slice(top, top + FRAME_PIXELS), slice(left, left + FRAME_PIXELS)


@cache
def _noise() -> np.ndarray:
    return np.random.default_rng(0).normal(0, 2, (CANVAS, CANVAS, 1)).astype(np.float32)


@cache
def _veil() -> np.ndarray:
    """Thin smoke and glare over the scene, drifting with the camera."""
    grains = Image.fromarray(np.random.default_rng(1).integers(0, 255, (7, 7), dtype=np.uint8))
    return np.asarray(grains.resize((CANVAS, CANVAS), Image.Resampling.BICUBIC), np.float32)[..., None] / 10


@cache
def _vignette(view: str) -> np.ndarray:
    """How much light of the scene arrives: a scope's round sight ends sharply, a microscope's fades."""
    y, x = np.mgrid[:FRAME_PIXELS, :FRAME_PIXELS] * 2 / (FRAME_PIXELS - 1) - 1
    distance = np.hypot(x, y)[..., None].astype(np.float32)
    if view == "eye":
        return 1.05 - 0.25 * distance**2
    return np.clip((1.16 - distance) * 14, 0, 1) * (1.1 - 0.25 * distance**2)


def _xy(point: complex) -> tuple[float, float]:
    return point.real, point.imag


def _stroke(pen: ImageDraw.ImageDraw, points: list[complex], width: float, colour: Colour) -> None:
    """A line with round ends and joints."""
    pen.line([_xy(point) for point in points], colour, round(width), joint="curve")
    for point in (points[0], points[-1]):
        pen.circle(_xy(point), width / 2, colour)


def _disc(pen: ImageDraw.ImageDraw, centre: complex, radii: complex, colour: Colour, **line: object) -> None:
    pen.ellipse((*_xy(centre - radii), *_xy(centre + radii)), colour, **line)


def _stamp(pen: ImageDraw.ImageDraw, marks: tuple[Mark, ...], place: complex, size: complex, rim: int) -> None:
    """Draw marks, scaled and turned by `size`, with a dark rim around all of them."""
    for extra in (rim, 0) if rim else (0,):  # every rim first, so that the marks of one detail flow together
        for kind, bright, share, points in marks:
            colour = tuple(c // 4 for c in bright) if extra else bright
            width, at = share * abs(size) + extra, [place + size * point for point in points]
            if kind == "area":
                pen.polygon([_xy(point) for point in at], colour)
                _stroke(pen, [*at, at[0]], 2 * width, colour)
            elif kind == "line":
                _stroke(pen, at, width + extra, colour)
            elif kind == "disc":
                for point in at:
                    pen.circle(_xy(point), width, colour)
            else:
                pen.circle(_xy(at[0]), width, None, colour, round(0.15 * abs(size)) + 2 * extra)


@lru_cache(maxsize=32)  # a video is drawn scene by scene
def _scene(view: str, seed: int, phase: str | None) -> Image.Image:
    """What the camera of video `seed` looks at, without instruments and before sway, veil and noise."""
    rng = np.random.default_rng(seed)
    scene = Image.new("RGB", (CANVAS, CANVAS))
    pen = ImageDraw.Draw(scene)
    PAINTERS[view](pen, rng, phase)
    if phase == "blur":
        scene = scene.filter(ImageFilter.GaussianBlur(16))
    if phase in EVENTS:
        colour, share = EVENTS[phase]
        scene = Image.blend(scene, Image.new("RGB", scene.size, colour), share)
    if phase not in LOOKS:
        return scene
    tint = np.array(LOOKS[phase][0]) / 100 * rng.uniform(0.93, 1.07, 3)
    return Image.fromarray((np.asarray(scene) * tint).clip(0, 255).astype(np.uint8))


def _vary(rng: np.random.Generator, colour: Colour, by: int = 12) -> Colour:
    return tuple(int(c) for c in np.clip(np.array(colour) + rng.integers(-by, by + 1, 3), 0, 255))


def _vessels(
    pen: ImageDraw.ImageDraw, rng: np.random.Generator, colour: Colour, inner: float, outer: float, flat: float
) -> None:
    for _ in range(14):
        way = np.exp(2j * math.pi * rng.random())
        bends = np.exp(1j * rng.normal(0, 0.1, 5))
        reach = np.linspace(outer, inner + 20 * rng.random(), 5)
        line = way * reach * bends
        pen.line([_xy(MIDDLE + complex(p.real, flat * p.imag)) for p in line], colour, int(rng.integers(1, 4)))


def _paint_eye(pen: ImageDraw.ImageDraw, rng: np.random.Generator, phase: str) -> None:
    _, fill, pattern = LOOKS[phase]
    skin, iris = _vary(rng, (188, 138, 116), 25), IRISES[rng.integers(len(IRISES))]
    centre = MIDDLE + 8 * complex(*rng.uniform(-1, 1, 2))
    radius = rng.uniform(78, 88)
    pupil = radius * rng.uniform(0.66, 0.72)
    pen.rectangle((0, 0, CANVAS, CANVAS), skin)
    _disc(pen, MIDDLE, 132 + 94j, tuple(c * 3 // 4 for c in skin))  # the rim of the lids
    _disc(pen, MIDDLE, 126 + 86j, _vary(rng, (236, 226, 218), 8))
    _vessels(pen, rng, (206, 120, 112), 88, 122, flat=0.68)
    for side in (1j, -1j):  # the speculum holds the lids
        _stroke(pen, [MIDDLE + side * point for point in (122 - 60j, 100 - 40j, 94, 100 + 40j, 122 + 60j)], 9, GREY)
    _disc(pen, centre, radius * (1 + 1j), tuple(c // 2 for c in iris))
    _disc(pen, centre, (radius - 4) * (1 + 1j), iris)
    for angle in np.linspace(0, 2 * math.pi, 48, endpoint=False):
        ray = np.exp(1j * (angle + rng.normal(0, 0.03)))
        shade = tuple(int(c * rng.uniform(0.7, 1.25)) for c in iris)
        pen.line([_xy(centre + pupil * ray), _xy(centre + (radius - 6) * ray)], shade, 3)
    _disc(pen, centre, (pupil + 3) * (1 + 1j), (24, 18, 16))
    _disc(pen, centre, pupil * (1 + 1j), _vary(rng, fill, 8))
    _stamp(pen, PATTERNS[pattern], centre, pupil, rim=0)
    glint = centre + pupil * complex(rng.uniform(0.2, 0.5), -rng.uniform(0.3, 0.6))
    _disc(pen, glint, 9 + 7j, WHITE)
    _disc(pen, glint - 4 + 20j, 4 + 3j, WHITE)


def _paint_abdomen(pen: ImageDraw.ImageDraw, rng: np.random.Generator, phase: str) -> None:
    _, fill, pattern = LOOKS[phase]
    centre = MIDDLE + 8 * complex(*rng.uniform(-1, 1, 2))
    liver, fat = _vary(rng, (138, 56, 46)), _vary(rng, (232, 190, 104))
    pen.rectangle((0, 0, CANVAS, CANVAS), _vary(rng, (216, 128, 116)))
    _vessels(pen, rng, (168, 60, 62), 60, 170, flat=1)
    for _ in range(9):  # lobules of fat in front
        lobule = complex(rng.uniform(0, CANVAS), rng.uniform(205, 250))
        _disc(pen, lobule, rng.uniform(20, 34) * (1 + 0.8j), fat, outline=tuple(c * 4 // 5 for c in fat), width=2)
    edge = complex(rng.uniform(40, 70), rng.uniform(20, 45))
    for lobe, radii in ((edge, 120 + 78j), (edge + 110 - 14j, 96 + 66j)):  # the liver hangs from above
        _disc(pen, lobe, radii, tuple(c * 3 // 4 for c in liver))
        _disc(pen, lobe - 2 - 4j, radii, liver)
        _disc(pen, lobe + 20 + 20j, 26 + 8j, tuple(c + 40 for c in liver))
    radii = complex(rng.uniform(76, 88), rng.uniform(52, 60))
    _disc(pen, centre + 2 + 5j, radii + 2 + 2j, (70, 30, 28))
    _disc(pen, centre, radii, _vary(rng, fill, 8))
    _stamp(pen, PATTERNS[pattern], centre, radii.imag, rim=0)
    _disc(pen, centre + 34 - 30j, 12 + 5j, WHITE)


def _paint_lumen(pen: ImageDraw.ImageDraw, rng: np.random.Generator, _: str | None) -> None:
    wall = np.array(_vary(rng, (232, 142, 112), 18))
    centre = MIDDLE + 10 * complex(*rng.uniform(-1, 1, 2))
    pen.rectangle((0, 0, CANVAS, CANVAS), tuple(wall.tolist()))
    _vessels(pen, rng, (190, 84, 74), 70, 180, flat=1)
    angles = np.linspace(0, 2 * math.pi, 60, endpoint=False)
    lobes, start = rng.integers(3, 6), 2 * math.pi * rng.random()
    for depth, radius in enumerate((128, 100, 76, 55, 37, 22)):  # folds, each in the shade of the one before
        ripple = 1 + 0.07 * np.sin(lobes * angles + start + depth)
        fold = [_xy(point) for point in centre + radius * ripple * np.exp(1j * angles)]
        shade = wall * (0.96 - 0.15 * depth)
        pen.polygon(fold, tuple(int(c) for c in shade))
        pen.line([*fold, fold[0]], tuple(int(c) for c in np.minimum(shade * 1.3 + 12, 255)), 5)
    for _glint in range(5):
        _disc(pen, centre + rng.uniform(60, 110) * np.exp(2j * math.pi * rng.random()), 6 + 4j, (255, 240, 232))


PAINTERS = {"eye": _paint_eye, "abdomen": _paint_abdomen, "lumen": _paint_lumen}
