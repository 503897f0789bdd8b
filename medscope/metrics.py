"""How answers and windows are scored, with intervals. Pure functions; all times in seconds."""

from collections.abc import Hashable, Sequence

import numpy as np

from medscope.records import Evidence, Timestamp, Window

TIMESTAMP_TOLERANCE = 1.0  # seconds around a moment that count as its evidence window


def temporal_iou(a: Window, b: Window) -> float:
    """Intersection over union of two windows on the time line, 0 to 1. Two equal instants score 1."""
    union = max(a.end, b.end) - min(a.start, b.start)
    if union == 0:
        return 1.0
    return max(0.0, min(a.end, b.end) - max(a.start, b.start)) / union


def evidence_window(evidence: Evidence) -> Window:
    """The evidence as a window: a moment becomes the second before and the second after it."""
    if isinstance(evidence, Timestamp):
        return Window(max(0.0, evidence.time - TIMESTAMP_TOLERANCE), evidence.time + TIMESTAMP_TOLERANCE)
    return evidence


def is_covered(evidence: Evidence, looked: Window | float | None) -> bool:
    """Whether a call looked at the evidence: a crop at half of its window or at its moment, a frame inside it.

    `looked` is the window of a crop_video, the second of a get_frame, or None without a call.
    """
    if looked is None:
        return False
    window = evidence_window(evidence)
    if not isinstance(looked, Window):
        return window.contains(looked)
    if isinstance(evidence, Timestamp):
        return looked.contains(evidence.time)
    return min(looked.end, window.end) - max(looked.start, window.start) >= 0.5 * window.length


def recall_at(ious: Sequence[float], threshold: float) -> list[float]:
    """R@k per question: 1 where IoU >= k (inclusive; exact values such as .7 do not get lost in floats)."""
    return [float(iou >= threshold - 1e-9) for iou in ious]


def bootstrap_interval(
    values: Sequence[float], clusters: Sequence[Hashable] | None = None, seed: int = 0, draws: int = 2000
) -> tuple[float, float]:
    """95 % percentile bootstrap interval of the mean, resampling whole clusters (videos: their questions are alike)."""
    data = np.asarray(values, dtype=np.float64)
    _, index = np.unique([str(c) for c in clusters] if clusters else np.arange(len(data)), return_inverse=True)
    sums, counts = np.bincount(index, weights=data), np.bincount(index)
    picks = np.random.default_rng(seed).integers(0, len(sums), (draws, len(sums)))
    low, high = np.percentile(sums[picks].sum(axis=1) / counts[picks].sum(axis=1), [2.5, 97.5])
    return float(low), float(high)


def paired_difference(
    after: Sequence[float], before: Sequence[float], clusters: Sequence[Hashable] | None = None, seed: int = 0
) -> tuple[float, tuple[float, float]]:
    """Mean of after - before over the same questions in the same order, with its 95 % bootstrap interval."""
    if len(after) != len(before):
        raise ValueError(f"paired values differ in number: {len(after)} and {len(before)}")
    differences = [a - b for a, b in zip(after, before, strict=True)]
    return float(np.mean(differences)), bootstrap_interval(differences, clusters, seed)
