"""The tools for any assistant: `python -m medscope.mcp_server FOLDER [--port N]` serves them by the MCP (extra `mcp`).

An assistant names a video of the folder, never a path. It is served over stdio, or with `--port` over HTTP on this
machine only. What the tools return goes to whatever model the assistant runs on; see docs/ask.md.
"""

import argparse
import base64
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from medscope.agents.frames import FrameEncoder
from medscope.environment import ClinicalVideoEnvironment, FrameStore, ToolBudget, ToolError, VideoError
from medscope.environment import environment as actions
from medscope.environment.decoders import DECODERS
from medscope.environment.environment import Blocks

try:
    from mcp.server import MCPServer
    from mcp.server.mcpserver.exceptions import ToolError as RefusedCall
    from mcp_types import ContentBlock, ImageContent, TextContent
except ModuleNotFoundError as error:
    raise ModuleNotFoundError("the MCP server needs the extra mcp: pip install -e '.[mcp]'") from error

SUFFIXES = (".mp4", ".mkv", ".mov", ".avi", ".webm", ".mpg", ".mpeg", ".ts", ".m4v")
FRAME_BYTES = 65_536
BUDGET = ToolBudget(skim_frames=32, crop_frames=16)  # a reply of an assistant's tool is about 1 MB at most
MOST_NAMES = 100  # in the instructions and in an error


class VideoFolder:
    """The videos of a folder that is chosen once, by name. Subfolders and links that lead out of it are left out."""

    def __init__(self, folder: str | Path):
        """Raises NotADirectoryError, or FileNotFoundError where no video lies in the folder."""
        self.root = Path(folder).resolve()
        if not self.root.is_dir():
            raise NotADirectoryError(f"{folder} is no folder; give the one that holds the videos")
        files = [file for file in self.root.iterdir() if file.suffix.lower() in SUFFIXES and self._inside(file)]
        self.names = sorted(file.name for file in files if file.name.isprintable())  # what UTF-8 and a model can write
        if not self.names:
            raise FileNotFoundError(f"{folder} holds no video ({', '.join(SUFFIXES)}); subfolders are not searched")

    def _inside(self, file: Path) -> bool:
        return file.is_file() and file.resolve().is_relative_to(self.root)

    def path(self, name: str) -> Path:
        """The file of a name. Raises `ToolError` for a name that was not in the folder at the start, or left it since.

        The name is compared, never made part of a path.
        """
        file = self.root / self.names[self.names.index(name)] if name in self.names else None
        if file is None or not self._inside(file):
            raise ToolError(f"there is no such video; there are {self.listing()}")
        return file.resolve()

    def listing(self) -> str:
        rest = len(self.names) - MOST_NAMES
        return ", ".join(self.names[:MOST_NAMES]) + (f" and {rest} more" if rest > 0 else "")


def make_server(videos: VideoFolder, store: FrameStore, budget: ToolBudget = BUDGET) -> MCPServer:
    """The server with its three tools. A refused call is an error result with its reason; none ends the server."""
    encode = FrameEncoder(FRAME_BYTES)
    server = MCPServer(
        "medscope",
        instructions="Look at the videos of one folder: skim one, then look closely at a window or at one second. "
        f"Videos: {videos.listing()}",
        log_level="WARNING",
    )

    def shown(video: str, look: Callable[[ClinicalVideoEnvironment], Blocks]) -> list[ContentBlock]:
        environment = ClinicalVideoEnvironment(store, budget)
        try:
            path = videos.path(video)
            environment.reset(path=str(path))
            return _content(look(environment), encode)
        except ToolError as error:
            raise RefusedCall(str(error)) from None
        except VideoError as error:  # its message names the file by its path
            print(f"{video}: {error}", file=sys.stderr)
            raise RefusedCall(f"{video} cannot be read as video") from None

    @server.tool(structured_output=False)
    def skim(video: str) -> list[ContentBlock]:
        """Look at a whole video: evenly spread frames, each followed by its second, then the second of its end."""
        return shown(video, actions.skim)

    @server.tool(structured_output=False)
    def crop_video(video: str, start_time: float, end_time: float) -> list[ContentBlock]:
        """Look closely at a window of a video (in seconds): dense frames, each followed by its second."""
        return shown(video, lambda environment: environment.crop_video(start_time, end_time))

    @server.tool(structured_output=False)
    def get_frame(video: str, timestamp: float) -> list[ContentBlock]:
        """Look at the three frames nearest to one second of a video, at high resolution."""
        return shown(video, lambda environment: environment.get_frame(timestamp))

    return server


def _content(blocks: Blocks, encode: FrameEncoder) -> list[ContentBlock]:
    """Frames as JPEG, texts as they are."""
    content: list[ContentBlock] = []
    for block in blocks:
        if block["type"] == "image":
            data = base64.b64encode(encode(block["image"])).decode()
            content.append(ImageContent(type="image", data=data, mime_type="image/jpeg"))
        else:
            content.append(TextContent(type="text", text=block["text"]))
    return content


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Returns 1 for a folder without videos."""
    parser = argparse.ArgumentParser("python -m medscope.mcp_server", description="Video tools for an assistant.")
    parser.add_argument("folder", help="the videos that may be looked at")
    parser.add_argument("--port", type=int, help="serve http://127.0.0.1:PORT/mcp instead of stdio")
    parser.add_argument("--decoder", choices=sorted(DECODERS), default="pyav")
    options = parser.parse_args(arguments)
    try:
        server = make_server(VideoFolder(options.folder), FrameStore(options.decoder))
    except OSError as error:
        print(f"mcp_server: {error}", file=sys.stderr)
        return 1
    try:
        if options.port is None:
            server.run("stdio")
        else:
            server.run("streamable-http", host="127.0.0.1", port=options.port)
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
