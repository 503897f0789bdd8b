"""A step against a server that refuses, hangs, dies and talks rubbish, and a process that is killed."""

import subprocess
import sys
import time
from collections import Counter
from email.utils import formatdate
from pathlib import Path

import pytest
from bulk_step import AskStep
from chat_server import ChatServer, Handler, completion, text
from test_bulk import run

from medscope.records import Caption
from medscope.suite.bulk import StepStopped, read_step, rejected
from medscope.suite.bulk.pace import parse_retry_after

SCRIPT = Path(__file__).with_name("bulk_step.py")


@pytest.fixture
def serve():
    servers = []

    def started(*replies):
        servers.append(ChatServer(*replies))
        return servers[-1]

    yield started
    for server in servers:
        server.close()


class BusyHandler(Handler):
    """Requests of the numbers in `refused` get a 429 with `seconds`; the server remembers when each came."""

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.server.times.append(time.monotonic())
        refused = len(self.server.times) in self.server.refused
        self.send_response(429 if refused else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Retry-After", str(self.server.seconds))
        self.end_headers()
        self.wfile.write(b"{}" if refused else completion(text("seen")))


def busy(server, refused, seconds):
    server.RequestHandlerClass, server.refused, server.seconds, server.times = BusyHandler, refused, seconds, []
    return server


def done(folder):
    """How often every item is in the shards."""
    keys = [key.removesuffix("-v1") for key, _ in rejected(folder, "captions")]
    return Counter(keys + [caption.video.split()[1] for caption in read_step(folder, "captions", Caption)])


def each_once(items):
    return Counter({str(item): 1 for item in items})


def repeats(server):
    """How many requests the server has seen before."""
    return len(server.requests) - len({request["messages"][0]["content"] for request in server.requests})


@pytest.mark.slow
def test_kill_9_loses_no_more_than_what_is_in_flight(serve, tmp_path):
    """Two processes are killed, the second just after its start; a third ends the work."""
    server, items = serve(text("seen")), 160
    words = [sys.executable, str(SCRIPT), str(tmp_path), server.url, str(items)]
    for kill_at in (60, 61):
        process = subprocess.Popen(words, stderr=subprocess.DEVNULL)
        while len(server.requests) < kill_at:
            assert process.poll() is None
            time.sleep(0.001)
        process.kill()
        assert process.wait() == -9
    with next((tmp_path / "captions").glob("*.jsonl")).open("ab") as file:
        file.write(b'{"key": "torn')
    subprocess.run(words, check=True, stderr=subprocess.DEVNULL)
    assert done(tmp_path) == each_once(range(items))
    assert repeats(server) <= 2 * 4  # kills x workers


def test_rubbish_errors_and_cut_lines_are_asked_again_in_the_next_run(serve, tmp_path):
    server = serve(b"<html>", b"<html>", b"{}", b'{"choices": []}', 500, "die", b'{"choices": [{"mess', b"", text("ok"))
    step = AskStep(server.url)
    first = run(step, range(1, 30), tmp_path, concurrency=1, stop_after=20)
    assert first.failed == 5 and first.done == 24
    assert run(step, range(1, 30), tmp_path).done == 5
    assert done(tmp_path) == each_once(range(1, 30))


@pytest.mark.slow
@pytest.mark.parametrize("retries", [0, 3])
def test_a_busy_endpoint_is_no_outage(serve, tmp_path, retries):
    """Without retries the whole run waits as long as the endpoint says; with them the client does, per request."""
    server = busy(serve(None), {5, 6, 7}, 0.5)
    report = run(AskStep(server.url, retries=retries), range(40), tmp_path, concurrency=3, stop_after=1)
    assert report.failed == 0 and done(tmp_path) == each_once(range(40))
    refused = server.times[4]
    assert report.seconds > 0.5
    if not retries:
        assert sum(refused < at < refused + 0.5 for at in server.times) <= 2  # those that were in flight


def test_a_quota_stops_the_run_and_says_how_long(serve, tmp_path):
    server = busy(serve(None), set(range(10, 1000)), 7200)
    with pytest.raises(StepStopped, match=r"HTTP 429.*asks to wait 7200 s.*run the same command again"):
        run(AskStep(server.url), range(100), tmp_path, concurrency=2)
    assert sum(done(tmp_path).values()) == 9


@pytest.mark.slow
def test_a_server_that_hangs_stops_the_run(serve, tmp_path):
    server, started = serve(text("seen"), text("seen"), 60.0), time.monotonic()
    with pytest.raises(StepStopped, match="cannot be reached"):
        run(AskStep(server.url, timeout=0.5), range(1, 100), tmp_path, concurrency=2, stop_after=3)
    assert sum(done(tmp_path).values()) == 2 and time.monotonic() - started < 30


def test_a_server_that_dies_stops_the_run_and_another_one_goes_on(serve, tmp_path):
    first, second = serve(text("seen")), serve(text("seen"))

    def items():
        for item in range(100):
            if item == 20:
                first.close()
            yield item

    with pytest.raises(StepStopped, match=r"cannot be reached.*start the server") as stopped:
        run(AskStep(first.url), items(), tmp_path, concurrency=4)
    before = done(tmp_path)
    assert 16 <= before.total() <= 20 and stopped.value.report.done == before.total()
    report = run(AskStep(second.url), range(100), tmp_path, concurrency=4)
    assert report.skipped == before.total() and done(tmp_path) == each_once(range(100))
    assert len(second.requests) == 100 - before.total()


def test_retry_after_is_a_number_or_a_date():
    assert parse_retry_after("1.5") == 1.5 and parse_retry_after("-3") == 0
    assert 25 < parse_retry_after(formatdate(time.time() + 30, usegmt=True)) <= 31
    assert parse_retry_after("soon") is parse_retry_after("") is parse_retry_after("nan") is None
