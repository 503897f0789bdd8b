"""The upper abdomen with a laparoscope: liver, gallbladder, fat."""

import numpy as np
from PIL import ImageDraw

from medscope.sources.rendered.painters.brushes import EDGE, disc, fill, glints, shade, vary, vessels


def paint(pen: ImageDraw.ImageDraw, rng: np.random.Generator) -> None:
    """Paint the tissue over the whole canvas."""
    liver, fat = vary(rng, (168, 84, 70), 12), vary(rng, (236, 200, 128), 10)
    fill(pen, vary(rng, (220, 140, 124), 12))
    vessels(pen, rng, (176, 76, 74), 0.4, 1.6)
    for _ in range(11):  # lobules of fat in front
        lobule, size = complex(rng.uniform(-EDGE, EDGE), rng.uniform(0.6, 1.1)), rng.uniform(0.16, 0.3)
        disc(pen, lobule + 0.02j, size * (1 + 0.8j), shade(fat, 0.84))
        disc(pen, lobule, size * (0.95 + 0.74j), fat)
    edge = complex(rng.uniform(-0.7, -0.4), rng.uniform(-0.95, -0.75))
    for lobe, radii in ((edge, 1.0 + 0.66j), (edge + 0.95 - 0.12j, 0.8 + 0.55j)):  # the liver hangs from above
        disc(pen, lobe + 0.02 + 0.03j, radii, shade(liver, 0.72))
        disc(pen, lobe, radii, liver)
        disc(pen, lobe + 0.15 + 0.2j, 0.24 + 0.08j, shade(liver, 1.2))
    radii = complex(rng.uniform(0.5, 0.62), rng.uniform(0.36, 0.44))
    bile = vary(rng, (160, 172, 118), 14)
    centre = 0.08 * complex(*rng.uniform(-1, 1, 2))
    disc(pen, centre + 0.02 + 0.04j, radii + 0.02 + 0.02j, shade(bile, 0.55))
    disc(pen, centre, radii, bile)
    disc(pen, centre - 0.1 - 0.1j, radii * 0.6, shade(bile, 1.12))
    glints(pen, rng, 5, 0.3, 0.9)
