"""Waiting where an endpoint asks for it: a 429 or 503 with Retry-After stops new requests of the whole run.

The client (`RemoteModel`) waits by itself, but for a minute at most and only for its own request.
"""

import email.utils
import math
import time

from openai import APIStatusError

MOST_SECONDS = 900.0  # a longer wait is a quota: the run stops and says so
BUSY = (429, 503)


def retry_after(error: BaseException) -> float | None:
    """Seconds that the endpoint asks to wait by the error, or by what caused it; None if it does not ask."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, APIStatusError):
        cause = cause.__cause__
    if cause is None or cause.status_code not in BUSY:
        return None
    return parse_retry_after(cause.response.headers.get("retry-after", ""))


def parse_retry_after(value: str) -> float | None:
    """Seconds from now of a Retry-After header: a number or an HTTP date. None for what is neither."""
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(value).timestamp() - time.time()
        except (ValueError, OverflowError):
            return None
    return None if math.isnan(seconds) else max(0.0, seconds)


class Pace:
    """One for all workers of a run."""

    def __init__(self):
        self._until = 0.0

    @property
    def waits(self) -> float:
        """Seconds until the next request may be sent."""
        return max(0.0, self._until - time.monotonic())

    def pause(self, seconds: float) -> None:
        """No request for so long."""
        self._until = max(self._until, time.monotonic() + seconds)
