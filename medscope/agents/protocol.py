"""What an agent is, and the loop that lets any agent act in an environment: it sees messages and returns its next turn.

A scripted teacher, a model behind an endpoint and a person implement `Agent`. The local policy acts by
`medscope.agents.rollout.generate`, which plays many of these episodes at once with the same limits.
"""

from typing import Any, Protocol

from medscope.environment.environment import ClinicalVideoEnvironment, skim, step
from medscope.environment.prompts import opening
from medscope.environment.tools import ToolBudget
from medscope.records import Task, Trajectory


class Agent(Protocol):
    """Anything that continues a dialogue."""

    def next_turn(self, messages: list[dict[str, Any]]) -> str:
        """The assistant's next turn: thoughts, then one tool call or the answer (see `environment.grammar`).

        `messages` is the dialogue so far in the chat form: system, user (frames as PIL images, and the question), then
        assistant (text) and tool (frames or an error text) in turn.
        """


def may_call(turns: int, budget: ToolBudget) -> bool:
    """Whether a call in turn number `turns` (from 1) is handed to the environment.

    The environment refuses the call after `max_calls` with the advice to answer. The turn after that is the last.
    """
    return turns <= budget.max_calls + 1


def run_episode(agent: Agent, task: Task, environment: ClinicalVideoEnvironment, tools: bool = True) -> Trajectory:
    """Let the agent answer one task, and return its turns with the calls that were executed or refused.

    The environment is reset to the task's video and opens with the skim and the question. The episode ends with the
    first turn that makes no call, or at the limit of `may_call`. Without `tools` it ends after one turn. Raises
    `VideoError` when the video cannot be read.
    """
    environment.reset(path=task.path)
    messages = opening(task.question, skim(environment), tools)
    turns: list[str] = []
    while True:
        turns.append(agent.next_turn(list(messages)))
        response = step(environment, turns[-1]) if tools and may_call(len(turns), environment.budget) else None
        if response is None:
            return Trajectory(task, tuple(turns), tuple(environment.trace.calls), tools)
        messages += [{"role": "assistant", "content": turns[-1]}, {"role": "tool", "content": response}]
