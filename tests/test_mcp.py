"""The MCP server, by the SDK's own client: the right frames, one folder, and no argument that breaks it."""

import asyncio
import base64
import io
import os
import re
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from media import level_index, write_mp4
from PIL import Image

pytest.importorskip("mcp", reason="needs the extra [mcp]")

from mcp import Client, StdioServerParameters

from medscope import mcp_server
from medscope.environment import FrameStore, ToolBudget
from medscope.mcp_server import VideoFolder, make_server
from medscope.pipeline.parameters import ROOT

TIMES = [0, 1, 2.5, 3, 4, 5.2, 6, 7, 8, 9.5, 10, 11]
SECRET = "patient 17"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two films, a broken one, a text, and films and links that are not to be seen."""
    home = tmp_path_factory.mktemp("home")
    videos = home / "videos"
    (videos / "below").mkdir(parents=True)
    write_mp4(videos / "film.mp4", TIMES)
    write_mp4(videos / "other film.MP4", TIMES)
    (videos / "broken.mp4").write_text(SECRET)
    (videos / "notes.txt").write_text(SECRET)
    write_mp4(home / "outside.mp4", TIMES)
    write_mp4(videos / "below" / "deep.mp4", TIMES)
    (videos / "link.mp4").symlink_to(home / "outside.mp4")
    (videos / "inside.mp4").symlink_to(videos / "film.mp4")
    return videos


@pytest.fixture(scope="module")
def server(folder):
    return make_server(VideoFolder(folder), FrameStore(), ToolBudget(skim_frames=12, crop_frames=4))


def ask(server, *calls):
    """The results of these (tool, arguments), in a session of the SDK's client."""

    async def session():
        async with Client(server) as client:
            return [await client.call_tool(name, arguments) for name, arguments in calls]

    return asyncio.run(session())


def seconds_of(result):
    """The seconds behind the frames, each checked against the grey level of its frame."""
    assert not result.is_error
    found = []
    for block, behind in zip(result.content, result.content[1:], strict=False):
        if block.type == "image":
            second = float(re.fullmatch(r" ([\d.]+)s", behind.text)[1])
            picture = Image.open(io.BytesIO(base64.b64decode(block.data)))
            assert level_index(np.asarray(picture)) == TIMES.index(second) and block.mime_type == "image/jpeg"
            found.append(second)
    return found


@pytest.mark.slow
def test_over_stdio_the_tools_show_the_frames_of_the_seconds_they_tell(folder):
    """The real command; the limits of its process are those of a user's."""

    async def session():
        command = StdioServerParameters(
            command=sys.executable, args=["-m", "medscope.mcp_server", str(folder)], env={"PYTHONPATH": str(ROOT)}
        )
        async with Client(command) as client:
            tools = (await client.list_tools()).tools
            results = [
                await client.call_tool("skim", {"video": "film.mp4"}),
                await client.call_tool("crop_video", {"video": "film.mp4", "start_time": 2, "end_time": 6}),
                await client.call_tool("get_frame", {"video": "other film.MP4", "timestamp": 8}),
            ]
            return client.instructions, {tool.name: tool for tool in tools}, results

    instructions, tools, (skim, crop, frame) = asyncio.run(session())
    assert set(tools) == {"skim", "crop_video", "get_frame"}
    assert set(tools["crop_video"].input_schema["properties"]) == {"video", "start_time", "end_time"}
    assert "film.mp4" in instructions and str(folder) not in instructions
    assert seconds_of(skim) == TIMES and skim.content[-1].text.startswith(" end 1")
    assert all(2 <= second <= 6 for second in seconds_of(crop)) and len(seconds_of(crop)) >= 3
    assert seconds_of(frame) == [7, 8, 9.5]


def test_only_videos_of_the_folder_have_names(folder):
    assert VideoFolder(folder).names == ["broken.mp4", "film.mp4", "inside.mp4", "other film.MP4"]


@pytest.mark.parametrize(
    "name", ["link.mp4", "../outside.mp4", "below/deep.mp4", "notes.txt", "./film.mp4", "film.mp4\0", "", "/etc/passwd"]
)
def test_a_path_or_a_link_out_of_the_folder_is_no_name(server, folder, name):
    (result,) = ask(server, ("skim", {"video": name}))
    assert result.is_error and len(result.content) == 1
    assert "there is no such video; there are broken.mp4, film.mp4" in result.content[0].text
    assert str(folder) not in result.content[0].text


def test_a_video_that_becomes_a_link_out_of_the_folder_is_refused(tmp_path):
    write_mp4(tmp_path / "outside.mp4", TIMES)
    (tmp_path / "videos").mkdir()
    film = write_mp4(tmp_path / "videos" / "film.mp4", TIMES)
    server = make_server(VideoFolder(tmp_path / "videos"), FrameStore())
    film.unlink()
    film.symlink_to(tmp_path / "outside.mp4")
    (result,) = ask(server, ("skim", {"video": "film.mp4"}))
    assert result.is_error and "no such video" in result.content[0].text


def test_refused_calls_say_why_and_not_where(server, folder):
    results = ask(
        server,
        ("crop_video", {"video": "film.mp4", "start_time": 6, "end_time": 2}),
        ("get_frame", {"video": "film.mp4", "timestamp": 1e9}),
        ("get_frame", {"video": "film.mp4", "timestamp": "nan"}),
        ("get_frame", {"video": "film.mp4"}),
        ("skim", {"video": "broken.mp4"}),
        ("skim", {"video": "film.mp4"}),
    )
    reasons = ["swap them", "past the end", "number of seconds from 0", "timestamp", "cannot be read as video"]
    for result, reason in zip(results, reasons, strict=False):
        said = result.content[0].text
        assert result.is_error and reason in said and str(folder) not in said and SECRET not in said
    assert seconds_of(results[-1]) == TIMES  # the server goes on


ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from(["film.mp4", "../outside.mp4", "1e400", "x" * 100_000, 10**400]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)
ARGUMENTS = st.dictionaries(
    st.sampled_from(["video", "start_time", "end_time", "timestamp", "path"]) | st.text(max_size=5),
    ANYTHING,
    max_size=5,
)
OF_THE_FILM = ARGUMENTS.map(lambda arguments: {**arguments, "video": "film.mp4"})  # get past the name


@settings(max_examples=100)
@given(
    st.lists(
        st.tuples(st.sampled_from(["skim", "crop_video", "get_frame"]), ARGUMENTS | OF_THE_FILM), min_size=1, max_size=3
    )
)
def test_hostile_arguments_get_an_error_or_frames_of_the_named_film(server, calls):
    for (_, arguments), result in zip(calls, ask(server, *calls), strict=True):
        if not result.is_error:
            assert arguments["video"] == "film.mp4" and seconds_of(result)
        assert SECRET not in "".join(block.text for block in result.content if block.type == "text")


def test_a_folder_without_videos_is_an_error(tmp_path, capsys):
    for folder, message in ((tmp_path, "holds no video"), (tmp_path / "none", "no folder")):
        assert mcp_server.main([str(folder)]) == 1
        assert message in capsys.readouterr().err


@pytest.mark.slow
def test_over_http_it_listens_on_this_machine_only(folder):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "medscope.mcp_server", str(folder), "--port", str(port)]
    process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, stderr=subprocess.PIPE)
    try:
        wait_for(port, process)
        (result,) = ask(f"http://127.0.0.1:{port}/mcp", ("skim", {"video": "film.mp4"}))
        assert not result.is_error
        assert status(port, f"127.0.0.1:{port}") != 421 and status(port, "evil.example.com") == 421  # DNS rebinding
        for address in {info[4][0] for info in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)}:
            if not address.startswith("127."):
                with pytest.raises(OSError):
                    socket.create_connection((address, port), timeout=2)
    finally:
        process.terminate()
        process.communicate(timeout=20)


def wait_for(port, process):
    for _ in range(600):
        assert process.poll() is None, process.stderr.read().decode()
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.1)
    raise AssertionError("the server does not listen")


def status(port, host):
    """The status of a request with this Host header."""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as line:
        body = b'{"jsonrpc": "2.0", "id": 1, "method": "ping"}'
        head = f"POST /mcp HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
        head += (
            f"Accept: application/json, text/event-stream\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        line.sendall(head.encode() + body)
        return int(line.recv(100).split()[1])
