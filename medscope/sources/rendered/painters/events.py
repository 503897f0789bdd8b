"""Events on the tissue. The shape tells which one it is; the colour is drawn anew for each occurrence."""

import math
from collections.abc import Callable

import numpy as np
from PIL import ImageDraw

from medscope.sources.rendered.painters.brushes import Colour, area, disc, line, outline, shade

COLOURS: tuple[Colour, ...] = (
    (186, 24, 36),
    (214, 150, 36),
    (96, 168, 60),
    (44, 128, 186),
    (138, 66, 168),
    (226, 222, 206),
)
Pen = ImageDraw.ImageDraw


def paint_event(pen: Pen, event: str, rng: np.random.Generator) -> None:
    """Paint an event near the middle, about .9 wide."""
    place = complex(rng.uniform(-0.16, 0.16), rng.uniform(-0.1, 0.06))
    SHAPES[event](pen, rng, place, rng.uniform(0.92, 1.08), COLOURS[rng.integers(len(COLOURS))])


def paint_marks(pen: Pen, count: int, side: str, rng: np.random.Generator) -> None:
    """Paint `count` small pale marks, in the lower corner away from the instrument that comes from `side`."""
    away = 1 if side == "left" else -1
    middle = complex(away * rng.uniform(0.42, 0.5), rng.uniform(0.56, 0.62))
    places = middle + np.array((-0.13 - 0.12j, 0.13 - 0.12j, -0.13 + 0.12j, 0.13 + 0.12j))
    for place in rng.permutation(places)[:count]:
        at = place + 0.02 * complex(*rng.uniform(-1, 1, 2))
        disc(pen, at, 0.085, (40, 34, 40, 255))
        disc(pen, at, 0.06, (250, 248, 226, 255))


def _bleeding(pen: Pen, rng: np.random.Generator, place: complex, size: float, colour: Colour) -> None:
    """A pool from which streaks run down."""
    at = place - 0.2j
    for x in (-0.3, -0.02, 0.26):
        foot = at + size * complex(x + rng.uniform(-0.04, 0.04), rng.uniform(0.5, 0.68))
        line(pen, [at + size * x, foot], 0.12 * size, (*shade(colour, 0.8), 235))
        disc(pen, foot, 0.085 * size, (*shade(colour, 0.8), 235))
    pool = outline(rng, 1, 0.05)
    area(pen, list(at + size * (0.46 * pool.real + 0.2j * pool.imag)), (*colour, 245))
    disc(pen, at - 0.1 - 0.05j, 0.1 + 0.03j, (*shade(colour, 1.5), 255))


def _tear(pen: Pen, rng: np.random.Generator, place: complex, size: float, colour: Colour) -> None:
    """An open wedge, dark inside, with bright everted lips."""
    turn = size * np.exp(1j * rng.uniform(-0.25, 0.25))
    ragged = 0.05 * rng.uniform(-1, 1, 4)
    lips = np.array((-0.5, -0.15 - 0.13j, 0.15 - 0.24j, 0.48 - 0.34j, 0.36, 0.48 + 0.34j, 0.15 + 0.24j, -0.15 + 0.13j))
    lips[[1, 2, 6, 7]] += 1j * ragged
    area(pen, list(place + 1.16 * turn * lips), (*shade(colour, 1.25), 255))
    area(pen, list(place + turn * lips * 0.8), (22, 10, 14, 255))


def _bubbles(pen: Pen, rng: np.random.Generator, place: complex, size: float, colour: Colour) -> None:
    """A cluster of thin-walled discs."""
    for angle, radius in zip(np.arange(6) * math.pi / 3 + rng.uniform(0, 1), rng.uniform(0.1, 0.17, 6), strict=True):
        at = place + size * 0.31 * np.exp(1j * angle)
        _bubble(pen, at, size * radius, colour)
    _bubble(pen, place, size * 0.13, colour)


def _bubble(pen: Pen, at: complex, radius: float, colour: Colour) -> None:
    disc(pen, at, radius, (*shade(colour, 0.45), 255))
    disc(pen, at, radius - 0.025, (*shade(colour, 1.15), 255))
    disc(pen, at - radius * (0.3 + 0.3j), 0.3 * radius, (255, 255, 255, 255))


def _burn(pen: Pen, rng: np.random.Generator, place: complex, size: float, colour: Colour) -> None:
    """A charred patch with a jagged rim that still glows."""
    angles = np.linspace(0, 2 * math.pi, 22, endpoint=False)
    jagged = np.where(np.arange(22) % 2, 0.5, 0.36) * rng.uniform(0.9, 1.1, 22) * np.exp(1j * angles)
    area(pen, list(place + size * jagged), (*colour, 255))
    area(pen, list(place + size * 0.78 * jagged), (18, 14, 14, 255))
    for spot in rng.uniform(-0.18, 0.18, (5, 2)):
        disc(pen, place + size * complex(*spot), 0.03, (*shade(colour, 0.7), 255))


def _leak(pen: Pen, rng: np.random.Generator, place: complex, size: float, colour: Colour) -> None:
    """A winding stream that widens on its way across."""
    flip = rng.choice([-1, 1])
    t = np.linspace(-0.5, 0.5, 24)
    path = place + size * (flip * 1.1 * t + 1j * (0.16 * np.sin(9 * t) + 0.3 * t))
    for centre, width in zip(path, np.linspace(0.07, 0.16, 24), strict=True):
        disc(pen, centre, size * width, (*shade(colour, 0.8), 240))
    for centre, width in zip(path, np.linspace(0.04, 0.11, 24), strict=True):
        disc(pen, centre - 0.015j, size * width, (*colour, 240))
    line(pen, list(path[4:-4] - 0.03j), 0.03 * size, (*shade(colour, 1.5), 255))


def _swelling(pen: Pen, rng: np.random.Generator, place: complex, size: float, colour: Colour) -> None:
    """A smooth bulge, lit from above."""
    for step in np.linspace(0, 1, 14):
        radii = size * (1 - step) * (0.44 + 0.36j) + 0.02 + 0.02j
        disc(pen, place - step * size * (0.08 + 0.1j), radii, (*shade(colour, 0.5 + 0.85 * step), 255))


SHAPES: dict[str, Callable[[Pen, np.random.Generator, complex, float, Colour], None]] = {
    "bleeding": _bleeding,
    "tear": _tear,
    "bubbles": _bubbles,
    "burn": _burn,
    "leak": _leak,
    "swelling": _swelling,
}
