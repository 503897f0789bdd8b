"""The endoscope's circle, found from the dark corners that it leaves."""

import numpy as np

from medscope.deidentify.masks import Circle
from medscope.environment.decoders import PyAVReader

SAMPLES = 12  # frames that are looked at
DARK = 28  # grey levels: what is at most this bright in all samples is not lit by the endoscope
RUN = 0.02  # of the width: so many dark pixels end the view, a dark spot at its rim does not
LEAST_DARK = 0.85  # share of dark pixels outside of the circle; the rest is text
LEAST_OUTSIDE = 0.03  # share of the frame outside of the circle; less is a view that fills the frame
TOLERANCE = 0.02  # of the radius: half of the points of the rim lie at most this far from the circle
INSIDE = 0.99  # of the radius: the soft rim is left out


def find_circle(path: str) -> Circle | None:
    """The circle of a video's view, None where no circle with dark corners is seen. Frames as they are shown."""
    return circle_of(_brightest(path))


def circle_of(grey: np.ndarray) -> Circle | None:
    """The circle in grey levels [h, w]."""
    points = _rim(grey > DARK)
    if len(points) < 20:
        return None
    kept = points
    for _ in range(6):  # text and dark tissue at the rim are left out step by step
        x, y, radius = _fit(kept)
        off = np.abs(np.hypot(points[:, 0] - x, points[:, 1] - y) - radius)
        kept = points[off <= max(np.quantile(off, 0.7), 1.0)]
    height, width = grey.shape
    if not (0 < x < width and 0 < y < height and 0.2 * height < radius < width):
        return None
    rows, columns = np.ogrid[:height, :width]
    outside = (columns - x) ** 2 + (rows - y) ** 2 > (radius * (1 + TOLERANCE)) ** 2
    if outside.mean() < LEAST_OUTSIDE or np.median(off) > TOLERANCE * radius:
        return None
    if (grey[outside] <= DARK).mean() < LEAST_DARK:
        return None
    return Circle(float(x), float(y), float(radius * INSIDE))


def _brightest(path: str) -> np.ndarray:
    """Per pixel the greatest grey level but one of the samples: a single flash of an overlay does not count."""
    reader = PyAVReader(path)
    indices = np.unique(np.linspace(0, len(reader.starts) - 1, SAMPLES).round().astype(int)).tolist()
    grey = np.stack([reader.read([i], None)[0].max(axis=-1) for i in indices])
    return np.sort(grey, axis=0)[-2] if len(grey) > 2 else grey.max(axis=0)


def _rim(lit: np.ndarray) -> np.ndarray:
    """Points (x, y) where the view ends, seen from its middle along rows and columns, without those at the frame."""
    height, width = lit.shape
    run = max(4, round(RUN * width))
    cx, cy = width // 2, height // 2
    points = []
    for y in range(0, height, max(1, height // 120)):
        for line, sign in ((lit[y, cx:], 1), (lit[y, cx::-1], -1)):
            if (end := _end(line, run)) is not None:
                points.append((cx + sign * end, y))
    for x in range(0, width, max(1, width // 120)):
        for line, sign in ((lit[cy:, x], 1), (lit[cy::-1, x], -1)):
            if (end := _end(line, run)) is not None:
                points.append((x, cy + sign * end))
    return np.array(points, dtype=np.float64).reshape(-1, 2)


def _end(line: np.ndarray, run: int) -> int | None:
    """Steps from the start of a line to the last lit pixel before `run` dark ones; None where it is never left."""
    if len(line) <= run or not line[:run].any():
        return None
    dark = np.convolve(~line, np.ones(run, dtype=int), "valid") == run
    return int(np.argmax(dark)) - 1 if dark.any() else None


def _fit(points: np.ndarray) -> tuple[float, float, float]:
    """Centre and radius of the circle with the least squares of x^2 + y^2 = a x + b y + c (Kasa)."""
    x, y = points.T
    (a, b, c), *_ = np.linalg.lstsq(np.stack([x, y, np.ones_like(x)], axis=1), x**2 + y**2, rcond=None)
    return a / 2, b / 2, float(np.sqrt(max(c + a**2 / 4 + b**2 / 4, 0.0)))
