"""Events on the tissue. The shape tells which one it is; the colour is drawn anew for each occurrence."""

import math
from collections.abc import Callable

import numpy as np
from PIL import ImageDraw

from medscope.sources.rendered.painters.brushes import Colour, area, disc, line, outline, shade

COLOURS: tuple[Colour, ...] = (
    (164, 34, 40),
    (200, 148, 60),
    (106, 146, 78),
    (70, 122, 160),
    (128, 78, 146),
    (212, 204, 188),
)
Pen = ImageDraw.ImageDraw


def paint_event(pen: Pen, event: str, rng: np.random.Generator) -> None:
    """Paint an event near the middle, about .9 wide."""
    place = complex(rng.uniform(-0.16, 0.16), rng.uniform(-0.1, 0.06))
    SHAPES[event](pen, rng, place, rng.uniform(0.92, 1.08), COLOURS[rng.integers(len(COLOURS))])


def paint_marks(pen: Pen, count: int, side: str, rng: np.random.Generator) -> None:
    """Paint `count` small pale marks close together, low and away from an instrument that comes from `side`.

    Their size varies, so that their number is told by their places, as on a die.
    """
    away = {"left": 1, "right": -1}.get(side) or int(rng.choice((-1, 1)))
    middle = complex(away * rng.uniform(0.44, 0.54), rng.uniform(0.5, 0.6))
    size = rng.uniform(0.85, 1.15)
    radius = (0, 0.13, 0.155, 0.19)[count - 1]
    for angle in math.pi * (2 * np.arange(count) / count + (0.0, 0.0, 0.5, 0.25)[count - 1]):
        at = middle + radius * np.exp(1j * angle)
        disc(pen, at, 0.1 * size, (40, 34, 40, 255))
        disc(pen, at, 0.075 * size, (250, 248, 226, 255))


def _bleeding(pen: Pen, rng: np.random.Generator, place: complex, size: float, colour: Colour) -> None:
    """A pool from which streaks run down, each at its own length."""
    at = place - 0.2j
    dark = (*shade(colour, 0.78), 235)
    for x in (-0.3, -0.04, 0.26):
        reach = rng.uniform(0.42, 0.7)
        for t in np.linspace(0, 1, 12):  # narrow in the middle, a drop at the end
            centre = at + size * complex(x + 0.03 * np.sin(4 * t + 9 * x), 0.05 + reach * t)
            disc(pen, centre, size * (0.055 + 0.1 * (1 - t) ** 3 + 0.03 * t**4), dark)
    pool = outline(rng, 1, 0.09)
    area(pen, list(at + size * (0.47 * pool.real + 0.2j * pool.imag)), dark)
    area(pen, list(at + size * (0.4 * pool.real + (0.14 * pool.imag - 0.02) * 1j)), (*colour, 245))
    disc(pen, at - 0.14 - 0.06j, 0.09 + 0.025j, (*shade(colour, 1.5), 255))


def _tear(pen: Pen, rng: np.random.Generator, place: complex, size: float, colour: Colour) -> None:
    """A gaping slit with ragged lips, dark inside."""
    turn = size * np.exp(1j * rng.uniform(-0.5, 0.5))
    t = np.linspace(0, 1, 13)
    gape = np.sin(math.pi * t) ** 0.8
    upper = (t - 0.5) * 1.08 - 1j * gape * (0.2 + rng.normal(0, 0.02, 13))
    lower = (t - 0.5) * 1.08 + 1j * gape * (0.2 + rng.normal(0, 0.02, 13))
    slit = np.concatenate([upper, lower[::-1]])
    area(pen, list(place + turn * (1.08 * slit.real + 1.4j * slit.imag)), (*shade(colour, 0.85), 255))
    area(pen, list(place + turn * (1.02 * slit.real + 1.2j * slit.imag)), (*shade(colour, 1.25), 255))
    area(pen, list(place + turn * (0.85 * slit.real + 0.78j * slit.imag)), (26, 12, 16, 255))


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
    angles = np.linspace(0, 2 * math.pi, 26, endpoint=False)
    jagged = np.where(np.arange(26) % 2, 0.48, 0.38) * rng.uniform(0.88, 1.12, 26) * np.exp(1j * angles)
    area(pen, list(place + size * jagged), (*shade(colour, 0.7), 200))
    area(pen, list(place + size * 0.86 * jagged), (30, 22, 20, 255))
    area(pen, list(place + size * 0.5 * jagged[::2] * rng.uniform(0.7, 1.2, 13)), (12, 9, 9, 255))
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
