"""The front of the eye under a surgical microscope: lids, sclera, iris, pupil, speculum."""

import math

import numpy as np
from PIL import ImageDraw

from medscope.sources.rendered.painters.brushes import disc, fill, line, shade, vary, vessels, xy

IRISES = ((112, 72, 40), (84, 122, 160), (96, 120, 70), (146, 108, 56), (112, 120, 126))


def paint(pen: ImageDraw.ImageDraw, rng: np.random.Generator) -> None:
    """Paint the tissue over the whole canvas."""
    skin, iris = vary(rng, (198, 150, 128), 20), IRISES[rng.integers(len(IRISES))]
    centre = 0.06 * complex(*rng.uniform(-1, 1, 2))
    radius = rng.uniform(0.72, 0.8)
    pupil = radius * rng.uniform(0.52, 0.6)
    fill(pen, skin)
    disc(pen, 0, 1.22 + 0.98j, shade(skin, 0.75))  # the rim of the lids
    disc(pen, 0, 1.16 + 0.92j, vary(rng, (236, 226, 218), 8))
    vessels(pen, rng, (206, 120, 112), 0.8, 1.15, flat=0.78)
    for side in (1j, -1j):  # the speculum holds the lids
        line(
            pen,
            [side * point for point in (1.1 - 0.6j, 0.98 - 0.4j, 0.94, 0.98 + 0.4j, 1.1 + 0.6j)],
            0.07,
            (150, 160, 178),
        )
    disc(pen, centre, radius, shade(iris, 0.5))
    disc(pen, centre, radius - 0.04, iris)
    for angle in np.linspace(0, 2 * math.pi, 56, endpoint=False):
        ray = np.exp(1j * (angle + rng.normal(0, 0.03)))
        pen.line([xy(centre + pupil * ray), xy(centre + (radius - 0.05) * ray)], shade(iris, rng.uniform(0.75, 1.3)), 3)
    disc(pen, centre, pupil + 0.025, shade(iris, 0.4))
    disc(pen, centre, pupil, vary(rng, (150, 84, 62), 14))  # the red reflex of the fundus
    disc(pen, centre + 0.05 + 0.06j, 0.7 * pupil, vary(rng, (176, 104, 76), 8))
    glint = centre + pupil * complex(rng.uniform(0.3, 0.6), -rng.uniform(0.3, 0.6))
    disc(pen, glint, 0.07 + 0.05j, (255, 255, 255))
    disc(pen, glint - 0.03 + 0.15j, 0.03 + 0.02j, (255, 255, 255))
