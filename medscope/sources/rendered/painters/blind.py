"""What hides the scene for some seconds: smoke, glare, and the camera outside of the body."""

import numpy as np
from PIL import Image, ImageDraw

from medscope.sources.rendered.painters.brushes import EDGE, UNIT, disc, fill, line

SHARE = {"smoke": 0.94, "glare": 0.96, "outside": 1.0}  # of the picture that no longer comes from the scene


def cover(camera: str, rng: np.random.Generator, pixels: int) -> np.ndarray:
    """The picture in front of the scene: float32 [pixels, pixels, 3]."""
    if camera == "smoke":
        grains = Image.fromarray(rng.integers(120, 236, (6, 6), dtype=np.uint8))
        clouds = np.asarray(grains.resize((pixels, pixels), Image.Resampling.BICUBIC), np.float32)[..., None]
        return clouds * np.array((0.96, 0.97, 1.0), np.float32)
    if camera == "glare":
        y, x = np.mgrid[-EDGE : EDGE : pixels * 1j, -EDGE : EDGE : pixels * 1j].astype(np.float32)
        x, y = x - rng.uniform(-0.3, 0.3), y - rng.uniform(-0.3, 0.3)
        rays = np.clip(1.25 - 0.35 * np.hypot(x, y) + 0.1 * np.sin(7 * np.arctan2(y, x)), 0, 1)
        return rays[..., None] * np.array((255, 252, 236), np.float32)
    return _room(rng, pixels)


def _room(rng: np.random.Generator, pixels: int) -> np.ndarray:
    """Drapes of the operating theatre, out of focus, with the bright mouth of a trocar."""
    size = round(2 * EDGE * UNIT)
    picture = Image.new("RGB", (size, size))
    pen = ImageDraw.Draw(picture)
    fill(pen, (36, 92, 96))
    for x in np.linspace(-1.2, 1.2, 7) + rng.uniform(-0.1, 0.1, 7):
        line(pen, [complex(x, -1.3), complex(x + 0.3, 1.3)], 0.12, (26, 70, 74))
    centre = complex(*rng.uniform(-0.3, 0.3, 2))
    disc(pen, centre, 0.34, (196, 200, 204))
    disc(pen, centre, 0.22, (20, 24, 28))
    return np.asarray(picture.resize((pixels, pixels), Image.Resampling.BILINEAR), np.float32)
