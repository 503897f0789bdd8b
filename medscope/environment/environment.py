"""One video, one rollout: the tools that an agent may call and the record of what was really executed.

`ClinicalVideoEnvironment` is a TRL environment: `reset(**row)` binds the video, every other public method is a tool.
Rewards and metrics read `trace`, never the text: a forged `<tool_response>` earns nothing. What is no tool is a
function of this module: `skim`, `step`, `refuse_last`, `show_frames`.
"""

from dataclasses import dataclass, field, replace
from typing import Any

from medscope.environment.frame_store import FrameStore
from medscope.environment.grammar import find_tool_call, parse_tool_call
from medscope.environment.tools import (
    ToolBudget,
    ToolError,
    check_arguments,
    crop_seconds,
    crop_window,
    frame_seconds,
    skim_seconds,
)
from medscope.records import Evidence, Timestamp, ToolCall, Window

Blocks = list[dict[str, Any]]  # content of a chat message: images, the text behind them, captions in their place


@dataclass
class Trace:
    """The calls of one rollout in order, refused ones included."""

    calls: list[ToolCall] = field(default_factory=list)

    @property
    def executed(self) -> list[ToolCall]:
        """The calls that showed frames."""
        return [call for call in self.calls if call.executed]

    @property
    def last(self) -> Evidence | None:
        """What the last executed call looked at."""
        return self.executed[-1].looked if self.executed else None

    @property
    def window(self) -> Window | None:
        """The window of the last executed `crop_video`."""
        return next((call.looked for call in reversed(self.calls) if isinstance(call.looked, Window)), None)

    @property
    def timestamp(self) -> float | None:
        """The second of the last executed `get_frame`."""
        return next((call.looked.time for call in reversed(self.calls) if isinstance(call.looked, Timestamp)), None)


class ClinicalVideoEnvironment:
    """The video of one task behind two tools. The environment binds the file; the agent only names seconds.

    `budget` limits frames, pixels and calls. `trace` is what was called since the last `reset`.
    """

    def __init__(self, store: FrameStore | None = None, budget: ToolBudget | None = None):
        self.store = store or FrameStore()
        self.budget = budget or ToolBudget()
        self.trace = Trace()
        self.path = ""
        self.duration = 0.0  # seconds
        self.fps = 1.0

    def reset(self, path: str, **_: Any) -> None:
        """Bind the video file `path` (from the dataset row, never from the model) and forget the last rollout.

        Raises `VideoError` when it cannot be opened.
        """
        video = self.store.video(path)
        self.path, self.duration, self.fps = path, video.duration, video.fps
        self.trace = Trace()

    def crop_video(self, start_time: float, end_time: float) -> Blocks:
        """Look closely at a window of the video: dense frames, each followed by its second.

        Args:
            start_time: start of the window in seconds
            end_time: end of the window in seconds
        """
        return self._execute("crop_video", {"start_time": start_time, "end_time": end_time})

    def get_frame(self, timestamp: float) -> Blocks:
        """Look at the three frames nearest to one second at high resolution.

        Args:
            timestamp: the second to look at
        """
        return self._execute("get_frame", {"timestamp": timestamp})

    def _execute(self, name: str, arguments: dict[str, Any]) -> Blocks:
        """Run one call, record it, return its frames. Raises `ToolError` (recorded, not executed) if refused."""
        try:
            looked, seconds, max_pixels = self._plan(name, arguments)
            blocks = self._show(seconds, max_pixels)
        except ToolError as error:
            self._refuse(name, arguments, str(error))
            raise
        times = tuple(block["second"] for block in blocks if "second" in block)
        self.trace.calls.append(ToolCall(name, arguments, looked, times))
        return blocks

    def _refuse(self, name: str, arguments: dict[str, Any], message: str) -> None:
        """Record a refused call: it counts against `max_calls` and stands in the logs."""
        self.trace.calls.append(ToolCall(name, arguments, message=message))

    def _plan(self, name: str, arguments: dict[str, Any]) -> tuple[Evidence, list[float], int]:
        """What a call looks at, the seconds that it shows and their size. Raises `ToolError`."""
        if len(self.trace.calls) >= self.budget.max_calls:
            raise ToolError("all tool calls are used; answer now")
        given = check_arguments(name, arguments)
        if name == "crop_video":
            window = crop_window(**given, duration=self.duration, budget=self.budget)
            return window, crop_seconds(window, self.fps, self.budget), self.budget.crop_pixels
        seconds = frame_seconds(**given, duration=self.duration, fps=self.fps)
        return Timestamp(given["timestamp"]), seconds, self.budget.frame_pixels

    def _show(self, seconds: list[float], max_pixels: int) -> Blocks:
        """The frames of a call. The evidence audit overrides this to show others under the same seconds."""
        return show_frames(self.store, self.path, seconds, max_pixels)


def skim(environment: ClinicalVideoEnvironment) -> Blocks:
    """The coarse skim that opens a dialogue: frames with their seconds, then the second at which the video ends."""
    budget, duration = environment.budget, environment.duration
    frames = show_frames(
        environment.store, environment.path, skim_seconds(duration, budget.skim_frames), budget.skim_pixels
    )
    return [*frames, {"type": "text", "text": f" end {duration:g}s"}]


def step(environment: ClinicalVideoEnvironment, turn: str) -> Blocks | None:
    """Execute the tool call of an assistant's turn; None when it makes none and the dialogue is over.

    A call that is refused is answered with an error that the agent can act on. The text of the call is recorded, never
    echoed.
    """
    call = find_tool_call(turn)
    if call is None:
        return None
    try:
        name, arguments = parse_tool_call(call)
    except ToolError as error:
        environment._refuse("unreadable", {"text": call}, str(error))
        return error_blocks(str(error))
    try:
        return environment._execute(name, arguments)
    except ToolError as error:
        return error_blocks(str(error))


def refuse_last(environment: ClinicalVideoEnvironment, message: str) -> Blocks:
    """Turn the last executed call into a refused one, since its response cannot be shown; the answer to the agent."""
    call = environment.trace.calls[-1]
    environment.trace.calls[-1] = replace(call, looked=None, seconds=(), message=message)
    return error_blocks(message)


def error_blocks(message: str) -> Blocks:
    """The response to a refused call."""
    return [{"type": "text", "text": f"error: {message}"}]


def show_frames(
    store: FrameStore, path: str, seconds: list[float], max_pixels: int, time_offset: float = 0.0
) -> Blocks:
    """The frames nearest to `seconds` as message content, each followed by its actual second (plus `time_offset`).

    An image block carries its time in the video as `second`.
    """
    images, times = store.frames(path, seconds, max_pixels)
    blocks: Blocks = []
    for image, time in zip(images, times, strict=True):
        blocks += [
            {"type": "image", "image": image, "second": time},
            {"type": "text", "text": f" {time + time_offset:g}s"},
        ]
    return blocks
