"""Episodes of an endpoint agent: a film, a scripted server, an agent that asks it, and `play`."""

import pytest
from asked import TIMES
from chat_server import ChatServer, text
from media import write_mp4

from medscope.agents.endpoint_agent import EndpointAgent
from medscope.agents.protocol import run_episode
from medscope.environment import ClinicalVideoEnvironment, FrameStore, ToolBudget
from medscope.records import Task, Text, Window
from medscope.remote import RemoteModel

BUDGET = ToolBudget(skim_frames=12, crop_frames=4, max_calls=3)
ANSWER = text("I have seen it.\n<answer>forceps</answer>")


@pytest.fixture(name="video", scope="module")
def video_fixture(tmp_path_factory):
    return str(write_mp4(tmp_path_factory.mktemp("films") / "film.mp4", TIMES))


@pytest.fixture(name="serve")
def serve_fixture():
    servers = []

    def started(*replies):
        servers.append(ChatServer(*replies))
        return servers[-1]

    yield started
    for server in servers:
        server.close()


def agent_of(server, budget=BUDGET, calls="native", **settings):
    remote = RemoteModel(url=server.url, model="m", **{"retries": 1, "timeout": 5.0} | settings)
    return EndpointAgent(remote, budget, calls)


def play(agent, video, question="Which tool?", budget=BUDGET, tools=True):
    task = Task("t", "film", video, question, Text("forceps"), Window(2, 6), "words", "eval", "films")
    environment = ClinicalVideoEnvironment(FrameStore(), budget)
    return run_episode(agent, task, environment, tools)
