"""Let a model behind an endpoint answer tasks: several at once, each reply paid once, none scored that cannot be read.

What was said is kept in `.cache/answers`, or where MEDSCOPE_ANSWERS_CACHE says, under all that decides it: a run that
is stopped goes on where it was, and a second run asks nothing. Verdicts are the judge's and are not kept here.
"""

import asyncio
import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from PIL import Image
from pydantic import TypeAdapter
from pydantic.dataclasses import dataclass

from medscope.agents.endpoint_agent import FRAME_BYTES, EndpointAgent
from medscope.agents.protocol import run_episode
from medscope.environment import ClinicalVideoEnvironment, FrameStore, ToolBudget, VideoError
from medscope.environment.grammar import parse_answer
from medscope.environment.prompts import TOOLS, opening
from medscope.evaluation.judge import Judge, exact
from medscope.evaluation.predictions import Prediction
from medscope.evaluation.quarantine import Quarantined
from medscope.records import Task, ToolCall
from medscope.remote import LATER, DialogueFailed, EndpointError, RemoteModel, Usage, is_fault_of_item
from medscope.suite.bulk import StepStopped, run_step
from medscope.suite.bulk.shards import read_lines

STOP_AFTER = 5  # failures in a row that stop the run
VERSION = 1  # raise it when a change of code makes the same model say something else: it is part of the key
PROBE = "This is a test of the connection. Reply with <answer>yes</answer>."


@dataclass(frozen=True)
class Answer:
    """What a model said to one task. `reason` says why its last reply cannot be used; "" for an answer."""

    turns: tuple[str, ...]
    calls: tuple[ToolCall, ...]
    reason: str
    usage: Usage
    seconds: float  # from the first request to the last reply


class EndpointSystem:
    """A model behind an endpoint as a system of the benchmark.

    `in_flight` tasks are asked at once. `request` changes what is asked of the API (see `EndpointAgent`). After
    `predict`, `quarantined` and `usage` hold what it left out and what its answers have cost, in whichever run.
    """

    def __init__(
        self,
        remote: RemoteModel,
        store: FrameStore,
        budget: ToolBudget,
        *,
        calls: Literal["native", "tags"] = "native",
        temperature: float = 0.0,
        request: Mapping[str, Any] | None = None,
        in_flight: int = 4,
        judge: Judge = exact,
        answers: str | Path | None = None,
    ):
        self.remote, self.store, self.budget, self.calls = remote, store, budget, calls
        self.temperature, self.request, self.in_flight, self.judge = temperature, dict(request or {}), in_flight, judge
        self.folder = Path(answers or os.environ.get("MEDSCOPE_ANSWERS_CACHE", ".cache/answers"))
        self.agent(remote)  # a wrong setting is an error now
        self.quarantined: list[Quarantined] = []
        self.usage, self.seconds = Usage(), 0.0
        self._sha256 = cache(_sha256)

    def agent(self, remote: RemoteModel) -> EndpointAgent:
        """An agent for one dialogue: two dialogues share no calls."""
        return EndpointAgent(remote, self.budget, self.calls, FRAME_BYTES, self.temperature, self.request)

    def predict(
        self,
        tasks: Sequence[Task],
        system: str,
        tools: bool = True,
        environment: Callable[[Task], ClinicalVideoEnvironment] | None = None,
    ) -> list[Prediction]:
        """The predictions in the order of the tasks, without those in quarantine.

        Raises `EndpointError` where the endpoint does not take a first tiny request, `StepStopped` where it fails in
        the middle or a video cannot be read (what was said is kept: the same call goes on), `JudgeError`, and
        `VideoError` where a video is not there.
        """
        step = _Answering(self, system, tools, environment)
        keys = [step.key(task) for task in tasks]
        known = step.read(keys)
        if len(known) < len(set(keys)):
            self.check(tools)
            report = _in_a_thread(run_step(step, tasks, self.folder, self.in_flight, STOP_AFTER, usage=step.spent))
            if report.failed:
                raise StepStopped(
                    f"{system}: {report.failed} tasks have no answer ({next(iter(report.failures))}), the others are "
                    f"kept in {self.folder / step.name}: run the same command again",
                    report,
                )
            known = step.read(keys)
        answers = [known[key] for key in keys]
        for answer in answers:
            self.usage.add(answer.usage)
            self.seconds += answer.seconds
        pairs = list(zip(tasks, answers, strict=True))
        self.quarantined += [Quarantined(t, system, a.turns, a.calls, a.reason) for t, a in pairs if a.reason]
        return self._judged([(task, answer) for task, answer in pairs if not answer.reason], system)

    def _judged(self, pairs: Sequence[tuple[Task, Answer]], system: str) -> list[Prediction]:
        said = [(task.question, parse_answer(answer.turns[-1]), task.reference) for task, answer in pairs]
        return [
            Prediction(
                task=task,
                system=system,
                turns=answer.turns,
                calls=answer.calls,
                accuracy=verdict,
                tokens=answer.usage.completion_tokens,
                tool_frames=sum(len(call.seconds) for call in answer.calls),
            )
            for (task, answer), verdict in zip(pairs, self.judge(said), strict=True)
        ]

    def check(self, tools: bool = True) -> None:
        """One request with a grey frame and the fields of every other. Raises `EndpointError` of one line.

        A wrong URL, name, key or field is an error here, and not a quarantine of every task.
        """
        grey = [{"type": "image", "image": Image.new("RGB", (56, 56), (128, 128, 128))}]
        try:
            self.agent(self.remote.metered()).next_turn(opening(PROBE, grey, tools))
        except EndpointError as error:
            if isinstance(error, DialogueFailed) or getattr(error.__cause__, "status_code", None) == LATER:
                return  # it is there; whether it can answer, and when, the tasks will tell
            raise

    @property
    def described(self) -> dict[str, Any]:
        """What the protocol tells of the system."""
        return {
            "model": self.remote.model,
            "endpoint": urlsplit(self.remote.url).hostname,
            "calls": self.calls,
            "frame_bytes": FRAME_BYTES,
            "request": self.request,
            "quarantined": len(self.quarantined),  # of all tasks, those of audit and free text among them
        }

    @property
    def cost(self) -> dict[str, Any]:
        """Requests, tokens, frames and bytes of all answers, the seconds of their dialogues, dollars where known."""
        return {**asdict(self.usage), "seconds": round(self.seconds, 1), "dollars": self.remote.price(self.usage)}


class _Answering:
    """Task -> Answer, as a step of `suite.bulk`: that runner keeps, resumes, waits and stops."""

    def __init__(
        self,
        system: EndpointSystem,
        name: str,
        tools: bool,
        environment: Callable[[Task], ClinicalVideoEnvironment] | None,
    ):
        self.system, self.tools = system, tools
        self.name = re.sub(r"[^A-Za-z0-9_-]", "_", name)
        self.environment = environment or (lambda _: ClinicalVideoEnvironment(system.store, system.budget))
        self.spent = Usage()  # of this run, for its progress bar
        self._settings = [
            VERSION, name, opening("", [], tools), TOOLS, repr(system.budget), system.store.decoder,
            system.remote.model, system.calls, system.temperature, system.request, FRAME_BYTES,
        ]  # fmt: skip

    def key(self, task: Task) -> str:
        shows = getattr(self.environment(task), "shows", "")  # of an environment that shows other frames
        asked = json.dumps([self._settings, task.id, task.question, self.system._sha256(task.path), shows])
        return hashlib.sha256(asked.encode()).hexdigest()

    async def __call__(self, task: Task) -> Answer:
        answer = await asyncio.to_thread(self.answer, task)
        self.spent.add(answer.usage)  # in the event loop: no other thread writes it
        return answer

    def answer(self, task: Task) -> Answer:
        """One episode. Raises `EndpointError` for an outage, `VideoError`."""
        remote, environment, reason = self.system.remote.metered(), self.environment(task), ""
        started = time.monotonic()
        try:
            turns = run_episode(self.system.agent(remote), task, environment, self.tools).turns
        except EndpointError as error:
            if not is_fault_of_item(error):
                raise
            turns, reason = error.turns, str(error)
        calls = tuple(environment.trace.calls)
        return Answer(turns, calls, reason, remote.usage, round(time.monotonic() - started, 3))

    def read(self, keys: Sequence[str]) -> dict[str, Answer]:
        """The answers that are there."""
        wanted, adapter = set(keys), TypeAdapter(Answer)
        lines = read_lines(self.system.folder, self.name)
        return {line["key"]: adapter.validate_python(line["kept"]) for line in lines if line["key"] in wanted}


def _sha256(path: str) -> str:
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise VideoError(f"{path}: {error.strerror}") from None


def _in_a_thread(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """The result of a coroutine. A notebook has a running event loop of its own, so this one runs in a thread.

    Ctrl-C cancels it: the dialogues in flight end, no other begins.
    """

    async def cancellable() -> Any:
        started.append((asyncio.get_running_loop(), asyncio.current_task()))
        return await coroutine

    started: list[tuple[asyncio.AbstractEventLoop, asyncio.Task]] = []
    with ThreadPoolExecutor(1) as thread:
        future = thread.submit(asyncio.run, cancellable())
        try:
            return future.result()
        except BaseException:
            if started and not future.done():
                loop, task = started[0]
                loop.call_soon_threadsafe(task.cancel)
            raise
