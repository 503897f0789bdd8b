"""A model behind an endpoint as a system: asked once, resumed after an outage, in quarantine and never at zero."""

import json
import re
from dataclasses import replace
from functools import partial
from threading import Barrier, BrokenBarrierError, Lock

import pytest
from chat_server import ChatServer, call, frames_of, text
from media import write_mp4
from predicted import task

from medscope.environment import FrameStore, ToolBudget, VideoError
from medscope.evaluation.audit import SWAPS, audit_table
from medscope.evaluation.benchmark import benchmark_table
from medscope.evaluation.endpoint import JudgeError
from medscope.evaluation.predict_endpoint import EndpointSystem
from medscope.evaluation.predictions import Prediction
from medscope.evaluation.protocol import protocol
from medscope.evaluation.quarantine import quarantine_of, quarantine_table, read_quarantine
from medscope.evaluation.replay import replay
from medscope.files import read_jsonl, write_jsonl
from medscope.records import Recording, Text, Window
from medscope.remote import EndpointError, RemoteModel
from medscope.suite.bulk import StepStopped

BUDGET = ToolBudget(skim_frames=6, crop_frames=2, max_calls=2, max_turn_tokens=64)
CROP = call("crop_video", {"start_time": 2, "end_time": 6}, "look")
PROBE = "test of the connection"


class Model(ChatServer):
    """Replies by what is asked: `answers` maps a question to a text, a list of replies in turn, a status or "die"."""

    def __init__(self, answers):
        self.answers, self.lock = answers, Lock()
        super().__init__(text("-"))

    def reply(self):
        request = self.requests[-1]
        words = json.dumps(request["messages"])
        if PROBE in words:
            return text("<answer>yes</answer>")
        asked = re.search(r"task (\w+)\?", words)[1]
        with self.lock:
            found = self.answers[asked]
            if isinstance(found, list):
                found = found.pop(0) if len(found) > 1 else found[0]
        return text(f"<answer>{found}</answer>") if isinstance(found, str) and found != "die" else found


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    folder = tmp_path_factory.mktemp("films")
    return [str(write_mp4(folder / f"{name}.mp4", range(12))) for name in "ab"]


@pytest.fixture
def serve():
    servers = []

    def started(answers):
        servers.append(Model(answers))
        return servers[-1]

    yield started
    for server in servers:
        server.close()


@pytest.fixture
def tasks(films):
    found = [task(n, "yes", Window(2, 6), video="ab"[n % 2]) for n in range(4)]
    return [replace(t, path=films[n % 2], question=f"task {'pqrs'[n]}?") for n, t in enumerate(found)]


@pytest.fixture
def system(tmp_path):
    def made(server, judge=None, **settings):
        remote = RemoteModel(
            url=server.url, model="m", retries=0, timeout=20.0, trip=10**6, price_in=2.0, price_out=10.0
        )
        given = {"answers": tmp_path / "answers", "in_flight": 1} | settings | ({"judge": judge} if judge else {})
        return EndpointSystem(remote, FrameStore("pyav"), BUDGET, **given)

    return made


def asked(server):
    """The questions that were sent, in order, without the first tiny request."""
    found = [re.search(r"task (\w+)\?", json.dumps(r["messages"])) for r in server.requests]
    return [match[1] for match in found if match]


def test_a_prediction_is_what_the_episode_did_and_what_it_cost(serve, tasks, system):
    server = serve({"p": [CROP, text("seen <answer>yes</answer>")], "q": "no", "r": "yes", "s": "yes"})
    agent = system(server)
    found = agent.predict(tasks, "gpt")
    assert [p.task.id for p in found] == [t.id for t in tasks] and {p.system for p in found} == {"gpt"}
    assert [p.accuracy for p in found] == [1, 0, 1, 1]
    first = found[0]
    assert first.calls[0].looked == Window(2, 6) and first.turns[-1].endswith("<answer>yes</answer>")
    assert (first.tokens, first.tool_frames) == (20, len(first.calls[0].seconds)) and found[1].tokens == 10
    assert len(frames_of(server.requests[1])) == 6, "the skim of the budget"
    assert (agent.cost["requests"], agent.cost["prompt_tokens"], agent.cost["completion_tokens"]) == (5, 5000, 50)
    assert agent.cost["dollars"] == pytest.approx((5000 * 2 + 50 * 10) / 1e6) and not agent.quarantined


def test_a_second_run_asks_nothing_and_gives_the_same(serve, tasks, system):
    server = serve(dict.fromkeys("pqrs", "yes"))
    first, again = system(server), system(server)
    found, sent = first.predict(tasks, "gpt"), len(server.requests)
    assert again.predict(tasks, "gpt") == found and len(server.requests) == sent
    assert again.cost == first.cost, "what the answers have cost, in whichever run"


@pytest.mark.parametrize(
    "change",
    [{"calls": "tags"}, {"temperature": 0.5}, {"request": {"top_p": 0.5}}, {"tools": False}, {"name": "other"}],
)
def test_what_decides_an_answer_is_part_of_its_key(serve, tasks, system, change):
    server = serve(dict.fromkeys("pqrs", "yes"))
    system(server).predict(tasks[:1], "gpt")
    change = dict(change)
    name, tools = change.pop("name", "gpt"), change.pop("tools", True)
    system(server, **change).predict(tasks[:1], name, tools)
    assert asked(server) == ["p", "p"]


def test_another_prompt_is_another_question(serve, tasks, system, monkeypatch):
    server = serve(dict.fromkeys("pqrs", "yes"))
    system(server).predict(tasks[:1], "gpt")
    before = protocol([], BUDGET, "pyav", "exact")["prompts"]
    monkeypatch.setattr("medscope.environment.prompts.USE_TOOLS", " Take your time.")
    system(server).predict(tasks[:1], "gpt")
    assert asked(server) == ["p", "p"] and protocol([], BUDGET, "pyav", "exact")["prompts"] != before


def test_a_server_that_dies_in_the_middle_costs_only_what_it_did_not_answer(serve, tasks, system):
    server = serve({"p": "yes", "q": "die", "r": "yes", "s": 503})
    with pytest.raises(StepStopped, match=r"gpt: 2 tasks have no answer \(EndpointError.* are kept in"):
        system(server).predict(tasks, "gpt")
    server.answers |= {"q": "yes", "s": "yes"}
    before = len(asked(server))
    assert [p.accuracy for p in system(server).predict(tasks, "gpt")] == [1, 1, 1, 1]
    assert asked(server)[before:] == ["q", "s"]


def test_a_dead_server_stops_the_run_after_a_few_and_a_wrong_one_before_the_first(serve, films, system):
    many = [replace(task(n, "yes", Window(2, 6)), path=films[0], question=f"task n{n}?") for n in range(20)]
    server = serve({f"n{n}": "die" for n in range(20)})
    with pytest.raises(StepStopped, match="5 items in a row failed"):
        system(server).predict(many, "gpt")
    assert len(asked(server)) == 5
    server.close()
    with pytest.raises(EndpointError, match="cannot be reached"):
        system(server).predict(many, "gpt")


@pytest.mark.parametrize("status", [400, 401, 404])
def test_a_request_that_no_task_could_make_is_no_quarantine(tasks, system, status):
    server = ChatServer(status)
    try:
        with pytest.raises(EndpointError, match=f"HTTP {status}"):
            system(server).predict(tasks, "gpt")
        assert len(server.requests) == 1
    finally:
        server.close()


def test_a_reply_that_cannot_be_read_is_in_quarantine_and_in_no_mean(serve, tasks, system, tmp_path):
    server = serve({"p": "yes", "q": [CROP, text("I would say yes")], "r": "no", "s": 400})
    agent = system(server)
    found = agent.predict(tasks, "gpt")
    assert [p.task.id for p in found] == [tasks[0].id, tasks[2].id]
    unread, refused = agent.quarantined
    assert unread.task == tasks[1] and len(unread.turns) == 1 and unread.calls[0].looked == Window(2, 6)
    assert "neither one tool call" in unread.reason and "HTTP 400" in refused.reason
    assert benchmark_table({"gpt": found})["gpt"]["set"]["accuracy"] == 0.5, "of two, not of four"
    assert quarantine_table({"gpt": found}, {"gpt": agent.quarantined}) == {"gpt": {"set": "2 of 4"}}
    settings = protocol(found, BUDGET, "pyav", "exact", 0.0, agent.quarantined, agent.described, agent.cost)
    assert settings["eval_sets"] == [{"name": "set", "domain": "in", "tasks": 2, "quarantined": 2}]
    assert settings["system"]["model"] == "m" and settings["usage"]["requests"] == 1 + 3 + 1 + 1
    file = tmp_path / "predictions" / "gpt.jsonl"
    write_jsonl(file, found)
    write_jsonl(quarantine_of(file), agent.quarantined)
    assert read_jsonl(file, Prediction) == found and read_quarantine(file) == agent.quarantined
    sent = len(asked(server))
    assert system(server).predict(tasks, "gpt") == found and len(asked(server)) == sent, "not asked again"


def test_the_audit_replays_an_endpoint_and_leaves_out_what_a_swap_cannot_read(serve, tasks, films, system):
    answers = {name: [CROP, text("<answer>yes</answer>")] * 2 for name in "pq"}
    server = serve(answers)
    agent = system(server)
    right = agent.predict(tasks[:2], "gpt")
    answers |= {"p": [CROP, text("<answer>yes</answer>"), CROP, text("<answer>no</answer>"), CROP, text("rubbish")]}
    answers["q"] = [
        CROP,
        text("<answer>yes</answer>"),
        CROP,
        text("<answer>no</answer>"),
        CROP,
        text("<answer>no</answer>"),
    ]
    videos = [Recording(v, path, 12.0, (), "set", "in", "eval") for v, path in zip("ab", films, strict=True)]
    replays = replay(agent.predict, right, videos, agent.store, BUDGET)
    assert [(p.task.question, p.system) for p in replays] == [("task q?", f"gpt/{swap}") for swap in SWAPS]
    (row,) = audit_table({"gpt": right}, {"gpt": replays}).values()
    assert [row[f"flip_{swap}"] for swap in SWAPS] == [0, 1, 1, 1] and row["right"] == 1


def test_tasks_are_in_flight_together_and_at_most_so_many(serve, films, system):
    """Three requests meet at a barrier; a fourth would not be there."""
    barrier, most, now, lock = Barrier(3), [], [], Lock()

    class Meeting(Model):
        def reply(self):
            if PROBE in json.dumps(self.requests[-1]["messages"]):
                return text("<answer>yes</answer>")
            with lock:
                now.append(1)
                most.append(len(now))
            try:
                barrier.wait(5)
            except BrokenBarrierError:
                return 400
            finally:
                with lock:
                    now.pop()
            return text("<answer>yes</answer>")

    server = Meeting({})
    try:
        many = [replace(task(n, "yes", Window(2, 6)), path=films[0], question=f"task n{n}?") for n in range(6)]
        agent = system(server, in_flight=3)
        found = agent.predict(many, "gpt")
        assert len(found) == 6 and max(most) == 3 and not agent.quarantined
        assert [p.task.id for p in found] == [t.id for t in many]
    finally:
        server.close()


def test_a_judge_that_fails_costs_no_answer(serve, tasks, system):
    def down(_):
        raise JudgeError("down")

    server = serve(dict.fromkeys("pqrs", "yes"))
    with pytest.raises(JudgeError):
        system(server, judge=down).predict(tasks, "gpt")
    sent = len(server.requests)
    assert len(system(server).predict(tasks, "gpt")) == 4 and len(server.requests) == sent


def test_a_missing_video_is_an_error_that_names_it(serve, tasks, system):
    gone = replace(tasks[0], path="gone.mp4")
    with pytest.raises(VideoError, match=r"gone\.mp4"):
        system(serve({})).predict([gone], "gpt")


def test_another_video_under_a_known_name_is_asked_anew(serve, tasks, system, films):
    server = serve(dict.fromkeys("pqrs", "yes"))
    system(server).predict(tasks[:1], "gpt")
    system(server).predict([replace(tasks[0], reference=Text("no"))], "gpt")
    assert asked(server) == ["p"], "the reference is the judge's"
    other = str(write_mp4(f"{films[0]}.other.mp4", range(9)))
    partial(system(server).predict, [replace(tasks[0], path=other)])("gpt")
    assert asked(server) == ["p", "p"]


def test_a_wrong_setting_is_an_error_at_once(serve, system):
    with pytest.raises(ValueError, match="choose native or tags"):
        system(serve({}), calls="xml")
