"""The funnel of suite making as a picture: what every step was given, what it kept, and why it rejected the rest."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt

from medscope.reporting.pictures import save

KEPT = "#2a9d5c"
MOST_REASONS = 12  # that have a colour of their own; the others share one
COLOURS = [colour for number, colour in enumerate(plt.get_cmap("tab20").colors) if number not in (4, 5)]  # no green


def funnel_chart(steps: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    """A bar for every step of `{step: {generated, kept, rejected: {reason: count}}}`, from the first to the last."""
    reasons = Counter[str]()
    for counts in steps.values():
        reasons.update(counts["rejected"])
    shown = [reason for reason, _ in reasons.most_common(MOST_REASONS)]
    colours = dict(zip(shown, COLOURS, strict=False))
    _, axis = plt.subplots(figsize=(9, 0.45 * len(steps) + 1))
    for step, counts in steps.items():
        axis.barh(step, counts["kept"], color=KEPT, label="kept")
        left = counts["kept"]
        for reason, count in counts["rejected"].items():
            axis.barh(
                step,
                count,
                left=left,
                color=colours.get(reason, "grey"),
                label=reason if reason in colours else "other",
            )
            left += count
        axis.text(left, step, f" {counts['kept']} of {counts['generated']}", va="center", fontsize=8)
    axis.invert_yaxis()
    axis.margins(x=0.15)
    axis.set_xlabel("items")
    handles, labels = axis.get_legend_handles_labels()
    unique = dict(zip(labels, handles, strict=True))
    axis.legend(unique.values(), unique, fontsize=7, loc="upper left", bbox_to_anchor=(1.02, 1.0), borderaxespad=0)
    save(path)
