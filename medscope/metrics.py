"""How answers and windows are scored. Pure functions; all times in seconds."""

from collections.abc import Sequence

from medscope.records import Evidence, Timestamp, Window

TIMESTAMP_TOLERANCE = 1.0  # seconds around a timestamp that count as its evidence window
COVERED_SHARE = 0.5  # of the evidence window that a crop must show to have looked at it


def temporal_iou(a: Window, b: Window) -> float:
    """Intersection over union of two windows on the time line, 0 to 1. Two equal instants score 1."""
    union = max(a.end, b.end) - min(a.start, b.start)
    if union == 0:
        return 1.0
    return max(0.0, _overlap(a, b)) / union


def evidence_window(evidence: Evidence) -> Window:
    """The evidence as a window: a timestamp becomes the second before and the second after it."""
    if isinstance(evidence, Timestamp):
        return Window(max(0.0, evidence.time - TIMESTAMP_TOLERANCE), evidence.time + TIMESTAMP_TOLERANCE)
    return evidence


def evidence_recall(looked: Evidence | None, evidence: Evidence) -> float:
    """1 if a look showed the evidence, else 0: a crop of half of its window or of its timestamp, a frame inside it.

    `looked` is the window of a crop_video or the timestamp of a get_frame; without a look it is None and scores 0. This
    is recall: a crop of the whole video scores 1. `evidence_precision` says how much of a look was needed.
    """
    if looked is None:
        return 0.0
    window = evidence_window(evidence)
    if isinstance(looked, Timestamp):
        return float(window.contains(looked.time))
    if isinstance(evidence, Timestamp):
        return float(looked.contains(evidence.time))
    return float(_overlap(looked, window) >= COVERED_SHARE * window.length)


def evidence_precision(looked: Evidence | None, evidence: Evidence) -> float:
    """Share of the look that is evidence, 0 to 1; the evidence of a timestamp is the second on each side of it.

    A frame, or a crop of no length, scores 1 inside the evidence window and 0 outside of it. No look (None) scores 0.
    """
    if looked is None:
        return 0.0
    window = evidence_window(evidence)
    if isinstance(looked, Timestamp):
        return float(window.contains(looked.time))
    if looked.length == 0:
        return float(window.contains(looked.start))
    return max(0.0, _overlap(looked, window)) / looked.length


def _overlap(a: Window, b: Window) -> float:
    """Seconds that two windows share; negative where they lie apart."""
    return min(a.end, b.end) - max(a.start, b.start)


def recall_at(ious: Sequence[float], threshold: float) -> list[float]:
    """R@k per task: 1 where IoU >= k, inclusive; a tolerance of 1e-9 keeps exact values such as .7 in."""
    return [float(iou >= threshold - 1e-9) for iou in ious]
