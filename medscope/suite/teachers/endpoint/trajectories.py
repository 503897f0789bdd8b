"""Step 7: the model answers a task by looking with the tools, coarse to fine, in the environment that students act in.

Challenging tasks are answered with tools, easy ones from the skim in text. Kept are trajectories whose format, answer
and window pass (`suite.trajectories.faults`), which say what they think, and which take 2 to 5 rounds.
"""

import asyncio
import re
from collections.abc import Mapping
from typing import Any

from pydantic.dataclasses import dataclass

from medscope.agents.endpoint_agent import EndpointAgent
from medscope.agents.protocol import Agent, run_episode
from medscope.environment import ClinicalVideoEnvironment, FrameStore, ToolBudget, VideoError
from medscope.environment.grammar import parse_answer
from medscope.records import Task, Trajectory
from medscope.remote import EndpointError
from medscope.suite.bulk import Rejected
from medscope.suite.teachers.endpoint.answers import RIGHT, Grader
from medscope.suite.teachers.endpoint.checks import counted
from medscope.suite.teachers.endpoint.prompts import Prompt, load_prompt
from medscope.suite.teachers.endpoint.structured import BadReply, StructuredModel, content_key, is_fault_of_item
from medscope.suite.trajectories import faults

ROUNDS = (2, 5)  # turns of a trajectory with tools: one to four calls, then the answer

_NO_THOUGHT = re.compile(r"<think>\s*</think>")


@dataclass(frozen=True)
class TeachingTask:
    """A task to be answered, and the hash of its video. `tools`: by looking with them, else from the skim."""

    task: Task
    sha256: str
    tools: bool


class GuidedAgent:
    """An agent that is told how to work. The guidance stands before the question and is not part of the trajectory."""

    def __init__(self, agent: Agent, guidance: Prompt):
        self.agent, self.guidance = agent, guidance

    def next_turn(self, messages: list[dict[str, Any]]) -> str:
        system, user, *rest = messages
        *frames, question = user["content"]
        guidance = {"type": "text", "text": f"\n{self.guidance.text}\n"}
        return self.agent.next_turn([system, {**user, "content": [*frames, guidance, question]}, *rest])


class TrajectoryStep:
    """TeachingTask -> Trajectory. `budget` is that of the students' environment; `request` is for `EndpointAgent`."""

    name = "trajectories"

    def __init__(
        self,
        model: StructuredModel,
        store: FrameStore,
        budget: ToolBudget,
        request: Mapping[str, Any] | None = None,
    ):
        self.model, self.store, self.budget, self.grader = model, store, budget, Grader(model)
        self.request = {"max_tokens": model.max_tokens, **(request or {}), **model.request}
        self.agent = EndpointAgent(
            model.remote, budget, "native", model.encode.max_bytes, model.temperature, self.request
        )
        self.prompts = {True: load_prompt("tools"), False: load_prompt("direct")}

    def key(self, asked: TeachingTask) -> str:
        task = (asked.task.id, asked.task.question, repr(asked.task.reference), repr(asked.task.evidence))
        prompt = self.prompts[asked.tools].hash
        return content_key(
            self.name,
            asked.sha256,
            task,
            asked.tools,
            repr(self.budget),
            prompt,
            self.request,
            self.grader.identity,
        )

    async def __call__(self, asked: TeachingTask) -> Trajectory | Rejected:
        try:
            trajectory = await asyncio.to_thread(self.play, asked)
            reasons = await self.reasons(trajectory)
        except VideoError as error:
            return Rejected(f"the video cannot be read: {error}")
        except BadReply as error:
            return Rejected(str(error))
        except EndpointError as error:
            if not is_fault_of_item(error):
                raise
            return Rejected(f"no turn could be used after {len(error.turns)} turns: {error}")
        return Rejected(counted(reasons)) if reasons else trajectory

    def play(self, asked: TeachingTask) -> Trajectory:
        """One episode in an environment of its own. Raises `EndpointError` and `VideoError`."""
        agent = GuidedAgent(self.agent, self.prompts[asked.tools])
        environment = ClinicalVideoEnvironment(self.store, self.budget)
        return run_episode(agent, asked.task, environment, asked.tools)

    async def reasons(self, trajectory: Trajectory) -> list[str]:
        """The reasons to reject a trajectory. Free text is right by its grade, since its words are never the same."""
        found = faults(trajectory)
        task, turns = trajectory.task, trajectory.turns
        if task.free_text and "answer" in found and await self.grader.score(task, parse_answer(turns[-1])) >= RIGHT:
            found.remove("answer")
        if trajectory.tools and not ROUNDS[0] <= len(turns) <= ROUNDS[1]:
            found.append("rounds")
        if any(_NO_THOUGHT.search(turn) for turn in turns):
            found.append("no thought")
        return found
