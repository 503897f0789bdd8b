"""Inside a joint with an arthroscope: two pale cartilage surfaces, the meniscus between them, synovium behind."""

import numpy as np
from PIL import ImageDraw

from medscope.sources.rendered.painters.brushes import EDGE, area, disc, fill, glints, line, shade, vary, vessels


def paint(pen: ImageDraw.ImageDraw, rng: np.random.Generator) -> None:
    """Paint the tissue over the whole canvas."""
    bone, synovium = vary(rng, (226, 214, 196), 10), vary(rng, (196, 128, 112), 14)
    tilt = rng.uniform(-0.18, 0.18)
    fill(pen, synovium)
    vessels(pen, rng, shade(synovium, 0.72), 0.2, 1.5)
    condyle = complex(rng.uniform(-0.25, 0.25), -1.45)
    disc(pen, condyle + 0.02j, 1.52 + 1.22j, shade(bone, 0.68))
    disc(pen, condyle, 1.5 + 1.18j, bone)
    disc(pen, condyle - 0.2 + 0.1j, 1.0 + 0.85j, shade(bone, 1.08))
    for x in rng.uniform(-0.7, 0.7, 5):  # fibrils of the cartilage
        line(pen, [complex(x, -0.5), complex(x + 0.1, -0.38)], 0.015, shade(bone, 0.9))
    plateau = complex(0, 0.62 + rng.uniform(-0.06, 0.06))
    xs = np.linspace(-EDGE, EDGE, 24)
    top = [complex(x, plateau.imag + tilt * x + 0.06 * x * x) for x in xs]
    area(pen, [*top, EDGE + EDGE * 1j, -EDGE + EDGE * 1j], shade(bone, 0.96))
    line(pen, top, 0.03, shade(bone, 0.7))
    side = rng.choice([-1, 1])  # the meniscus, a wedge that thins towards the middle
    wedge = [side * 1.3 + 0.1j, side * 1.3 + 0.75j, side * 0.1 + plateau - 0.06j, side * 0.5 + 0.24j]
    area(pen, [p + 0.03j for p in wedge], shade(bone, 0.6))
    area(pen, wedge, vary(rng, (214, 186, 160), 8))
    line(pen, [wedge[0], wedge[3], wedge[2]], 0.025, shade(bone, 1.1))
    glints(pen, rng, 5, 0.4, 0.9)
