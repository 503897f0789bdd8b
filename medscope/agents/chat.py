"""A dialogue of `agents.protocol` as OpenAI chat messages, within a number of tokens.

Tool responses go as the API knows them: a `tool` message holds text only, so that frames follow in a `user` message.
In the tag grammar they are text between `<tool_response>` tags, as the local policy reads them.
"""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from PIL import Image

from medscope.agents.frames import data_uri
from medscope.environment.environment import Blocks
from medscope.environment.grammar import find_tool_call, parse_tool_call
from medscope.environment.prompts import TOOLS
from medscope.environment.tools import ToolError
from medscope.environment.video import PATCH_FACTOR

Message = dict[str, Any]
BYTES_PER_TOKEN = 3  # of text; English has four and more
MESSAGE_TOKENS = 16  # of the template around a message

NATIVE = "\nCall the functions natively, one at a time; write no <tool_call> yourself."
TAGGED = (
    "\nThe tools are:\n<tools>\n{tools}\n</tools>\n"
    'Call one by ending your turn with <tool_call>{{"name": .., "arguments": {{..}}}}</tool_call>.'
)
_CONTROL = re.compile(r"<\|")
_THOUGHT = re.compile(r"<think>(.*?)</think>", re.DOTALL)


def to_chat(
    messages: list[Message],
    encode: Callable[[Image.Image], bytes],
    native: bool,
    tools: bool,
    calls: Mapping[str, Message] | None = None,
) -> tuple[list[Message], list[bytes]]:
    """The chat messages, and the JPEGs of their frames in order.

    `calls` maps a turn to the native call as the endpoint wrote it: some servers want more back than id, name and
    arguments.
    """
    frames: list[bytes] = []
    chat: list[Message] = []
    called: str | None = None  # the id of the native call that is answered next
    for number, message in enumerate(messages):
        content = message["content"]
        if message["role"] == "system":
            chat.append({"role": "system", "content": content + (_instructions(native) if tools else "")})
        elif message["role"] == "assistant":
            turn = _native_call(content, f"call_{number}", calls or {}) if native and tools else None
            called = turn["tool_calls"][0]["id"] if turn else None
            chat.append(turn or {"role": "assistant", "content": content})
        else:
            blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
            if message["role"] == "tool" and called is not None:
                chat += _native_response(called, blocks, encode, frames)
            elif message["role"] == "tool":
                tags = ({"type": "text", "text": f"<{slash}tool_response>"} for slash in ("", "/"))
                chat.append({"role": "user", "content": _parts([next(tags), *blocks, next(tags)], encode, frames)})
            else:
                chat.append({"role": "user", "content": _parts(blocks, encode, frames)})
    return chat, frames


def _instructions(native: bool) -> str:
    return NATIVE if native else TAGGED.format(tools="\n".join(json.dumps(tool) for tool in TOOLS))


def _native_call(turn: str, name: str, calls: Mapping[str, Message]) -> Message | None:
    """A turn's call in the form of the API; None for a turn without one that can be read."""
    thought = " ".join(_THOUGHT.findall(turn)).strip()
    if turn in calls:
        return {"role": "assistant", "content": thought, "tool_calls": [calls[turn]]}
    try:
        function, arguments = parse_tool_call(find_tool_call(turn) or "")
    except ToolError:
        return None
    call = {"id": name, "type": "function", "function": {"name": function, "arguments": json.dumps(arguments)}}
    return {"role": "assistant", "content": thought, "tool_calls": [call]}


def _native_response(
    name: str, blocks: Blocks, encode: Callable[[Image.Image], bytes], frames: list[bytes]
) -> list[Message]:
    shown = any(block["type"] == "image" for block in blocks)
    text = "The frames follow." if shown else "".join(block["text"] for block in blocks)
    answer = {"role": "tool", "tool_call_id": name, "content": _plain(text)}
    return [answer, {"role": "user", "content": _parts(blocks, encode, frames)}] if shown else [answer]


def _parts(blocks: Blocks, encode: Callable[[Image.Image], bytes], frames: list[bytes]) -> list[Message]:
    """Content parts: a frame as a data URI, text and captions as text."""
    parts: list[Message] = []
    for block in blocks:
        if block["type"] == "image":
            frames.append(encode(block["image"]))
            parts.append({"type": "image_url", "image_url": {"url": data_uri(frames[-1])}})
        else:
            parts.append({"type": "text", "text": _plain(block["text"])})
    return parts


def _plain(text: str) -> str:
    """Untrusted text whose control tokens (`<|im_end|>`) a server's tokenizer cannot take for its own."""
    return _CONTROL.sub("< |", text)


def estimated_tokens(message: Message) -> int:
    """An estimate of a message's tokens: Qwen's 28 x 28 pixels each, text by its bytes."""
    content = message["content"]
    blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
    tokens = MESSAGE_TOKENS
    for block in blocks:
        if block["type"] == "image":
            tokens += -(-block["image"].width // PATCH_FACTOR) * -(-block["image"].height // PATCH_FACTOR)
        else:
            tokens += -(-len(block["text"].encode(errors="replace")) // BYTES_PER_TOKEN)
    return tokens


def within_context(messages: list[Message], tokens: int) -> list[Message]:
    """The messages with the frames of the oldest tool responses replaced by a note, until `tokens` are enough.

    The skim, the question and the newest response stay. Raises ValueError where those alone are too long.
    """
    kept = list(messages)
    responses = [i for i, message in enumerate(kept) if message["role"] == "tool" and _shows_frames(message)]
    newest = len(kept) - 1
    used = sum(map(estimated_tokens, kept))
    for index in responses:
        if used <= tokens or index == newest:
            break
        used -= estimated_tokens(kept[index])
        kept[index] = {"role": "tool", "content": _note(kept[index]["content"])}
        used += estimated_tokens(kept[index])
    if used > tokens:
        raise ValueError(
            f"the dialogue takes about {used} tokens, but the context has room for {max(0, tokens)}; shorten the "
            "question, lower skim_frames, crop_frames or their pixels, or raise context_tokens"
        )
    return kept


def _shows_frames(message: Message) -> bool:
    return not isinstance(message["content"], str) and any(block["type"] == "image" for block in message["content"])


def _note(blocks: Blocks) -> Blocks:
    seconds = [block["second"] for block in blocks if "second" in block]
    span = f" from {min(seconds):g} to {max(seconds):g} s" if seconds else ""
    return [{"type": "text", "text": f"(the frames{span} were shown here; they are left out to keep to the context)"}]
