"""A model's reply as a turn of the tag grammar: `<think>..</think>` and then one tool call or the answer.

A native tool call is written as the tag grammar writes it, so that one parser, one record and one metric serve all
agents. Nothing is made up: a reply that holds neither one call nor one answer is an `UnreadableReply`.
"""

import json
import re
from typing import Any

from openai.types.chat import ChatCompletionMessage
from openai.types.chat.chat_completion import Choice
from pydantic_core import from_json

from medscope.environment.grammar import find_tool_call, parse_answer

_TAG = re.compile(r"</?(?:think|tool_call|tool_response|answer)>")
_ANSWER = re.compile(r"<answer>.*?</answer>", re.DOTALL)
_CALL_END = "</tool_call>"


class UnreadableReply(ValueError):
    """A reply without one call or one answer; the message says why, for the model to read."""


def read_turn(choice: Choice, native: bool) -> str:
    """The turn of a reply. With `native` a tool call of the API is one, too. Raises `UnreadableReply`."""
    message = choice.message
    if choice.finish_reason == "length":
        raise UnreadableReply("it was cut off; be shorter")
    if native and message.tool_calls:
        return _call_turn(message)
    text = valid_text(message.content or "")
    if find_tool_call(text) or (_CALL_END in text and find_tool_call(_to_first_call(text))):
        return _with_thought(message, _to_first_call(text))
    answer = parse_answer(text)
    if answer is None:
        raise UnreadableReply("it holds neither one tool call nor exactly one <answer>..</answer>")
    if not native:
        return _with_thought(message, text)
    return f"<think>{_thought(message, _ANSWER.sub('', text))}</think><answer>{answer}</answer>"


def call_turn(thought: str, name: str, arguments: str) -> str:
    """A native call as a turn. A `<` in an argument is written as its JSON escape, so that it cannot end the tag."""
    try:
        given = from_json(arguments or "{}")
    except ValueError:
        raise UnreadableReply("the arguments of its tool call are no JSON") from None
    if not isinstance(given, dict):
        raise UnreadableReply("the arguments of its tool call are no JSON object")
    call = json.dumps({"name": valid_text(name), "arguments": given}).replace("<", "\\u003c")
    return f"<think>{thought}</think><tool_call>{call}</tool_call>"


def _call_turn(message: ChatCompletionMessage) -> str:
    function = getattr(message.tool_calls[0], "function", None)
    if len(message.tool_calls) > 1 or function is None:
        raise UnreadableReply(f"it makes {len(message.tool_calls)} tool calls; call one function at a time")
    return call_turn(_thought(message, valid_text(message.content or "")), function.name, function.arguments)


def _to_first_call(text: str) -> str:
    """The text up to its first call. What stands behind it is a response that the model has only imagined."""
    before, end, _ = text.partition(_CALL_END)
    return before + end


def _thought(message: ChatCompletionMessage, text: str) -> str:
    """What the model thought: its reasoning, where the server gives it apart, and the text, without tags."""
    return _TAG.sub(" ", f"{_reasoning(message)}\n{text}").strip()


def _with_thought(message: ChatCompletionMessage, text: str) -> str:
    """The text as the model wrote it. A thought that the server has cut out of it is put back in front."""
    reasoning = _TAG.sub(" ", _reasoning(message)).strip()
    return text if "<think>" in text or not reasoning else f"<think>{reasoning}</think>{text}"


def _reasoning(message: ChatCompletionMessage) -> str:
    extra = message.model_extra or {}
    found = extra.get("reasoning_content") or extra.get("reasoning") or ""
    return valid_text(found) if isinstance(found, str) else ""


def valid_text(text: str) -> str:
    """Text that UTF-8 can write: JSON may hold half of a surrogate pair."""
    return text.encode(errors="replace").decode()


def valid_json(value: Any) -> Any:
    """A value of JSON in which every text is one that UTF-8 can write."""
    return json.loads(valid_text(json.dumps(value, ensure_ascii=False)))
