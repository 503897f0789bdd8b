"""What became of the items of every step: how many there were, how many were kept, why the others were rejected."""

from collections import Counter
from collections.abc import Iterable

from pydantic.dataclasses import dataclass

from medscope.suite.bulk import Rejected


@dataclass(frozen=True)
class RejectedItem:
    """One item that a step rejected. `item` names it: the video, the window in it, or the id of the task."""

    step: str
    item: str
    reason: str


class Funnel:
    """Counts by step in the order of the steps, as `suite.bulk.funnel` gives them, and every rejected item."""

    def __init__(self) -> None:
        self.steps: dict[str, dict[str, int | dict[str, int]]] = {}
        self.rejected: list[RejectedItem] = []

    def add(self, step: str, kept: int, rejected: Iterable[tuple[str, Rejected]]) -> None:
        """The outcome of a step: how many items it kept, and the name of every rejected one with its reason.

        Reasons count by their text up to the first colon.
        """
        items = [RejectedItem(step, name, r.reason) for name, r in rejected]
        reasons = Counter(item.reason.partition(":")[0] for item in items)
        counts = {"generated": kept + len(items), "kept": kept, "rejected": dict(reasons.most_common())}
        self.steps[step] = counts
        self.rejected += items

    @property
    def reasons(self) -> Counter[str]:
        """How many items were rejected, by reason, over all steps (for `suite.build.summarise`)."""
        return Counter(item.reason.partition(":")[0] for item in self.rejected)
