"""The tag grammar: the only parser from an assistant's text to tool calls and answers.

    <think>..</think> (<tool_call>..</tool_call> response <think>..</think>)* <answer>..</answer>

A tool call is `{"name": .., "arguments": {..}}`.
"""

import json
import math
import re
from typing import Any

from pydantic_core import from_json

from medscope.environment.tools import ToolError
from medscope.records import Window

MAX_ANSWER_CHARACTERS = 1000
# The tags that an assistant writes. `tool_response` is the environment's.
TAGS = tuple(f"<{slash}{tag}>" for tag in ("think", "tool_call", "answer") for slash in ("", "/"))

_BODY = r"(?:(?!</?(?:think|tool_call|tool_response|answer)>).)*?"
_THINK = rf"\s*<think>{_BODY}</think>"
_CALL = rf"\s*<tool_call>(?P<call>{_BODY})</tool_call>"
_ANSWER = rf"\s*<answer>(?P<answer>{_BODY})</answer>\s*"
_CALL_TURN = re.compile(_THINK + _CALL + r"\s*", re.DOTALL)
_ANSWER_TURN = re.compile(_THINK + _ANSWER, re.DOTALL)
_ANY_CALL = re.compile(rf"<tool_call>({_BODY})</tool_call>", re.DOTALL)
_ANY_ANSWER = re.compile(rf"<answer>({_BODY})</answer>", re.DOTALL)
_RESPONSE = re.compile(r"\s*<tool_response>.*?</tool_response>", re.DOTALL)
_UNIT = r"(?:\s?(?:s|secs?|seconds?)\b)"
# A time is h:mm:ss, mm:ss or a number of seconds; it is no part of a word or of a larger number (`v2`, `10-0`, `1e9`).
_TIME = rf"(?<![\w.:-])(?:(?:\d+:)?\d{{1,3}}:\d{{2}}(?:\.\d+)?|\d+(?:\.\d+)?)(?:{_UNIT}|(?![\w:]|[.-]\d))"
_RANGE = re.compile(rf"({_TIME})\s*(?:to|until|till)\s+({_TIME})|between\s+({_TIME})\s+and\s+({_TIME})")
# `1 h 2 min 3 s` and `1.5 min`: at least one of hours and minutes.
_DURATION = re.compile(
    r"(?<![\w.:-])(?=\d+(?:\.\d+)?\s*[hm])(?:(\d+(?:\.\d+)?)\s*h(?:ours?|rs?)?\b\s*)?"
    r"(?:(\d+(?:\.\d+)?)\s*m(?:in(?:ute)?s?)?\b\s*)?(?:(\d+(?:\.\d+)?)\s*s(?:ec(?:ond)?s?)?\b)?"
)
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?:\D|$))")
_DASHED = re.compile(rf"(?<=\d)({_UNIT}?)\s*[-\u2013\u2014]\s*(?=[\d:.]+(?:{_UNIT}|\s*\W*$))")  # 12-40 s
_NEGATIVE = re.compile(r"(?<![\w.])-\s?\d")


def call_text(name: str, arguments: dict[str, float]) -> str:
    """A tool call as an assistant writes it; whole seconds without a decimal point."""
    seconds = {key: int(value) if value == int(value) else value for key, value in arguments.items()}
    return f"<tool_call>{json.dumps({'name': name, 'arguments': seconds})}</tool_call>"


def window_text(window: Window) -> str:
    """A window as an answer: `from 12 to 40 s`."""
    return f"from {window.start:g} to {window.end:g} s"


def find_tool_call(turn: str) -> str | None:
    """The text inside the turn's only tool call, or None when the turn makes no call (it is then the last one)."""
    calls = _ANY_CALL.findall(turn)
    return calls[0] if len(calls) == 1 and "<answer>" not in turn else None


def parse_tool_call(text: str) -> tuple[str, dict[str, Any]]:
    """`{"name": .., "arguments": {..}}` as (name, arguments); anything else is a `ToolError` that says why."""
    try:
        call = from_json(text)  # unlike json it bounds depth and digits, and refuses text that is not Unicode
    except ValueError:
        raise ToolError('this is not JSON; write {"name": .., "arguments": {..}}') from None
    if not isinstance(call, dict) or set(call) != {"name", "arguments"}:
        raise ToolError('a tool call has exactly the keys "name" and "arguments"')
    if not isinstance(call["name"], str) or not isinstance(call["arguments"], dict):
        raise ToolError('"name" is a string and "arguments" an object')
    return call["name"], call["arguments"]


def parse_answer(text: str) -> str | None:
    """The text of the only `<answer>`, or None when there is none or more than one."""
    answers = _ANY_ANSWER.findall(text)
    return answers[0].strip() if len(answers) == 1 and text.count("<answer>") == 1 else None


def parse_window(answer: str | None) -> Window | None:
    """The window that an answer names: its only range, else its only two times, reordered if swapped; else None.

    Times are seconds, clock times or durations: `from 12 to 40 s`, `12.5-40 s`, `From 00:12 to 00:40`, `1 min to 1 min
    5 s`. Negative times are none.
    """
    text = _DASHED.sub(r"\1 to ", _in_seconds(answer or ""))
    ranges = _RANGE.findall(text)
    named = [time for time in ranges[0] if time] if len(ranges) == 1 else re.findall(_TIME, text)
    times = [_seconds(time) for time in named]
    if len(times) != 2 or _NEGATIVE.search(text) or not all(map(math.isfinite, times)):
        return None
    return Window(min(times), max(times))


def parse_timestamp(answer: str | None) -> float | None:
    """The second that an answer names: its only time; None without it."""
    times = [_seconds(time) for time in re.findall(_TIME, _in_seconds(answer or ""))]
    return times[0] if len(times) == 1 and math.isfinite(times[0]) and not _NEGATIVE.search(answer) else None


def _in_seconds(text: str) -> str:
    """The text with `2 min 5 s` as `125 s` and `1,200` as `1200`."""
    whole = _THOUSANDS.sub("", text)
    return _DURATION.sub(lambda m: f"{_total(m.groups()):.10g} s " if m[0].strip() else m[0], whole)


def _total(parts: tuple[str | None, ...]) -> float:
    return sum(float(part) * unit for part, unit in zip(parts, (3600, 60, 1), strict=True) if part)


def _seconds(time: str) -> float:
    """A clock time or a number, with or without its unit, in seconds."""
    parts = [float(part) for part in re.sub(_UNIT, "", time).split(":")]
    return sum(part * 60**power for power, part in enumerate(reversed(parts)))


def is_well_formed(turns: list[str]) -> bool:
    """The strict grammar on the assistant's own turns: each but the last thinks and calls, the last thinks and answers.

    A turn that itself contains a tool response is forged and not well formed.
    """
    if not turns or not _ANSWER_TURN.fullmatch(turns[-1]):
        return False
    return all(_is_call_turn(turn) for turn in turns[:-1])


def _is_call_turn(turn: str) -> bool:
    match = _CALL_TURN.fullmatch(turn)
    try:
        return match is not None and bool(parse_tool_call(match["call"]))
    except ToolError:
        return False


def split_turns(text: str) -> list[str]:
    """A whole trajectory's text as the assistant's turns: cut after every tool call, tool responses removed."""
    turns = []
    while match := re.match(rf"{_BODY}<think>{_BODY}</think>{_CALL}", text, re.DOTALL):
        turns.append(match[0])
        text = text[match.end() :]
        if response := _RESPONSE.match(text):
            text = text[response.end() :]
    return [*turns, text]
