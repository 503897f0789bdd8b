"""The judges of answers, exact and behind an endpoint: right, half right, wrong, or an error."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medscope.environment.dialogue import window_text
from medscope.evaluation.endpoint import JudgeError
from medscope.evaluation.judge import LLMJudge, exact_judge, make_judge, normalise
from medscope.metrics import temporal_iou
from medscope.records import Window


@pytest.mark.parametrize(
    "answer, reference, verdict",
    [
        ("forceps", "forceps", 1),
        ("The forceps.", "forceps", 1),
        ("  FORCEPS ", "forceps", 1),
        ("blade", "forceps", 0),
        ("forceps and blade", "forceps", 0),
        ("", "forceps", 0),
        (None, "forceps", 0),
        ("from 0 to 100 s", "from 0 to 100 s", 1),
        ("from 100 to 0 s", "from 0 to 100 s", 1),
        ("0-50", "from 0 to 100 s", 1),
        ("0-49", "from 0 to 100 s", 0.5),
        ("0-30", "from 0 to 100 s", 0.5),
        ("0-29", "from 0 to 100 s", 0),
        ("1.1 to 1.4", "from 1.1 to 2.1 s", 0.5),  # IoU .3 but for a float's last digit
        ("from 0 s", "from 0 to 100 s", 0),
        ("from 0 to 100 s or 110 s", "from 0 to 100 s", 0),
        ("the whole video", "from 0 to 100 s", 0),
        (None, "from 0 to 100 s", 0),
    ],
)
def test_exact_judge(answer, reference, verdict):
    assert exact_judge(answer, reference) == verdict


WINDOWS = st.tuples(st.integers(0, 150), st.integers(0, 150)).map(sorted).map(lambda ends: Window(*ends))


@given(WINDOWS, WINDOWS)
def test_the_verdict_on_a_window_follows_its_iou(named, expected):
    iou = temporal_iou(named, expected)
    verdict = exact_judge(window_text(named), window_text(expected))
    assert verdict == (1 if iou >= 0.5 else 0.5 if iou >= 0.3 else 0)


def test_normalise():
    assert normalise(" The  Blade, an edge; A-b! ") == "blade edge ab"
    assert normalise("3.50 mm.") == normalise("3.5 mm") != normalise("35 mm")


@pytest.fixture
def judge(endpoint):
    """`judge(replies)`: an LLM judge of a server with these replies, and the server."""

    def made(replies, **settings):
        asked, server = endpoint(replies, **settings)
        return LLMJudge(asked), server

    return made


def test_an_llm_judge_reads_verdicts_and_asks_nothing_twice(judge):
    ask, server = judge(["0.5"])
    asked = [("Which tool?", f"forceps {i}", "forceps") for i in range(20)]
    assert ask(asked) == [0.5] * 20 == ask(asked)
    assert len(server.requests) == 20
    assert all(request["temperature"] == 0 for request in server.requests)
    again, other = judge(["1"])  # another endpoint is another judge
    assert again(asked[:1]) == [1] and len(other.requests) == 1


@pytest.mark.parametrize(
    "reply, verdict", [("1", 1), (" 1.0\n", 1), (".5", 0.5), ("**0.5**", 0.5), ("0", 0), ("0.", None)]
)
def test_a_verdict_is_one_of_three_numbers(judge, reply, verdict):
    ask, _ = judge([reply])
    if verdict is None:
        with pytest.raises(JudgeError, match=r"replies '0\.'"):
            ask([("?", "a", "b")])
    else:
        assert ask([("?", "a", "b")]) == [verdict]


def test_windows_and_missing_answers_cost_no_request(judge):
    ask, server = judge(["1"])
    assert ask([("?", "0-49", "from 0 to 100 s"), ("?", None, "forceps"), ("?", "x" * 1000, "forceps")]) == [0.5, 0, 0]
    assert not server.requests


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_server_that_fails_for_a_while_is_asked_again(judge, status):
    ask, server = judge([status, status, "1"])
    assert ask([("?", "a", "b")]) == [1]
    assert len(server.requests) == 3


def test_a_judge_that_stays_unreachable_is_an_error_and_leaves_no_verdict(judge):
    ask, server = judge([500], retries=1)
    with pytest.raises(JudgeError, match="unreachable"):
        ask([("?", "a", "b")])
    server.replies = ["1"]
    assert ask([("?", "a", "b")]) == [1]


def test_a_judge_that_chats_is_asked_once_more_and_then_refused(judge):
    ask, server = judge(["It depends.", "0.5"])
    assert ask([("?", "a", "b")]) == [0.5]
    assert len(server.requests[-1]["messages"]) == 4
    ask, _ = judge(["It depends."])
    with pytest.raises(JudgeError, match=r"replies 'It depends\.'"):
        ask([("?", "a", "b")])


def test_a_judge_without_an_endpoint_says_what_it_needs(monkeypatch):
    monkeypatch.delenv("MEDSCOPE_JUDGE_URL", raising=False)
    with pytest.raises(JudgeError, match="MEDSCOPE_JUDGE_URL"):
        make_judge("llm")
    with pytest.raises(JudgeError, match="'oracle' is unknown"):
        make_judge("oracle")
