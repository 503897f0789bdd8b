"""Trajectories of the endpoint teacher by native tool calls, against a server that looks at its frames."""

import pytest
from chat_server import text
from teacher_items import BUDGET, do, draft_of, model_of
from teacher_server import teach

from medscope.environment.grammar import is_well_formed
from medscope.records import Window
from medscope.remote import EndpointError
from medscope.suite.bulk import Rejected
from medscope.suite.teachers.endpoint.prompts import load_prompt
from medscope.suite.teachers.endpoint.trajectories import TeachingTask, TrajectoryStep

pytest_plugins = ["teacher_fixtures"]


def teaching(film, tools=True, **changes):
    fields = {"kind": "grounding", "form": "time", "wrong": [], "question": "When does three come on?"}
    task = draft_of(film, **fields | {"start": 3, "end": 4} | changes).task
    return TeachingTask(task, film.sha256, tools)


def test_a_trajectory_looks_coarse_to_fine_and_sees_its_refused_call(serve, store, film):
    server = serve()
    trajectory = do(TrajectoryStep(model_of(server), store, BUDGET), teaching(film))
    assert [call.looked for call in trajectory.calls] == [Window(0, 7), None, Window(3, 4.5)]
    assert is_well_formed(list(trajectory.turns)) and len(trajectory.turns) == 4
    assert trajectory.turns[-1] == "<think>It is seen.</think><answer>from 3 to 4 s</answer>"
    roles = [message["role"] for message in server.requests[-1]["messages"]]
    assert roles == [
        "system",
        "user",
        *["assistant", "tool", "user"],
        *["assistant", "tool"],
        "assistant",
        "tool",
        "user",
    ]
    refused = [m["content"] for m in server.requests[-1]["messages"] if m["role"] == "tool"][1]
    assert refused == "error: end_time 4 is before start_time 5; swap them"
    guidance, asked = server.requests[0]["messages"][1]["content"][-2:]
    assert (
        guidance["text"].strip() == load_prompt("tools").text
        and asked["text"] == "\nWhen does three come on? Look closely first."
    )
    assert load_prompt("tools").text not in "".join(trajectory.turns)
    assert "tools" in server.requests[0]


def test_an_easy_question_is_answered_in_text(serve, store, film):
    server = serve()
    trajectory = do(TrajectoryStep(model_of(server), store, BUDGET), teaching(film, tools=False))
    assert trajectory.turns == ("<think>I see it.</think><answer>from 3 to 4 s</answer>",)
    assert not trajectory.tools and "tools" not in server.requests[0]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"start": 3, "end": 12}, "answer: also window"),
        ({"start": 9, "end": 10}, "answer: also window"),
        ({"kind": "perception", "form": "choice", "question": "What is between two and four?"}, "answer"),
    ],
)
def test_a_trajectory_that_is_wrong_is_rejected(serve, store, film, changes, reason):
    item = teaching(film, **{"wrong": ["saw", "clip", "drill"] if "form" in changes else []} | changes)
    result = do(TrajectoryStep(model_of(serve()), store, BUDGET), item)
    assert result.reason.startswith(reason)


def test_rounds_and_thoughts_are_checked(serve, store, film):
    at_once = lambda request: text("It is seen.\n<answer>from 3 to 4 s</answer>")  # noqa: E731
    assert do(TrajectoryStep(model_of(serve(at_once)), store, BUDGET), teaching(film)) == Rejected("rounds")

    def thoughtless(request):
        reply = teach(request)
        return reply | {"message": reply["message"] | {"content": None}} if "tool_calls" in reply["message"] else reply

    assert do(TrajectoryStep(model_of(serve(thoughtless)), store, BUDGET), teaching(film)) == Rejected("no thought")


def test_free_text_in_a_trajectory_is_graded(serve, store, film):
    free = {"kind": "temporal", "form": "text", "question": "In words, what lies between two and four?"}
    item = teaching(film, **free, answer="shade three", start=2.5, end=5.2)
    trajectory = do(TrajectoryStep(model_of(serve()), store, BUDGET), item)
    assert trajectory.turns[-1].endswith("<answer>it is shade three</answer>")


def test_turns_that_cannot_be_read_are_a_rejection_and_an_outage_is_an_error(serve, store, film):
    step = TrajectoryStep(model_of(serve(text("hm"))), store, BUDGET)
    assert do(step, teaching(film)).reason.startswith("no turn could be used after 0 turns: ")
    with pytest.raises(EndpointError):
        do(TrajectoryStep(model_of(serve(500)), store, BUDGET), teaching(film))
