"""Shafts and tips. A step is told by which shafts enter from above and how; an event's instrument comes from a side.

The colour of a tip is drawn anew for each occurrence; its shape tells the instrument.
"""

import numpy as np
from PIL import ImageDraw

from medscope.sources.rendered.painters.brushes import Colour, area, disc, line

STEEL, RIM, LIGHT = (128, 134, 142, 255), (48, 52, 58, 255), (198, 203, 210, 255)
TIPS: tuple[Colour, ...] = (
    (222, 190, 84),
    (110, 196, 212),
    (206, 128, 204),
    (132, 200, 122),
    (226, 146, 88),
    (228, 228, 228),
)
TIP = 0.44  # length of a tip
WAYS: dict[str, complex] = {"left": 1, "right": -1, "above": 1j, "below": -1j}  # into the picture, y downwards
Pen = ImageDraw.ImageDraw


def paint_step(pen: Pen, step: str, rng: np.random.Generator) -> None:
    """Paint the shafts of a step, in the upper half."""
    shift = 0.06 * complex(*rng.uniform(-1, 1, 2))
    STEPS[step](pen, rng, shift)


def paint_instrument(pen: Pen, instrument: str, side: str, rng: np.random.Generator) -> None:
    """Paint the instrument of an event, a shaft from `side` and its tip: from left and right low in the picture."""
    way = WAYS[side]
    level = bool(way.real)
    mirror = int(way.real) or int(rng.choice((-1, 1)))
    grip = (0.56j - 0.5 * way if level else -0.84 * way) + 0.04 * complex(*rng.uniform(-1, 1, 2))
    turn = way * np.exp(-1j * mirror * rng.uniform(0.1, 0.3))
    colour = (*TIPS[rng.integers(len(TIPS))], 255)
    _shaft(pen, grip - 1.2 * turn, grip)
    for extra, ink in ((0.035, (28, 28, 34, 255)), (0, colour)):  # all rims first, so that the parts flow together
        for kind, width, points in SHAPES[instrument]:
            at = [grip + TIP * turn * (p.real + 1j * mirror * p.imag) for p in points]
            if kind == "area":
                area(pen, at, ink)
                line(pen, [*at, at[0]], 2 * extra + 0.01, ink)
            elif kind == "disc":
                disc(pen, at[0], TIP * width + extra, ink)
            else:
                line(pen, at, TIP * width + 2 * extra, ink)


# Along +x from the end of the shaft at 0; kind, width or radius, points.
SHAPES: dict[str, tuple[tuple[str, float, tuple[complex, ...]], ...]] = {
    "hook": (("line", 0.2, (0, 0.8, 0.96 - 0.16j, 0.96 - 0.42j, 0.76 - 0.56j)),),
    "blade": (("area", 0, (-0.16j, 0.5 - 0.4j, 1.1 + 0.1j, 0.4 + 0.22j, 0.16j)),),
    "probe": (("line", 0.18, (0, 0.6)), ("disc", 0.32, (0.72,))),
    "forceps": (("line", 0.17, (1 - 0.36j, 0.4 - 0.34j, 0, 0.4 + 0.34j, 1 + 0.36j)),),
    "needle": (("line", 0.1, (0, 1.2)),),
}


def _shaft(pen: Pen, start: complex, end: complex, width: float = 0.16) -> None:
    line(pen, [start, end], width + 0.04, RIM)
    line(pen, [start, end], width, STEEL)
    line(pen, [start - 0.02j, end - 0.02j], width / 3, LIGHT)


def _jaw(pen: Pen, end: complex, way: complex) -> None:
    """Two short closed jaws at the end of a shaft."""
    line(pen, [end, end + way * (0.16 - 0.04j)], 0.08, RIM)
    line(pen, [end, end + way * (0.16 + 0.04j)], 0.05, LIGHT)


def _grasping(pen: Pen, rng: np.random.Generator, shift: complex) -> None:
    """One from the right."""
    end, start = 0.24 - 0.4j + shift, 1.25 - 1.0j
    _shaft(pen, start, end)
    _jaw(pen, end, (end - start) / abs(end - start))


def _cutting(pen: Pen, rng: np.random.Generator, shift: complex) -> None:
    """Two that cross."""
    for side in (1, -1):
        _shaft(pen, side * 1.1 - 1.15j, -side * 0.42 - 0.28j + shift, 0.13)
    disc(pen, shift - 0.52j, 0.04, RIM)


def _rinsing(pen: Pen, rng: np.random.Generator, shift: complex) -> None:
    """A nozzle on the left that sprays drops across."""
    end = -0.72 - 0.72j + shift
    _shaft(pen, -1.3 - 1.2j, end, 0.13)
    for way in np.exp(1j * np.array((-0.25, 0.1, 0.45, 0.8))):
        for distance in (0.25, 0.45, 0.65, 0.85):
            drop = end + distance * (1 + rng.uniform(-0.05, 0.05)) * way
            disc(pen, drop, 0.035 + 0.035 * distance, (196, 222, 240, 225))


def _spreading(pen: Pen, rng: np.random.Generator, shift: complex) -> None:
    """One from either side, pulling apart a fold."""
    for side in (1, -1):
        end = side * 0.52 - 0.46j + shift
        _shaft(pen, side * 1.3 - 0.72j, end, 0.13)
        line(pen, [end, end - 0.14j], 0.1, RIM)
        line(pen, [end, end + 0.14j], 0.1, RIM)


def _holding(pen: Pen, rng: np.random.Generator, shift: complex) -> None:
    """One straight from above, with a flat pad."""
    end = -0.36j + shift
    _shaft(pen, end.real - 1.3j, end, 0.15)
    line(pen, [end - 0.2, end + 0.2], 0.13, RIM)
    line(pen, [end - 0.19, end + 0.19], 0.08, LIGHT)


STEPS = {"grasping": _grasping, "cutting": _cutting, "rinsing": _rinsing, "spreading": _spreading, "holding": _holding}
