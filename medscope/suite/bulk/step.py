"""What a step is. Its author decides what one item's result is; `runner` decides when it is asked for."""

from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True)
class Rejected:
    """An item that gives no record. Its text up to the first colon is what `funnel` counts: `leak: it says "hook"`."""

    reason: str


class Step(Protocol):
    """One step of suite making.

    A fault of the item (an unreadable video, an answer that is no use) is a `Rejected`: it is kept and not asked again.
    A fault of the world (the endpoint is down) is an exception: the item is not done and is asked again in the next
    run. Blocking work belongs in a thread (`asyncio.to_thread`): `RemoteModel` is one. Give that model a large `trip`:
    the run has a circuit breaker of its own, which waits where the endpoint asks it to wait.
    """

    name: str  # of the step's folder: letters, digits, `_`, `-`, `.`

    def key(self, item: Any) -> str:
        """The content that decides the result, hashed: video, window, prompt, model. It must be cheap."""

    async def __call__(self, item: Any) -> Any | Rejected:
        """The record: whatever pydantic writes as JSON, not None."""


class StepStopped(RuntimeError):
    """The run of a step stopped early; what was done is kept. `report` counts it."""

    def __init__(self, message: str, report: Any = None):
        super().__init__(message)
        self.report = report
