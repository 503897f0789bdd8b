"""What the tests of `medscope.ask` share: a film, a scripted endpoint in the environment, and the page it leaves."""

from html.parser import HTMLParser

import pytest
from chat_server import ChatServer, call, text
from media import write_mp4

TIMES = [0, 1, 2.5, 3, 4, 5.2, 6, 7, 8, 9.5, 10, 11]  # the frame of second TIMES[i] has grey level i
CROP = call("crop_video", {"start_time": 2, "end_time": 6}, "The skim shows it.")
ANSWER = text("Seen.\n<answer>forceps</answer>")


@pytest.fixture(name="video")
def video_fixture(tmp_path):
    return str(write_mp4(tmp_path / "film.mp4", TIMES))


@pytest.fixture(name="serve")
def serve_fixture(monkeypatch):
    servers = []

    def started(*replies):
        servers.append(ChatServer(*replies))
        monkeypatch.setenv("MEDSCOPE_MODEL_URL", servers[-1].url)
        monkeypatch.setenv("MEDSCOPE_MODEL_MODEL", "m")
        return servers[-1]

    yield started
    for server in servers:
        server.close()


class Page(HTMLParser):
    """What a browser would load, and what text a reader sees."""

    def __init__(self, path):
        super().__init__()
        self.tags, self.sources, self.text = [], [], ""
        self.feed(path.read_text())

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.sources += [value for name, value in attributes if name in ("src", "href", "data", "poster", "srcset")]

    def handle_data(self, data):
        self.text += data
