"""verl's `compute_score`: our reward of a dialogue from its turns and the calls that were executed, never from text."""

from typing import Any

from pydantic import TypeAdapter

from medscope.environment import Trace
from medscope.environment.grammar import parse_answer
from medscope.evaluation.judge import exact
from medscope.exports.verl.agent_loop import LOOP, TURNS
from medscope.exports.verl.tools import FAILURE, recorded_calls
from medscope.records import Task
from medscope.rewards import RewardSettings, reward

_TASK = TypeAdapter(Task)


def compute_score(
    data_source: str, solution_str: str, ground_truth: str, extra_info: dict[str, Any], **settings: Any
) -> dict[str, float]:
    """The reward as `score`, with its terms, the fidelity `evidence` and whether a tool was used (1 or 0).

    `extra_info` holds the row's task and what the agent loop recorded (verl's `tool_extra_fields`). `settings` are
    those of `RewardSettings` (`reward.custom_reward_function.reward_kwargs`). The judge is `exact`. Raises ValueError
    for a dialogue of another agent loop, RuntimeError where a tool failed: verl then counts the group as failed.
    """
    if FAILURE in extra_info:
        raise RuntimeError(f"a tool failed, so that this dialogue has no reward: {extra_info[FAILURE]}")
    if TURNS not in extra_info:
        raise ValueError(
            f"the dialogue has no recorded turns; set actor_rollout_ref.rollout.agent.default_agent_loop={LOOP}"
        )
    task = _TASK.validate_json(extra_info["task"])
    turns, trace = list(extra_info[TURNS]), Trace(recorded_calls(extra_info))
    [accuracy] = exact([(task.question, parse_answer(turns[-1]), task.reference)])
    terms = reward(turns, accuracy, trace.window, trace.timestamp, task.evidence, RewardSettings(**settings))
    return {
        "score": terms.total,
        "acc": terms.accuracy,
        "format": terms.format,
        "crop": terms.crop,
        "frame": terms.frame,
        "evidence": terms.evidence,
        "used_tool": float(bool(trace.executed)),
    }
