"""Inside the bladder with a cystoscope: a pale wall with fine vessels, muscle bundles, an orifice, a bubble of air."""

import numpy as np
from PIL import ImageDraw

from medscope.sources.rendered.painters.brushes import disc, fill, glints, line, shade, vary, vessels


def paint(pen: ImageDraw.ImageDraw, rng: np.random.Generator) -> None:
    """Paint the tissue over the whole canvas."""
    wall = vary(rng, (236, 186, 150), 14)
    fill(pen, wall)
    for _ in range(7):  # bundles of muscle below the wall
        start, way = 1.4 * np.exp(2j * np.pi * rng.random()), np.exp(2j * np.pi * rng.random())
        points = [start + way * t + 0.1j * way * np.sin(3 * t) for t in np.linspace(-1.4, 1.4, 12)]
        line(pen, points, rng.uniform(0.06, 0.12), shade(wall, 0.93))
        line(pen, [p - 0.03j for p in points], 0.03, shade(wall, 1.05))
    vessels(pen, rng, (204, 96, 84), 0.1, 1.5)
    vessels(pen, rng, (214, 120, 100), 0.3, 1.5)
    orifice = complex(rng.choice([-1, 1]) * rng.uniform(0.5, 0.7), rng.uniform(0.1, 0.4))
    disc(pen, orifice, 0.16 + 0.1j, shade(wall, 0.86))
    disc(pen, orifice + 0.01j, 0.08 + 0.035j, (120, 50, 44))
    bubble = complex(rng.uniform(-0.4, 0.4), -0.82)
    disc(pen, bubble, 0.2 + 0.13j, shade(wall, 0.9))
    disc(pen, bubble, 0.18 + 0.11j, shade(wall, 1.07))
    disc(pen, bubble - 0.06 - 0.03j, 0.04 + 0.02j, (255, 255, 255))
    glints(pen, rng, 4, 0.4, 1.0)
