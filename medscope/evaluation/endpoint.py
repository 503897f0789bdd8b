"""A language model behind an OpenAI-compatible endpoint that grades: one number per content, at temperature 0.

MEDSCOPE_JUDGE_URL and MEDSCOPE_JUDGE_MODEL say which endpoint and model, MEDSCOPE_JUDGE_KEY (optional) with which key.
Every number is kept on disk in `.cache/judge`, or where MEDSCOPE_JUDGE_CACHE says, so that it is paid once. An endpoint
that fails, or a reply without a number, is a `JudgeError` and never a number.
"""

import hashlib
import json
import os
import re
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock

from diskcache import Cache
from openai import APIStatusError, AuthenticationError, NotFoundError, OpenAIError, RateLimitError

from medscope.remote import EndpointError, RemoteModel

PROMPT_VERSION = 2  # raise it with every change of a prompt or of how a reply is read: it is part of the cache's key
MAX_TOKENS = 4096  # of a reply: a reasoning model thinks before its number
CHECK_SECONDS = 30.0  # that the check at the start waits for a reply

_THOUGHT = re.compile(r"<think>.*?</think>", re.DOTALL)


class JudgeError(RuntimeError):
    """The endpoint is not configured, cannot be reached, or does not reply with a number."""


class Endpoint:
    """Asks `concurrency` at a time, by a `RemoteModel` that may be on another machine: no frame is sent to a judge."""

    def __init__(self, cache: str | Path | None = None, concurrency: int = 8, retries: int = 6, timeout: float = 120.0):
        missing = [name for name in ("MEDSCOPE_JUDGE_URL", "MEDSCOPE_JUDGE_MODEL") if not os.environ.get(name)]
        if missing:
            raise JudgeError(f"the llm judge needs {' and '.join(missing)} in the environment")
        self.remote = self._remote(retries, timeout)
        self.url, self.model = self.remote.url, self.remote.model
        self.cache = Cache(str(cache or os.environ.get("MEDSCOPE_JUDGE_CACHE", ".cache/judge")))
        self.concurrency = concurrency
        self._lock = Lock()
        self._failures = 0  # requests in a row that were not answered

    @staticmethod
    def _remote(retries: int, timeout: float) -> RemoteModel:
        """The endpoint. `ask` counts the failures of its own requests, so the circuit stays closed here."""
        try:
            return RemoteModel("MEDSCOPE_JUDGE", allow_remote=True, retries=retries, timeout=timeout, trip=sys.maxsize)
        except EndpointError as error:
            raise JudgeError(str(error)) from None

    def check(self) -> None:
        """Send one tiny request, without retries. Raises `JudgeError` of one line: what fails, and what mends it."""
        messages = [{"role": "user", "content": "Reply with the number 1."}]
        try:
            self._remote(0, CHECK_SECONDS).complete(messages, "a number", temperature=0, max_tokens=8)
        except EndpointError as error:
            if isinstance(error.__cause__, RateLimitError):
                return  # it is there, and asks for patience
            fix = "start the server or set MEDSCOPE_JUDGE_URL"
            if isinstance(error.__cause__, NotFoundError):
                fix = "MEDSCOPE_JUDGE_URL ends in /v1, MEDSCOPE_JUDGE_MODEL is a model that it serves"
            if isinstance(error.__cause__, AuthenticationError):
                fix = "set MEDSCOPE_JUDGE_KEY"
            raise JudgeError(self._failed(error, fix)) from None

    def ask(self, system: str, contents: Sequence[str], read: Callable[[str], float | None]) -> list[float]:
        """A number for every content. `read` finds it in a reply, or returns None.

        A reply without a number is asked for again once. What still fails is raised as one `JudgeError` at the end,
        when all other numbers are on disk; after `concurrency` failed requests in a row nothing new is asked.
        """
        different = list(dict.fromkeys(contents))  # the rollouts of a group often agree
        self._failures = 0
        with ThreadPoolExecutor(self.concurrency) as pool:
            results = list(pool.map(lambda content: self._number_or_error(system, content, read), different))
        errors = [(content, r) for content, r in zip(different, results, strict=True) if isinstance(r, JudgeError)]
        if errors:
            content, error = errors[0]
            raise JudgeError(
                f"{error}; asked: {content[:300]} ({len(errors)} of {len(different)} have no number, the others are "
                "kept: mend the judge and run again)"
            ) from error
        numbers = dict(zip(different, results, strict=True))
        return [numbers[content] for content in contents]

    def _number_or_error(self, system: str, content: str, read: Callable[[str], float | None]) -> float | JudgeError:
        key = self._key(system, content)
        if key in self.cache:
            return self.cache[key]
        if self._failures >= self.concurrency:
            return JudgeError(f"the judge {self.model} at {self.url} failed {self._failures} times in a row")
        try:
            number = self._request(system, content, read)
        except JudgeError as error:
            return error
        self.cache[key] = number
        return number

    def _key(self, system: str, content: str) -> str:
        asked = json.dumps([PROMPT_VERSION, self.url, self.model, system, content])
        return hashlib.sha256(asked.encode()).hexdigest()

    def _request(self, system: str, content: str, read: Callable[[str], float | None]) -> float:
        messages = [{"role": "system", "content": system}, {"role": "user", "content": content}]
        for _ in range(2):
            reply = self._complete(messages)
            number = read(reply)
            if number is not None:
                return number
            again = "Reply again. The last line is the number and nothing else."
            messages += [{"role": "assistant", "content": reply}, {"role": "user", "content": again}]
        raise JudgeError(
            f"the judge {self.model} at {self.url} replies {reply[-200:]!r}, which does not end in a number it may give"
        )

    def _complete(self, messages: list[dict[str, str]]) -> str:
        """The reply's text; empty where it was cut off, since what it would have said is unknown."""
        try:
            choice = self.remote.complete(messages, "answers", temperature=0, max_tokens=MAX_TOKENS)
        except EndpointError as error:
            with self._lock:
                self._failures += 1
            raise JudgeError(self._failed(error, "see MEDSCOPE_JUDGE_URL and its log")) from error
        with self._lock:
            self._failures = 0
        return "" if choice.finish_reason == "length" else choice.message.content or ""

    def _failed(self, error: EndpointError, fix: str) -> str:
        cause = error.__cause__
        status = f" (HTTP {cause.status_code})" if isinstance(cause, APIStatusError) else ""
        reason = " ".join(str(cause if isinstance(cause, OpenAIError) else error).split())[:200]
        return f"the judge {self.model} at {self.url} is unreachable{status}: {reason}; {fix}"


def last_line(reply: str) -> str:
    """The last line of a reply that is not blank, without what a reasoning model thinks before; "" if there is none."""
    text = _THOUGHT.sub("", reply).rpartition("</think>")[2]  # some chat templates open the thought in the prompt
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines and "<think>" not in text else ""
