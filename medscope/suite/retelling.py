"""The trajectories of stage II told in another way, for baselines that are trained alike: same tasks, same answers.

`tools`: as they are. `text_cot`: the first thought, then the answer, no tools. `answer_only`: the answer alone, no
thought, no tools. `random_window`: the calls look at a window of the same length anywhere in the video.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np

from medscope.environment.grammar import call_text, find_tool_call, parse_answer, parse_tool_call
from medscope.records import Trajectory

TELLINGS = ("tools", "text_cot", "answer_only", "random_window")
WITH_TOOLS = ("tools", "random_window")
_CALL = re.compile(r"<tool_call>.*</tool_call>", re.DOTALL)


def retell(
    trajectories: Iterable[Trajectory], telling: str, durations: Mapping[str, float], seed: int
) -> list[Trajectory]:
    """Every trajectory in another telling. `durations`: seconds by video. Raises ValueError for an unknown telling."""
    if telling not in TELLINGS:
        raise ValueError(f"trajectories {telling!r} is unknown; choose one of {', '.join(TELLINGS)}")
    rng = np.random.default_rng([seed, 9])
    return [_retold(trajectory, telling, durations[trajectory.task.video], rng) for trajectory in trajectories]


def _retold(trajectory: Trajectory, telling: str, duration: float, rng: np.random.Generator) -> Trajectory:
    answer = f"<answer>{parse_answer(trajectory.turns[-1])}</answer>"
    if telling == "text_cot":
        thought = trajectory.turns[0].partition("</think>")[0].replace("| look", "| answer") + "</think>"
        return Trajectory(trajectory.task, (thought + answer,), tools=False)
    if telling == "answer_only":
        return Trajectory(trajectory.task, (f"<think></think>{answer}",), tools=False)
    if telling == "random_window":
        return replace(trajectory, turns=tuple(_elsewhere(turn, duration, rng) for turn in trajectory.turns))
    return trajectory


def _elsewhere(turn: str, duration: float, rng: np.random.Generator) -> str:
    """The turn with its call, if it makes one, moved to another place in the video (whole seconds)."""
    call = find_tool_call(turn)
    if call is None:
        return turn
    name, arguments = parse_tool_call(call)
    if name == "get_frame":
        moved = call_text(name, {"timestamp": int(rng.integers(0, int(duration)))})
    else:
        length = arguments["end_time"] - arguments["start_time"]
        start = int(rng.integers(0, max(0, int(duration - length)) + 1))
        moved = call_text(name, {"start_time": start, "end_time": start + length})
    return _CALL.sub(lambda _: moved, turn)
