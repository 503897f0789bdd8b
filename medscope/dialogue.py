"""What is said: prompts, the tag grammar, and the only parser from the model's text to tool calls and answers."""

import json
import math
import re
from typing import Any

from pydantic_core import from_json
from transformers.utils import get_json_schema
from trl.chat_template_utils import qwen3_vl_chat_template

from medscope.environment import Blocks, ClinicalVideoEnvironment
from medscope.records import Window
from medscope.tools import ToolError

CHAT_TEMPLATE = qwen3_vl_chat_template  # the Qwen2.5-VL layout plus tools; the model's own template drops them
TOOLS = [get_json_schema(getattr(ClinicalVideoEnvironment, name)) for name in ("crop_video", "get_frame")]
for _tool in TOOLS:  # what a tool returns is for the reader of the code, not part of the model's prompt
    _tool["function"].pop("return", None)

SYSTEM = (
    "You answer questions about a clinical video that you have skimmed: every frame is followed by its second. "
    "Think inside <think> tags: name what to find, tell the storyline with its seconds, choose the window to verify. "
    "Give the final answer inside <answer> tags, once, after the last thought."
)
SYSTEM_TOOLS = SYSTEM + (
    " Before answering, look closely: crop_video shows a window densely, get_frame one second at high resolution. "
    "Call one tool after a thought, then think again about what it showed."
)

MAX_ANSWER_CHARACTERS = 1000
_BODY = r"(?:(?!</?(?:think|tool_call|tool_response|answer)>).)*?"
_THINK = rf"\s*<think>{_BODY}</think>"
_CALL = rf"\s*<tool_call>(?P<call>{_BODY})</tool_call>"
_ANSWER = rf"\s*<answer>(?P<answer>{_BODY})</answer>\s*"
_CALL_TURN = re.compile(_THINK + _CALL + r"\s*", re.DOTALL)
_ANSWER_TURN = re.compile(_THINK + _ANSWER, re.DOTALL)
_ANY_CALL = re.compile(rf"<tool_call>({_BODY})</tool_call>", re.DOTALL)
_ANY_ANSWER = re.compile(rf"<answer>({_BODY})</answer>", re.DOTALL)
_RESPONSE = re.compile(r"\s*<tool_response>.*?</tool_response>", re.DOTALL)
_NUMBER = re.compile(r"\d+(?:\.\d+)?")


def opening(question: str, skim: Blocks, tools: bool = True) -> list[dict[str, Any]]:
    """The first messages of a dialogue: the system prompt, then the skim and the question."""
    text = {"type": "text", "text": f"\n{question}"}
    return [
        {"role": "system", "content": SYSTEM_TOOLS if tools else SYSTEM},
        {"role": "user", "content": [*skim, text]},
    ]


def call_text(name: str, arguments: dict[str, float]) -> str:
    """A tool call as the model writes it; whole seconds without a decimal point."""
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


def execute_call(environment: ClinicalVideoEnvironment, turn: str) -> Blocks | None:
    """Run the turn's tool call; None when it makes none. A refused call answers with an error the model can act on."""
    call = find_tool_call(turn)
    if call is None:
        return None
    try:
        name, arguments = parse_tool_call(call)
    except ToolError as error:
        environment._refuse(call, error)
        return [{"type": "text", "text": f"error: {error}"}]
    try:
        return environment._execute(name, arguments)
    except ToolError as error:
        return [{"type": "text", "text": f"error: {error}"}]


def parse_answer(text: str) -> str | None:
    """The text of the only `<answer>`, or None when there is none or more than one."""
    answers = _ANY_ANSWER.findall(text)
    return answers[0].strip() if len(answers) == 1 and text.count("<answer>") == 1 else None


def parse_window(answer: str | None) -> Window | None:
    """The window that an answer names: its only two numbers, in seconds, reordered if swapped; None without them."""
    numbers = [float(n) for n in _NUMBER.findall(answer or "")]
    return Window(min(numbers), max(numbers)) if len(numbers) == 2 and max(numbers) < math.inf else None


def is_well_formed(turns: list[str]) -> bool:
    """The strict grammar on the model's own turns: each but the last thinks and calls, the last thinks and answers.

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
    """A whole trajectory's text as the model's turns: cut after every tool call, tool responses removed."""
    turns = []
    while match := re.match(rf"{_BODY}<think>{_BODY}</think>{_CALL}", text, re.DOTALL):
        turns.append(match[0])
        text = text[match.end() :]
        if response := _RESPONSE.match(text):
            text = text[response.end() :]
    return [*turns, text]
