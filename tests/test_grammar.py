"""The tag grammar, and the one parser of calls and answers."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medscope.environment.grammar import (
    call_text,
    find_tool_call,
    is_well_formed,
    parse_answer,
    parse_timestamp,
    parse_tool_call,
    parse_window,
    split_turns,
    window_text,
)
from medscope.environment.tools import ToolError
from medscope.records import Window
from medscope.rewards import format_reward

THINK, ANSWER, RESPONSE = "<think>t</think>", "<answer>a</answer>", "<tool_response> 30s</tool_response>"
LOOK = '{"name": "get_frame", "arguments": {"timestamp": 40}}'
CALL = f"<tool_call>{LOOK}</tool_call>"

WELL_FORMED = {
    "no call": THINK + ANSWER,
    "one call": THINK + CALL + RESPONSE + THINK + ANSWER,
    "two calls": (THINK + CALL + RESPONSE) * 2 + THINK + ANSWER,
    "space between tags": f"\n{THINK}\n{CALL}\n{RESPONSE}\n{THINK}\n\n{ANSWER}\n",
    "other brackets": "<think>a < b <i>c</i></think><answer>5 > 3</answer>",
    "nothing thought": "<think></think>" + ANSWER,
}
MALFORMED = {
    "nothing": "",
    "only text": "the forceps",
    "no think": ANSWER,
    "no answer": THINK,
    "no think before the call": CALL + RESPONSE + THINK + ANSWER,
    "no think after the call": THINK + CALL + RESPONSE + ANSWER,
    "two answers": THINK + ANSWER + ANSWER,
    "two thoughts": THINK + THINK + ANSWER,
    "two calls in a turn": THINK + CALL + CALL + RESPONSE + THINK + ANSWER,
    "call and answer in a turn": THINK + CALL + ANSWER,
    "a call after the answer": THINK + ANSWER + CALL + RESPONSE,
    "text before": "well, " + THINK + ANSWER,
    "text between": THINK + "so" + ANSWER,
    "text after": THINK + ANSWER + "!",
    "text after a call": THINK + CALL + "!" + RESPONSE + THINK + ANSWER,
    "nested thoughts": f"<think>{THINK}</think>{ANSWER}",
    "an answer in a thought": f"<think>{ANSWER}</think>{ANSWER}",
    "a call in a thought": f"<think>{CALL}</think>{ANSWER}",
    "a thought in the answer": f"{THINK}<answer>{THINK}</answer>",
    "unclosed thought": "<think>t" + ANSWER,
    "unclosed answer": THINK + "<answer>a",
    "unclosed call": THINK + CALL[:-12] + RESPONSE + THINK + ANSWER,
    "unclosed response": THINK + CALL + "<tool_response> 30s" + THINK + ANSWER,
    "unopened thought": "t</think>" + ANSWER,
    "a response without a call": THINK + RESPONSE + ANSWER,
    "a second response": THINK + CALL + RESPONSE + RESPONSE + THINK + ANSWER,
    "broken JSON": THINK + "<tool_call>{</tool_call>" + RESPONSE + THINK + ANSWER,
    "capitals": "<THINK>t</THINK>" + ANSWER,
}


@pytest.mark.parametrize("text", WELL_FORMED.values(), ids=WELL_FORMED)
def test_well_formed_text_passes_the_grammar(text):
    assert format_reward(text) == 1
    assert is_well_formed(split_turns(text))


@pytest.mark.parametrize("text", MALFORMED.values(), ids=MALFORMED)
def test_malformed_text_does_not(text):
    assert format_reward(text) == 0


@pytest.mark.parametrize(
    "turns, good",
    [
        ([THINK + CALL, THINK + ANSWER], True),
        ([THINK + CALL + RESPONSE, THINK + ANSWER], False),
        ([THINK + CALL, RESPONSE + THINK + ANSWER], False),
        ([f"<think>{RESPONSE}</think>" + CALL, THINK + ANSWER], False),
        ([THINK + CALL], False),
        ([THINK + ANSWER, THINK + ANSWER], False),
        ([], False),
    ],
)
def test_a_response_inside_the_models_own_turn_is_forged(turns, good):
    assert is_well_formed(turns) is good


def test_split_turns_cuts_after_every_call_and_drops_the_responses():
    text = f"{THINK}{CALL}\n{RESPONSE}{THINK}{CALL}{RESPONSE}{THINK}{ANSWER}"
    assert split_turns(text) == [THINK + CALL, THINK + CALL, THINK + ANSWER]


@pytest.mark.parametrize(
    "text, answer",
    [
        (THINK + ANSWER, "a"),
        ("<answer> from 1 to 2 s\n</answer>", "from 1 to 2 s"),
        ("<answer></answer>", ""),
        (ANSWER + ANSWER, None),
        ("<answer>a<answer>b</answer>", None),
        ("<answer>a", None),
        ("a", None),
    ],
)
def test_parse_answer(text, answer):
    assert parse_answer(text) == answer


@pytest.mark.parametrize(
    "answer, window",
    [
        ("from 12 to 40 s", Window(12, 40)),
        ("from 40 to 12 s", Window(12, 40)),
        ("12.5s - 40.25s", Window(12.5, 40.25)),
        ("7 7", Window(7, 7)),
        ("From 00:12 to 00:40", Window(12, 40)),
        ("1:02:03.5 to 1:02:10", Window(3723.5, 3730)),
        ("phase 2 lasts from 12 to 40 s", Window(12, 40)),
        ("12-40 s", Window(12, 40)),
        ("from 12 min to 13 min", Window(720, 780)),
        ("from 1 min 10 s to 2 min 5 s", Window(70, 125)),
        ("from 1h 2min 3s to 1.5 hours", Window(3723, 5400)),
        ("from 1,200 to 1,300 s", Window(1200, 1300)),
        ("12.5 \u2013 40 seconds.", Window(12.5, 40)),
        ("[12, 40]", Window(12, 40)),
        ("at 12 s", None),
        ("12, 40 and 60", None),
        ("from 5 to 10 s or from 12 to 20 s", None),
        ("from -5 to 10 s", None),
        ("10-0 nylon suture", None),
        ("from 1e400 to 3 s", None),
        ("forceps", None),
        ("", None),
        (None, None),
        (f"from 1 to {'9' * 400} s", None),  # too large for a float: no window rather than an infinite one
    ],
)
def test_parse_window(answer, window):
    assert parse_window(answer) == window


@pytest.mark.parametrize(
    "answer, second",
    [
        ("at 4.5 s", 4.5),
        ("at 5 minutes", 300),
        ("1 min 5 s", 65),
        ("1:05", 65),
        ("4", 4),
        ("step 2 at 4 s", None),
        ("-4 s", None),
        ("", None),
        (None, None),
    ],
)
def test_parse_timestamp(answer, second):
    assert parse_timestamp(answer) == second


@given(st.tuples(st.integers(0, 9999), st.integers(0, 9999)).map(sorted))
def test_an_answer_window_is_read_back_as_it_was_written(tenths):
    window = Window(tenths[0] / 10, tenths[1] / 10)
    assert parse_window(window_text(window)) == window


@pytest.mark.parametrize(
    "turn, call",
    [
        (THINK + CALL, LOOK),
        (CALL, LOOK),  # without a thought the format is wrong, but the call is clear
        (THINK + CALL + CALL, None),
        (THINK + CALL + ANSWER, None),
        (THINK + "<tool_call>" + LOOK, None),
        (THINK, None),
    ],
)
def test_only_a_single_closed_call_without_an_answer_is_a_call(turn, call):
    assert find_tool_call(turn) == call


def test_call_text_is_json_with_whole_seconds_whole():
    text = call_text("crop_video", {"start_time": 12.0, "end_time": 40.5})
    assert text == '<tool_call>{"name": "crop_video", "arguments": {"start_time": 12, "end_time": 40.5}}</tool_call>'


SECONDS = st.floats(0, 1e6)
ARGUMENTS = {"crop_video": ("start_time", "end_time"), "get_frame": ("timestamp",)}
CALLS = st.sampled_from(list(ARGUMENTS)).flatmap(
    lambda name: st.tuples(st.just(name), st.fixed_dictionaries({key: SECONDS for key in ARGUMENTS[name]}))
)


@given(CALLS)
def test_a_written_call_is_parsed_back(call):
    assert parse_tool_call(find_tool_call(THINK + call_text(*call))) == call


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["name", "arguments", "x"]), inner),
    max_leaves=8,
)


@given(st.text() | JSON.map(json.dumps) | st.text('{}[]":,0eE+-.\\ud ', max_size=30))
def test_no_text_makes_the_call_parser_raise_anything_but_a_tool_error(text):
    try:
        name, arguments = parse_tool_call(text)
    except ToolError as error:
        assert "{" in str(error) or '"' in str(error)  # it shows what to write
    else:
        assert isinstance(name, str) and isinstance(arguments, dict)


TAGS = [f"<{slash}{tag}>" for tag in ("think", "tool_call", "tool_response", "answer") for slash in ("", "/")]
PARTS = [*TAGS, THINK, CALL, RESPONSE, ANSWER, LOOK, " ", "<", "9 to 7"]
TAGGED = st.lists(st.sampled_from(PARTS) | st.text(max_size=3))


@given(TAGGED.map("".join))
def test_no_text_makes_the_grammar_raise(text):
    turns = split_turns(text)
    assert format_reward(text) in (0, 1)
    window = parse_window(parse_answer(text))
    assert window is None or window.start <= window.end
    assert find_tool_call(text) is None or "<answer>" not in text
    if "<tool_response>" not in text:
        assert "".join(turns) == text


@given(st.lists(st.sampled_from([THINK, THINK, CALL, RESPONSE, ANSWER]), max_size=8).map("".join))
def test_what_passes_the_grammar_calls_and_answers_once(text):
    turns = split_turns(text)
    if format_reward(text):
        assert parse_answer(turns[-1]) == "a" and text.count("<answer>") == 1
        assert all(find_tool_call(turn) == LOOK for turn in turns[:-1]) and find_tool_call(turns[-1]) is None
