"""Fixtures: limits, two rendered recordings on disk, an environment, the tiny policy, an endpoint on this machine."""

from threading import Thread

import numpy as np
import pytest
from hypothesis import settings
from server import Server

from medscope.endpoint import Endpoint
from medscope.environment import ClinicalVideoEnvironment
from medscope.sources.rendered import sample_recording, write_video
from medscope.tools import Limits
from medscope.video import FrameStore

settings.register_profile("tests", deadline=None, derandomize=True)  # the same examples on every machine
settings.load_profile("tests")

LIMITS = Limits(skim_frames=20, skim_pixels=784, crop_frames=8, crop_pixels=3136, frame_pixels=7056)


@pytest.fixture(scope="session")
def tiny_limits():
    return LIMITS


def rendered_recording(family, folder):
    path = folder / f"{family}.mp4"
    recording = sample_recording(
        family, f"{family}_sft_0000", "sft", path, LIMITS.skim_frames, np.random.default_rng(1)
    )
    write_video(recording, LIMITS.skim_frames)
    return recording


@pytest.fixture(scope="session")
def operation(tmp_path_factory):
    """A rendered cataract operation of 145 s: six phases, evidence in windows."""
    return rendered_recording("cataract", tmp_path_factory.mktemp("rendered"))


@pytest.fixture(scope="session")
def clip(tmp_path_factory):
    """A rendered clip of 8 s: three events, evidence in moments."""
    return rendered_recording("clips", tmp_path_factory.mktemp("rendered"))


@pytest.fixture(params=["operation", "clip"])
def recording(request):
    """The operation, then the clip."""
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="session")
def store():
    return FrameStore()


@pytest.fixture
def environment(store, operation):
    """An environment bound to the operation, nothing called yet."""
    environment = ClinicalVideoEnvironment(store, LIMITS)
    environment.reset(path=operation.path)
    return environment


@pytest.fixture(scope="session")
def policy():
    from medscope.policy import tiny_policy

    return tiny_policy()


@pytest.fixture
def endpoint(monkeypatch, tmp_path):
    """`endpoint(replies)`: a client of a real server with these replies (a number: that status), and the server."""
    servers = []

    def made(replies, **settings):
        server = Server(replies)
        Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        monkeypatch.setenv("MEDSCOPE_JUDGE_URL", f"http://127.0.0.1:{server.server_port}/v1")
        monkeypatch.setenv("MEDSCOPE_JUDGE_MODEL", "judge")
        return Endpoint(tmp_path / "cache", **settings), server

    yield made
    for server in servers:
        server.shutdown()
        server.server_close()
