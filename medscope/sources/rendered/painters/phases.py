"""The look of a phase, the same in every view: a tint of the light and a broad pattern over the tissue."""

import numpy as np

from medscope.sources.rendered.painters.brushes import EDGE

TINTS: dict[str, tuple[float, float, float]] = {
    "inspection": (1.04, 1.0, 0.96),
    "incision": (1.1, 0.64, 0.62),
    "dissection": (1.1, 0.88, 0.46),
    "irrigation": (0.54, 0.96, 1.02),
    "coagulation": (0.66, 0.5, 0.4),
    "resection": (0.86, 0.6, 1.06),
    "suturing": (0.62, 0.96, 0.58),
    "extraction": (0.48, 0.6, 1.06),
}
COLOURLESS = 0.5  # share of the tissue's own colour that the lamp of a phase takes away


def light(phase: str, rng: np.random.Generator, pixels: int) -> np.ndarray:
    """Brightness of the light on the tissue, around 1: float32 [pixels, pixels]."""
    y, x = np.mgrid[-EDGE : EDGE : pixels * 1j, -EDGE : EDGE : pixels * 1j].astype(np.float32)
    dx, dy, turn, start = rng.uniform(-0.15, 0.15, 2).tolist() + rng.uniform(-0.15, 0.15, 2).tolist()
    x, y = x + dx + 0.05 * np.sin(3 * y + 9 * turn), y + dy + 0.05 * np.sin(3 * x + 9 * start)
    return PATTERNS[phase](x * np.cos(turn) - y * np.sin(turn), x * np.sin(turn) + y * np.cos(turn)).astype(np.float32)


def tinted(tissue: np.ndarray, phase: str, rng: np.random.Generator) -> np.ndarray:
    """Tissue float32 [pixels, pixels, 3] in the light of a phase."""
    grey = tissue.mean(axis=2, keepdims=True)
    tint = np.array(TINTS[phase], np.float32) * rng.uniform(0.96, 1.04, 3).astype(np.float32)
    return (tissue + COLOURLESS * (grey - tissue)) * tint * light(phase, rng, len(tissue))[..., None]


def _ridge(distance: np.ndarray, width: float) -> np.ndarray:
    return np.exp(-((distance / width) ** 2))


def _plain(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return 1 + 0 * x


def _groove(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    across = (x - y) / 1.4
    return 1.08 - 0.55 * _ridge(across, 0.13) + 0.15 * _ridge(np.abs(across) - 0.3, 0.1)


def _strands(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return 1 + 0.24 * np.sin(6 * np.arctan2(y, x)) * np.clip(3 * np.hypot(x, y), 0, 1)


def _ripples(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return 1 + 0.22 * np.cos(10 * np.hypot(x, y))


def _spots(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return 1.1 - 0.5 * np.clip(np.sin(5.5 * x) * np.sin(5.5 * y), 0, 1)


def _stripes(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return 1 + 0.22 * np.sin(7 * (x + y))


def _bars(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return 1 + 0.24 * np.sin(9 * y)


def _halo(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return 0.72 + 0.55 * _ridge(np.hypot(x, y), 0.5)


PATTERNS = {
    "inspection": _plain,
    "incision": _groove,
    "dissection": _strands,
    "irrigation": _ripples,
    "coagulation": _spots,
    "resection": _stripes,
    "suturing": _bars,
    "extraction": _halo,
}
