"""Along the bowel with an endoscope: folds that narrow towards a dark lumen."""

import math

import numpy as np
from PIL import ImageDraw

from medscope.sources.rendered.painters.brushes import area, fill, glints, shade, vary, vessels, xy


def paint(pen: ImageDraw.ImageDraw, rng: np.random.Generator) -> None:
    """Paint the tissue over the whole canvas."""
    wall = vary(rng, (232, 150, 120), 16)
    centre = complex(rng.uniform(-0.3, 0.3), rng.uniform(-0.3, 0.2))
    fill(pen, wall)
    vessels(pen, rng, shade(wall, 0.8), 0.6, 1.6)
    angles = np.linspace(0, 2 * math.pi, 60, endpoint=False)
    lobes, start = rng.integers(3, 5), 2 * math.pi * rng.random()
    for depth, radius in enumerate((1.15, 0.88, 0.64, 0.44, 0.28, 0.16)):  # each fold in the shade of the one before
        ripple = 1 + 0.08 * np.sin(lobes * angles + start + 0.8 * depth)
        fold = list(centre * (0.5 + 0.1 * depth) + radius * ripple * np.exp(1j * angles))
        colour = shade(wall, 0.97 - 0.13 * depth)
        area(pen, fold, colour)
        pen.line([xy(p) for p in [*fold, fold[0]]], shade(colour, 1.18), 5)
    glints(pen, rng, 6, 0.5, 1.0)
