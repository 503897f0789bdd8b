"""One question to one video while it is answered: what was said and called so far, and what it has cost."""

import re
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic_core import from_json, to_json

from medscope.agents.endpoint_agent import EndpointAgent
from medscope.agents.protocol import Agent, run_episode
from medscope.environment import ClinicalVideoEnvironment, FrameStore, ToolBudget
from medscope.environment.grammar import parse_answer
from medscope.records import Task, Text, Timestamp, ToolCall, Trajectory, Window

if TYPE_CHECKING:  # an endpoint is asked without torch's models
    from medscope.agents.policy import Policy

MOST_CHARACTERS = 4000  # of a question
_THOUGHT = re.compile(r"<think>(.*?)</think>", re.DOTALL)


@dataclass
class Session:
    """One question while it is answered: the turns and calls so far, which outlive a failure."""

    task: Task
    environment: ClinicalVideoEnvironment
    turns: list[str] = field(default_factory=list)
    confidence: float | None = None  # the local policy's probability of its answer
    cost: dict[str, Any] = field(default_factory=dict)

    @property
    def trajectory(self) -> Trajectory:
        return Trajectory(self.task, tuple(self.turns), tuple(self.environment.trace.calls))

    @property
    def answer(self) -> str | None:
        return parse_answer(self.turns[-1]) if self.turns else None

    def record(self) -> dict[str, Any]:
        """What `--json` prints."""
        calls = self.environment.trace.calls
        return {
            "answer": self.answer,
            "calls": [call_record(call) for call in calls],
            "windows": [window_of(call) for call in calls if call.executed],
            "thoughts": thoughts(self.turns),
            "cost": self.cost,
        }


class Recording:
    """An agent that keeps the turns of another one in a session, and shows them as they come."""

    def __init__(self, agent: Agent, session: Session):
        self.agent, self.session = agent, session

    def next_turn(self, messages: list[dict[str, Any]]) -> str:
        turn = self.agent.next_turn(messages)
        self.session.turns.append(turn)
        print(printable(f"turn {len(self.session.turns)}: {thoughts([turn])[0][:200]}"), file=sys.stderr)
        return turn


def thoughts(turns: Sequence[str]) -> list[str]:
    """What was thought in every turn, in order; "" for a turn without a thought."""
    return [" ".join(part.strip() for part in _THOUGHT.findall(turn)) for turn in turns]


def cost_facts(session: Session) -> dict[str, str]:
    """What an answer has cost, and the policy's confidence in it, as text."""
    facts = {
        name: f"{value:.4g}" if isinstance(value, float) else str(value)
        for name, value in session.cost.items()
        if value is not None
    }
    return facts | ({} if session.confidence is None else {"confidence": f"{session.confidence:.2f}"})


def call_record(call: ToolCall) -> dict[str, Any]:
    """A call for JSON: what it looked at, in seconds; null for one that was refused, with the reason in `message`."""
    looked = [call.looked.start, call.looked.end] if isinstance(call.looked, Window) else None
    looked = call.looked.time if isinstance(call.looked, Timestamp) else looked
    return {
        "name": call.name,
        "arguments": from_json(to_json(call.arguments, inf_nan_mode="strings")),  # JSON knows no NaN
        "looked": looked,
        "seconds": list(call.seconds),
        "message": call.message,
    }


def window_of(call: ToolCall) -> list[float]:
    """The stretch that an executed call showed: the window of a crop, or from the first of its frames to the last."""
    if isinstance(call.looked, Window):
        return [call.looked.start, call.looked.end]
    return [min(call.seconds), max(call.seconds)]


def open_session(video: str, question: str, store: FrameStore, budget: ToolBudget) -> Session:
    """A question to a video, checked. Raises ValueError for a question that is none, VideoError for the file."""
    if not question.strip():
        raise ValueError("the question is empty")
    if len(question) > MOST_CHARACTERS:
        raise ValueError(f"the question has {len(question)} characters; ask one of at most {MOST_CHARACTERS}")
    for what, text in (("question", question), ("name of the video", video)):
        try:
            text.encode()
        except UnicodeEncodeError:
            raise ValueError(f"the {what} is not valid text (UTF-8)") from None
    opened = store.video(video)
    task = Task("ask", Path(video).name, video, question, Text(""), Window(0, opened.duration), "ask", "eval", "")
    environment = ClinicalVideoEnvironment(store, budget)
    environment.reset(path=video)
    return Session(task, environment)


def ask_policy(session: Session, policy: "Policy") -> None:
    """Let a local policy answer, greedily. Raises ValueError for a prompt that exceeds its context."""
    from medscope.agents.rollout import generate
    from medscope.evaluation.predict import confidence

    started = time.perf_counter()
    rollout = generate(policy, [session.task], [session.environment])[0]
    session.turns += rollout.turns
    session.confidence = confidence(policy, rollout)
    session.cost = {
        "seconds": round(time.perf_counter() - started, 2),
        "prompt_tokens": len(rollout.prompt.ids),
        "completion_tokens": sum(rollout.assistant_mask),
        "frames": len(rollout.prompt.images) + len(rollout.images),
        "dollars": None,
    }


def ask_endpoint(session: Session, agent: EndpointAgent) -> None:
    """Let a model behind an endpoint answer. Raises EndpointError; the turns so far stay in the session.

    The cost is that of this question, also where the agent has answered others before.
    """
    started, remote = time.perf_counter(), agent.remote
    before, dollars = asdict(remote.usage), remote.dollars
    try:
        run_episode(Recording(agent, session), session.task, session.environment)
    finally:
        seconds = round(time.perf_counter() - started, 2)
        used = {name: value - before[name] for name, value in asdict(remote.usage).items()}
        spent = None if dollars is None else remote.dollars - dollars
        session.cost = {"seconds": seconds, **used, "dollars": spent}


def printable(text: str) -> str:
    """Text from outside for a terminal: control characters, which could move the cursor or hide lines, as escapes."""
    return "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in text)
