"""A model behind an OpenAI-compatible endpoint: which one, whether it may be reached, what its replies have cost.

`PREFIX_URL` and `PREFIX_MODEL` in the environment say which endpoint and model, `PREFIX_KEY` (optional) with which key.
Nothing is sent to another machine until `allow_remote` is true: not by the URL, not by a redirect, not by a proxy.
"""

import ipaddress
import os
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, fields
from threading import Lock
from typing import Any

from openai import APIStatusError, DefaultHttpx2Client, OpenAI, OpenAIError
from openai.types.chat import ChatCompletion
from openai.types.chat.chat_completion import Choice

FAULTS_OF_A_REQUEST = (400, 413, 422)  # such a status says nothing about the next request
LATER = 429  # the endpoint is there and asks for patience


class EndpointError(RuntimeError):
    """The endpoint is not configured, not allowed, cannot be reached, or its replies cannot be read.

    `turns` are the assistant's turns that were made before: an outage is no wrong answer, so nothing is scored.
    """

    def __init__(self, message: str, turns: Sequence[str] = ()):
        super().__init__(message)
        self.turns = tuple(turns)


class DialogueFailed(EndpointError):
    """One dialogue cannot go on: its replies are of no use, or it is too long. It says nothing about the next one."""


def is_fault_of_item(error: EndpointError) -> bool:
    """Whether an error says nothing about the next item: the dialogue failed, or the request was refused for itself."""
    status = getattr(error.__cause__, "status_code", None)
    return isinstance(error, DialogueFailed) or status in FAULTS_OF_A_REQUEST


@dataclass
class Usage:
    """What was sent and paid for. Tokens are those that the endpoint's replies name; `unmetered` replies name none."""

    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    unmetered: int = 0
    frames: int = 0  # a frame counts each time that it is sent
    bytes: int = 0  # of the frames, as JPEG

    def add(self, other: "Usage") -> None:
        for counted in fields(self):
            setattr(self, counted.name, getattr(self, counted.name) + getattr(other, counted.name))


def is_endpoint(name: str) -> bool:
    """Whether the name of a model means an endpoint: a URL, or `endpoint` for the one that the environment names."""
    return name == "endpoint" or name.startswith(("http://", "https://"))


class RemoteModel:
    """Threads may share it. The openai client asks again on 408, 409, 429 (Retry-After), 5xx, timeouts, lost lines.

    After `trip` failures in a row, each with its retries, the circuit is open: every further request fails at once.
    Prices are in dollars per million tokens.
    """

    def __init__(
        self,
        prefix: str = "MEDSCOPE_MODEL",
        url: str | None = None,
        model: str | None = None,
        allow_remote: bool = False,
        retries: int = 6,
        timeout: float = 120.0,
        trip: int = 5,
        price_in: float | None = None,
        price_out: float | None = None,
    ):
        found = {"URL": url or os.environ.get(f"{prefix}_URL"), "MODEL": model or os.environ.get(f"{prefix}_MODEL")}
        missing = [f"{prefix}_{name}" for name, value in found.items() if not value]
        if missing:
            raise EndpointError(f"the endpoint needs {' and '.join(missing)} in the environment")
        self.url, self.model = found["URL"], found["MODEL"]
        self.allow_remote, self.trip = allow_remote, trip
        self.price_in, self.price_out = price_in, price_out
        self.usage = Usage()
        self._lock = Lock()
        self._failures = 0
        # A redirect or a proxy of the environment would carry what is meant for this machine to another one.
        http = DefaultHttpx2Client(follow_redirects=False, trust_env=allow_remote)
        key = os.environ.get(f"{prefix}_KEY") or "none"
        self.client = OpenAI(base_url=self.url, api_key=key, max_retries=retries, timeout=timeout, http_client=http)
        if self.client.base_url.scheme not in ("http", "https") or not self.client.base_url.host:
            raise EndpointError(f"{self.url!r} is no URL of an endpoint; it is like http://127.0.0.1:8000/v1")

    @property
    def is_loopback(self) -> bool:
        """Whether the host that the client will connect to is this machine."""
        host = self.client.base_url.host.lower()
        try:
            return host == "localhost" or ipaddress.ip_address(host).is_loopback
        except ValueError:
            return False

    def metered(self) -> "RemoteModel":
        """The same endpoint with a count and a circuit of its own: for what one dialogue costs."""
        own = copy(self)
        own.usage, own._lock, own._failures = Usage(), Lock(), 0
        return own

    @property
    def dollars(self) -> float | None:
        """The cost so far; None without prices."""
        return self.price(self.usage)

    def price(self, usage: Usage) -> float | None:
        """Dollars of the tokens that were counted; None without prices."""
        if self.price_in is None or self.price_out is None:
            return None
        return (usage.prompt_tokens * self.price_in + usage.completion_tokens * self.price_out) / 1e6

    def complete(
        self, messages: list[dict[str, Any]], sends: str, frames: Sequence[bytes] = (), **request: Any
    ) -> Choice:
        """The first choice of a chat completion. `sends` says in words what `messages` carry, `frames` are their JPEGs.

        A reply that is no chat completion is asked for once more. Raises `EndpointError`.
        """
        if not (self.is_loopback or self.allow_remote):
            raise EndpointError(
                f"nothing was sent: {self.url} is not on this machine; {sends} would be sent there. "
                "Give allow_remote (--allow-remote) if they may leave this machine"
            )
        if self._failures >= self.trip:
            raise EndpointError(f"{self._name} failed {self._failures} times in a row; nothing more is sent")
        for _ in range(2):
            reply = self._request(messages, frames, request)
            if isinstance(reply, ChatCompletion) and reply.choices and reply.choices[0].message:
                with self._lock:
                    self._failures = 0
                return reply.choices[0]
        self._fail()
        raise EndpointError(f"{self._name} does not reply with a chat completion; is {self.url} its /v1?")

    def _request(self, messages: list[dict[str, Any]], frames: Sequence[bytes], request: dict[str, Any]) -> Any:
        with self._lock:
            self.usage.requests += 1
            self.usage.frames += len(frames)
            self.usage.bytes += sum(map(len, frames))
        try:
            reply = self.client.chat.completions.create(model=self.model, messages=messages, **request)
        except OpenAIError as error:
            if getattr(error, "status_code", None) not in (*FAULTS_OF_A_REQUEST, LATER):
                self._fail()
            raise EndpointError(self._failed(error)) from error
        except ValueError:  # the body is no JSON
            return None
        used = getattr(reply, "usage", None)
        with self._lock:
            self.usage.unmetered += used is None
            self.usage.prompt_tokens += getattr(used, "prompt_tokens", 0) or 0
            self.usage.completion_tokens += getattr(used, "completion_tokens", 0) or 0
        return reply

    def _fail(self) -> None:
        with self._lock:
            self._failures += 1

    @property
    def _name(self) -> str:
        return f"the model {self.model} at {self.url}"

    def _failed(self, error: OpenAIError) -> str:
        reason = " ".join(str(error).split())[:200]
        if not isinstance(error, APIStatusError):
            return f"{self._name} cannot be reached: {reason}; start the server, or mend the URL"
        if 300 <= error.status_code < 400:
            return f"{self._name} redirects (HTTP {error.status_code}), which is not followed; give the final URL"
        return f"{self._name} fails (HTTP {error.status_code}): {reason}"
