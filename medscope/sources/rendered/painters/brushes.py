"""Strokes that the painters share. Points are complex numbers x + y*1j, y downwards; 0 is the middle of the canvas.

1 is half the width of a frame. The canvas is larger than a frame, so that the camera can drift, and twice as fine.
"""

import math

import numpy as np
from PIL import ImageDraw

FRAME_PIXELS = 112
SPARE = 16  # px of a frame on each side, for the camera to drift
CANVAS = 2 * (FRAME_PIXELS + 2 * SPARE)
UNIT = FRAME_PIXELS  # canvas pixels
EDGE = CANVAS / 2 / UNIT  # the canvas reaches from -EDGE to EDGE

Colour = tuple[int, ...]


def xy(point: complex) -> tuple[float, float]:
    """A point in pixels of the canvas."""
    return CANVAS / 2 + UNIT * point.real, CANVAS / 2 + UNIT * point.imag


def line(pen: ImageDraw.ImageDraw, points: list[complex], width: float, colour: Colour) -> None:
    """A line with round ends and joints."""
    pen.line([xy(point) for point in points], colour, max(1, round(width * UNIT)), joint="curve")
    for point in (points[0], points[-1]):
        pen.circle(xy(point), width * UNIT / 2, colour)


def disc(pen: ImageDraw.ImageDraw, centre: complex, radii: float | complex, colour: Colour) -> None:
    """A filled disc, or an ellipse where `radii` is complex."""
    radii = radii if isinstance(radii, complex) else complex(radii, radii)
    pen.ellipse((*xy(centre - radii), *xy(centre + radii)), colour)


def area(pen: ImageDraw.ImageDraw, points: list[complex], colour: Colour) -> None:
    """A filled polygon."""
    pen.polygon([xy(point) for point in points], colour)


def fill(pen: ImageDraw.ImageDraw, colour: Colour) -> None:
    """The whole canvas in one colour."""
    pen.rectangle((0, 0, CANVAS, CANVAS), colour)


def vary(rng: np.random.Generator, colour: Colour, by: int = 12) -> Colour:
    """A colour near to another."""
    return tuple(int(c) for c in np.clip(np.array(colour) + rng.integers(-by, by + 1, 3), 0, 255))


def shade(colour: Colour, share: float) -> Colour:
    """A colour made darker (share < 1) or lighter."""
    return tuple(min(255, int(c * share)) for c in colour)


def outline(rng: np.random.Generator, radius: float, rough: float, points: int = 40) -> np.ndarray:
    """A closed, smooth, irregular curve around 0: complex [points]. `rough` is a share of the radius."""
    angles = np.linspace(0, 2 * math.pi, points, endpoint=False)
    waves = sum(rng.normal(0, rough / k) * np.sin(k * angles + 2 * math.pi * rng.random()) for k in range(2, 6))
    return radius * (1 + waves) * np.exp(1j * angles)


def vessels(
    pen: ImageDraw.ImageDraw, rng: np.random.Generator, colour: Colour, inner: float, outer: float, flat: float = 1
) -> None:
    """Thin branching lines from a distance `outer` of the middle towards `inner`."""
    for _ in range(14):
        way = np.exp(2j * math.pi * rng.random())
        bends = way * np.linspace(outer, inner + 0.2 * rng.random(), 6) * np.exp(1j * np.cumsum(rng.normal(0, 0.06, 6)))
        points = [complex(p.real, flat * p.imag) for p in bends]
        pen.line([xy(p) for p in points], colour, int(rng.integers(1, 4)))
        branch = points[2] + (points[3] - points[2]) * np.exp(1j * rng.choice([-0.6, 0.6])) * np.array([0, 1, 2])
        pen.line([xy(p) for p in branch], colour, 1)


def glints(pen: ImageDraw.ImageDraw, rng: np.random.Generator, count: int, near: float, far: float) -> None:
    """Small reflections of the lamp on wet tissue."""
    for _ in range(count):
        place = rng.uniform(near, far) * np.exp(2j * math.pi * rng.random())
        disc(pen, place, complex(rng.uniform(0.03, 0.06), rng.uniform(0.015, 0.03)), (255, 244, 236))
