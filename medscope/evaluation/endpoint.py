"""A language model behind an OpenAI-compatible endpoint, asked for one number at temperature 0.

MEDSCOPE_JUDGE_URL and MEDSCOPE_JUDGE_MODEL say where, MEDSCOPE_JUDGE_KEY with which key. Every number is kept on disk
under what was asked of whom, so that a rerun costs nothing; an outage is an error, never a number.
"""

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from diskcache import Cache
from openai import OpenAI, OpenAIError


class JudgeError(RuntimeError):
    """The endpoint cannot be reached, is not configured, or does not reply with a number."""


class Endpoint:
    """Asks `concurrency` at a time; waits and asks again on 408, 409, 429, 5xx, timeouts and lost connections."""

    def __init__(
        self, cache: str | Path = "scratch/judge", concurrency: int = 8, retries: int = 6, timeout: float = 60.0
    ):
        missing = [name for name in ("MEDSCOPE_JUDGE_URL", "MEDSCOPE_JUDGE_MODEL") if not os.environ.get(name)]
        if missing:
            raise JudgeError(f"the llm judge needs {' and '.join(missing)} in the environment")
        self.url, self.model = os.environ["MEDSCOPE_JUDGE_URL"], os.environ["MEDSCOPE_JUDGE_MODEL"]
        key = os.environ.get("MEDSCOPE_JUDGE_KEY", "none")
        self.client = OpenAI(base_url=self.url, api_key=key, max_retries=retries, timeout=timeout)
        self.cache, self.concurrency = Cache(str(cache)), concurrency

    def ask(self, system: str, contents: Sequence[str], read: Callable[[str], float | None]) -> list[float]:
        """A number for every content. `read` finds it in a reply, or returns None. Raises `JudgeError`."""
        different = list(dict.fromkeys(contents))  # the rollouts of a group often agree
        with ThreadPoolExecutor(self.concurrency) as pool:
            numbers = pool.map(lambda content: self._number(system, content, read), different)
            found = dict(zip(different, numbers, strict=True))
        return [found[content] for content in contents]

    def _number(self, system: str, content: str, read: Callable[[str], float | None]) -> float:
        asked = json.dumps([self.url, self.model, system, content])
        key = hashlib.sha256(asked.encode()).hexdigest()
        if key not in self.cache:
            self.cache[key] = self._request(system, content, read)
        return self.cache[key]

    def _request(self, system: str, content: str, read: Callable[[str], float | None]) -> float:
        messages = [{"role": "system", "content": system}, {"role": "user", "content": content}]
        for _ in range(2):
            try:
                reply = self.client.chat.completions.create(
                    model=self.model, messages=messages, temperature=0, max_tokens=8
                )
            except OpenAIError as error:
                raise JudgeError(f"the judge {self.model} at {self.url} is unreachable: {error}") from error
            said = reply.choices[0].message.content or ""
            number = read(said)
            if number is not None:
                return number
            messages += [{"role": "assistant", "content": said}, {"role": "user", "content": "Only the number."}]
        raise JudgeError(f"the judge {self.model} at {self.url} replies {said!r}, which is not a number it may give")
