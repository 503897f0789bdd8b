"""Fixtures of the endpoint teacher's tests: a film of twelve shades, and servers that end with the test."""

import pytest
from teacher_server import TeacherServer, teach, write_film

from medscope.records import Recording
from medscope.suite.teachers.endpoint.scenes import Film


@pytest.fixture(scope="session")
def film(tmp_path_factory):
    path = write_film(tmp_path_factory.mktemp("films") / "film.mp4", 0)
    return Film(Recording("film", path, 12.0, (), "films", split="sft"), "a" * 64)


@pytest.fixture
def serve():
    servers = []

    def started(script=teach):
        servers.append(TeacherServer(script if callable(script) else lambda request: script))
        return servers[-1]

    yield started
    for server in servers:
        server.close()
        assert not server.faults
