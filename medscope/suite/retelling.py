"""The trajectories of stage II told in another way, for baselines that are trained alike: same questions, same answers.

`tools`: as they are. `text_cot`: the first thought, then the answer, no tools. `answer_only`: the answer alone, no
thought, no tools. `random_window`: the calls look at a window of the same length anywhere in the video.
"""

import re
from dataclasses import replace

import numpy as np

from medscope.environment.dialogue import call_text, find_tool_call, parse_answer, parse_tool_call
from medscope.records import Trajectory
from medscope.suite.build import Suite

TELLINGS = ("tools", "text_cot", "answer_only", "random_window")
WITH_TOOLS = ("tools", "random_window")
_CALL = re.compile(r"<tool_call>.*</tool_call>", re.DOTALL)


def retold(trajectory: Trajectory, telling: str, duration: float, rng: np.random.Generator) -> Trajectory:
    """One trajectory in another telling; `duration` (s) is that of its video. Raises ValueError for an unknown one."""
    answer = f"<answer>{parse_answer(trajectory.turns[-1])}</answer>"
    thought = trajectory.turns[0].partition("</think>")[0].replace("| look", "| answer") + "</think>"
    if telling == "tools":
        return trajectory
    if telling == "text_cot":
        return Trajectory(trajectory.question, (thought + answer,), tools=False)
    if telling == "answer_only":
        return Trajectory(trajectory.question, (f"<think></think>{answer}",), tools=False)
    if telling == "random_window":
        return replace(trajectory, turns=tuple(_elsewhere(turn, duration, rng) for turn in trajectory.turns), calls=())
    raise ValueError(f"trajectories {telling!r} is unknown; choose one of {', '.join(TELLINGS)}")


def _elsewhere(turn: str, duration: float, rng: np.random.Generator) -> str:
    """The turn with its call, if it makes one, moved to another place in the video (whole seconds)."""
    call = find_tool_call(turn)
    if call is None:
        return turn
    name, arguments = parse_tool_call(call)
    if name == "get_frame":
        return _CALL.sub(call_text(name, {"timestamp": int(rng.integers(0, int(duration)))}), turn)
    length = arguments["end_time"] - arguments["start_time"]
    start = int(rng.integers(0, max(0, int(duration - length)) + 1))
    return _CALL.sub(call_text(name, {"start_time": start, "end_time": start + length}), turn)


def retold_suite(suite: Suite, telling: str, seed: int) -> Suite:
    """The suite with every trajectory in another telling."""
    rng = np.random.default_rng([seed, 9])
    told = [retold(t, telling, suite.recording(t).duration, rng) for t in suite.trajectories]
    return replace(suite, trajectories=told)
