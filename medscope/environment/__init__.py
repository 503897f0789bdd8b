"""What an agent can do: a video, the tools on it, the tag grammar, and the record of executed calls."""

from medscope.environment.environment import ClinicalVideoEnvironment, Trace
from medscope.environment.frame_store import FrameStore
from medscope.environment.tools import ToolBudget, ToolError
from medscope.environment.video import VideoError, open_video

__all__ = ["ClinicalVideoEnvironment", "FrameStore", "ToolBudget", "ToolError", "Trace", "VideoError", "open_video"]
