"""An agent behind any OpenAI-compatible vision endpoint: vLLM, SGLang, llama.cpp or a hosted model.

It sees what the local policy sees, frames as JPEG, each followed by its second, and acts by native tool calls or by the
tag grammar. Its turns come back in the tag grammar either way.
"""

from collections import OrderedDict
from threading import Lock
from typing import Any, Literal

from openai.types.chat.chat_completion import Choice

from medscope.agents.chat import Message, to_chat, within_context
from medscope.agents.frames import FrameEncoder
from medscope.agents.replies import UnreadableReply, read_turn, valid_json, valid_text
from medscope.environment.prompts import SYSTEM, TOOLS
from medscope.environment.tools import ToolBudget
from medscope.remote import DialogueFailed, EndpointError, RemoteModel

FRAME_BYTES = 65_536  # of a frame as JPEG
REMEMBERED_CALLS = 1024
TOOLS_TOKENS = 512  # of the definitions of the tools
AGAIN = "Your reply cannot be used: {error}. Reply again: a thought, then one tool call or <answer>..</answer>."


class EndpointAgent:
    """An `Agent`. Threads and episodes may share it; what it costs is counted in `remote.usage`.

    `calls` is `native` (tool calls of the API) or `tags` (the grammar as text, for servers without). No tools are
    offered in a dialogue whose system prompt is the one without tools. `budget` gives the length of a turn and of the
    context. `request` changes what is asked of the API; None takes a field out: `{"max_tokens": None,
    "max_completion_tokens": 4096, "temperature": None}` suits models that think at length.
    """

    def __init__(
        self,
        remote: RemoteModel,
        budget: ToolBudget,
        calls: Literal["native", "tags"] = "native",
        frame_bytes: int = FRAME_BYTES,
        temperature: float = 0.0,
        request: dict[str, Any] | None = None,
    ):
        if calls not in ("native", "tags"):
            raise ValueError(f"calls is {calls!r}; choose native or tags")
        self.remote, self.budget, self.native = remote, budget, calls == "native"
        self.encode = FrameEncoder(frame_bytes)
        self.request = {"temperature": temperature, "max_tokens": budget.max_turn_tokens, **(request or {})}
        self._lock = Lock()
        self._calls: OrderedDict[str, Message] = OrderedDict()  # turn -> its call as the endpoint wrote it

    def next_turn(self, messages: list[dict[str, Any]]) -> str:
        """The model's next turn. A reply that cannot be read is asked for again once, with the reason.

        Raises `EndpointError`, whose `turns` are those of the dialogue so far: `DialogueFailed` for two such replies
        and for a dialogue that is too long.
        """
        try:
            return self._next_turn(messages)
        except EndpointError as error:
            error.turns = tuple(message["content"] for message in messages if message["role"] == "assistant")
            raise

    def _next_turn(self, messages: list[Message]) -> str:
        tools = messages[0]["content"] != SYSTEM
        try:
            fitting = within_context(messages, self.budget.context_tokens - self.budget.max_turn_tokens - TOOLS_TOKENS)
        except ValueError as error:
            raise DialogueFailed(str(error)) from None
        chat, frames = to_chat(fitting, self.encode, self.native, tools, self._calls)
        sends = f"{len(frames)} frames of the video and the question ({_question(messages)})"
        if tools:
            sends += ", then the frames of every tool call,"
        choice = self.remote.complete(chat, sends, frames, **self._fields(tools))
        try:
            return self._read(choice)
        except UnreadableReply as error:
            chat += [
                {"role": "assistant", "content": valid_text(choice.message.content or "(no text)")},
                {"role": "user", "content": AGAIN.format(error=error)},
            ]
        choice = self.remote.complete(chat, sends, frames, **self._fields(tools))
        try:
            return self._read(choice)
        except UnreadableReply as error:
            said = valid_text(choice.message.content or "")[-200:]
            raise DialogueFailed(
                f"the model {self.remote.model} at {self.remote.url} twice gave a reply that cannot be read: {error}; "
                f"the last one ends in {said!r}"
            ) from None

    def _fields(self, tools: bool) -> dict[str, Any]:
        fields = {**self.request}
        if tools and self.native:
            fields = {"tools": TOOLS, "parallel_tool_calls": False, **fields}
        return {name: value for name, value in fields.items() if value is not None}

    def _read(self, choice: Choice) -> str:
        turn = read_turn(choice, self.native)
        if self.native and choice.message.tool_calls:
            with self._lock:
                self._calls[turn] = valid_json(choice.message.tool_calls[0].model_dump(exclude_unset=True))
                while len(self._calls) > REMEMBERED_CALLS:
                    self._calls.popitem(last=False)
        return turn


def _question(messages: list[Message]) -> str:
    """The beginning of the user's own text, for the message that says what would be sent."""
    content = next(message["content"] for message in messages if message["role"] == "user")
    text = content if isinstance(content, str) else content[-1]["text"]
    return repr(text.strip()[:80])
