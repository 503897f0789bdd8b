"""The two tools as pure functions of seconds: which frames a call shows, within which budget.

An argument that cannot be used raises `ToolError` with a sentence that the model reads and can act on. The sentence
never repeats the model's own text.
"""

import math
import sys
from typing import Any

from pydantic import PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass

from medscope.records import Window

ARGUMENTS = {"crop_video": ("start_time", "end_time"), "get_frame": ("timestamp",)}
EARLY = 0.01  # steps; without it, float noise at a tie between two frames shows one of them twice


class ToolError(ValueError):
    """A tool call that is refused; the message goes back to the model."""


@dataclass(frozen=True)
class ToolBudget:
    """Frames and pixels a rollout may spend. Defaults: the paper's; the tiny profile sets its own in params.yaml."""

    max_calls: PositiveInt = 5
    max_turn_tokens: PositiveInt = 1024  # the model may say in one turn
    skim_frames: PositiveInt = 512  # at most 1 frame a second
    skim_pixels: PositiveInt = 50_176
    crop_frames: PositiveInt = 128
    crop_pixels: PositiveInt = 50_176
    frame_pixels: PositiveInt = 200_704
    min_window: PositiveFloat = 1.0  # seconds; a shorter window is refused
    context_tokens: PositiveInt = 32_768  # of the whole dialogue; a response that would not fit is refused


def skim_seconds(duration: float, skim_frames: int) -> list[int]:
    """Whole seconds of the coarse skim: evenly spread from 0, at most one a second, at most `skim_frames`."""
    count = max(1, min(skim_frames, int(duration)))
    return [round(i * duration / count) for i in range(count)]


def check_arguments(name: str, arguments: dict[str, Any]) -> dict[str, float]:
    """Exactly the tool's arguments as finite, non-negative seconds. Nothing else, least of all a file path."""
    if name not in ARGUMENTS:
        raise ToolError(f"there is no such tool; the tools are {' and '.join(ARGUMENTS)}")
    expected = ARGUMENTS[name]
    for key in arguments:
        if key not in expected:
            hint = "; the video is fixed, a tool call never names a file" if _names_file(key, arguments[key]) else ""
            raise ToolError(f"{name} takes {' and '.join(expected)} and nothing else{hint}")
    return {key: _second(name, key, arguments.get(key)) for key in expected}


def _names_file(key: str, value: Any) -> bool:
    return any(word in key.lower() for word in ("path", "file", "video")) or (isinstance(value, str) and "/" in value)


def _second(name: str, key: str, value: Any) -> float:
    if value is None:
        raise ToolError(f"{name} needs {key} in seconds")
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= sys.float_info.max:
        raise ToolError(f"{name} needs {key} as a number of seconds from 0")
    return float(value)


def crop_window(start_time: float, end_time: float, duration: float, budget: ToolBudget) -> Window:
    """The window of a `crop_video` call, its end cut to the video's. Raises `ToolError` when it is not one."""
    if end_time < start_time:
        raise ToolError(f"end_time {end_time:g} is before start_time {start_time:g}; swap them")
    if start_time >= duration:
        raise ToolError(f"start_time {start_time:g} is past the end of the video at {duration:g} s")
    window = Window(start_time, min(end_time, duration))
    if window.length < min(budget.min_window, duration):
        raise ToolError(f"the window is {window.length:g} s long; crop at least {budget.min_window:g} s")
    return window


def crop_seconds(window: Window, fps: float, budget: ToolBudget) -> list[float]:
    """Seconds shown by a crop: evenly spread over the window, no denser than the file, at most `crop_frames`.

    Where they are two seconds or more apart they are whole seconds, so that their labels are short.
    """
    count = max(1, min(budget.crop_frames, math.floor(window.length * fps + 1e-3)))
    step = window.length / count
    seconds = [window.start + (i + 0.5) * step for i in range(count)]
    return [float(math.floor(s)) if step >= 2 else s - EARLY * step for s in seconds]


def frame_seconds(timestamp: float, duration: float, fps: float) -> list[float]:
    """The three neighbouring seconds shown by `get_frame`, cut to the video. Raises `ToolError` past its end."""
    if timestamp > duration:
        raise ToolError(f"timestamp {timestamp:g} is past the end of the video at {duration:g} s")
    last = max(0.0, duration - 1 / fps)
    centre = min(max(timestamp, 1 / fps), max(0.0, last - 1 / fps))
    return sorted({min(max(centre + (k - EARLY) / fps, 0.0), last) for k in (-1, 0, 1)})
