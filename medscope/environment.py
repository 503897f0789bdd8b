"""One video, one rollout: the tools that the model may call and the record of what was really executed.

`ClinicalVideoEnvironment` is a TRL environment: `reset(**row)` binds the video, every other public method is a tool.
Rewards read `_calls`, `_window` and `_moment`, never the text: a forged `<tool_response>` earns nothing.
"""

from typing import Any

from medscope.records import ToolCall, Window
from medscope.tools import Limits, ToolError, check_arguments, crop_seconds, crop_window, frame_seconds, skim_seconds
from medscope.video import FrameStore

Blocks = list[dict[str, Any]]  # content of a chat message: {"type": "image", "image": PIL} and {"type": "text", ..}


class ClinicalVideoEnvironment:
    """The video of one question behind two tools. The environment binds the file; the model only names seconds."""

    def __init__(self, store: FrameStore | None = None, limits: Limits | None = None):
        self._store = store or FrameStore()
        self._limits = limits or Limits()
        self._path = ""

    def reset(self, path: str, **_: Any) -> None:
        """Bind the video file `path` (from the dataset row, never from the model) and forget the last rollout.

        Raises `VideoError` when it cannot be opened.
        """
        self._path = path
        self._duration = self._store.video(path).duration
        self._fps = self._store.video(path).fps
        self._calls: list[ToolCall] = []
        self._window: Window | None = None  # of the last executed crop_video
        self._moment: float | None = None  # of the last executed get_frame

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

    def _skim(self) -> Blocks:
        """The coarse skim that opens the dialogue: frames with their seconds, then the second at which it ends."""
        seconds = skim_seconds(self._duration, self._limits.skim_frames)
        return [*self._show(seconds, self._limits.skim_pixels), {"type": "text", "text": f" end {self._duration:g}s"}]

    def _execute(self, name: str, arguments: dict[str, Any]) -> Blocks:
        """Run one call, record it, return its frames. Raises `ToolError` (recorded, not executed) if refused."""
        try:
            blocks = self._frames(name, arguments)
        except ToolError as error:
            self._calls.append(ToolCall(name, arguments, executed=False, message=str(error)))
            raise
        self._calls.append(ToolCall(name, arguments, executed=True))
        return blocks

    def _refuse(self, text: str, error: ToolError) -> None:
        """Record a call that could not even be read, so that it counts against the limit and in the logs."""
        self._calls.append(ToolCall("unreadable", {"text": text}, executed=False, message=str(error)))

    def _frames(self, name: str, arguments: dict[str, Any]) -> Blocks:
        if len(self._calls) >= self._limits.max_calls:
            raise ToolError(f"all {self._limits.max_calls} tool calls are used; answer now")
        seconds = check_arguments(name, arguments)
        if name == "crop_video":
            window = crop_window(**seconds, duration=self._duration, limits=self._limits)
            blocks = self._show(crop_seconds(window, self._fps, self._limits), self._limits.crop_pixels)
            self._window = window
        else:
            times = frame_seconds(**seconds, duration=self._duration, fps=self._fps)
            blocks = self._show(times, self._limits.frame_pixels)
            self._moment = seconds["timestamp"]
        return blocks

    def _show(self, seconds: list[float], max_pixels: int) -> Blocks:
        return show(self._store, self._path, seconds, max_pixels)


def show(store: FrameStore, path: str, seconds: list[float], max_pixels: int, clock: float = 0.0) -> Blocks:
    """The frames nearest to `seconds` as message content, each followed by its actual second (plus `clock`)."""
    images, times = store.frames(path, seconds, max_pixels)
    blocks: Blocks = []
    for image, time in zip(images, times, strict=True):
        blocks += [{"type": "image", "image": image}, {"type": "text", "text": f" {time + clock:g}s"}]
    return blocks
