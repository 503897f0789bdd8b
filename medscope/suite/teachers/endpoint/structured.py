"""Replies of a schema: a prompt, frames and data go to the endpoint, a pydantic object comes back.

A reply that does not fit its schema is asked for again once, with the error. What still does not fit, and a request
that the endpoint refuses for itself, is a `BadReply`: it says nothing about the next item. An outage is an
`EndpointError`.
"""

import asyncio
import json
from collections.abc import Mapping
from hashlib import sha256
from typing import Any, TypeVar

from openai.types.chat.chat_completion import Choice
from pydantic import BaseModel, ConfigDict, ValidationError

from medscope.agents.chat import to_chat
from medscope.agents.endpoint_agent import FRAME_BYTES
from medscope.agents.frames import FrameEncoder
from medscope.agents.replies import valid_text
from medscope.environment.environment import Blocks
from medscope.remote import EndpointError, RemoteModel, is_fault_of_item
from medscope.suite.teachers.endpoint.prompts import Prompt

AGAIN = "Your reply cannot be used: {error}. Reply again with the JSON object of the schema and nothing else."
ERROR_CHARACTERS = 500


class Reply(BaseModel):
    """A reply's schema. All fields are required and no others are allowed, as strict `json_schema` asks for.

    Limits stand in validators, not in the schema: not every endpoint knows `maxLength`.
    """

    model_config = ConfigDict(extra="forbid")


SomeReply = TypeVar("SomeReply", bound=Reply)


class BadReply(ValueError):
    """The endpoint gave no usable reply for one item. The text up to the first colon is the same for all such items."""


class StructuredModel:
    """Asks a `RemoteModel` in threads. Steps share one.

    `request` changes what is asked of the API; None takes a field out (see `EndpointAgent`).
    """

    def __init__(
        self,
        remote: RemoteModel,
        max_tokens: int = 2048,
        temperature: float = 0.2,
        frame_bytes: int = FRAME_BYTES,
        request: Mapping[str, Any] | None = None,
    ):
        self.remote, self.encode = remote, FrameEncoder(frame_bytes)
        self.max_tokens, self.temperature, self.request = max_tokens, temperature, dict(request or {})

    @property
    def identity(self) -> list[Any]:
        """What of the model decides a reply, for content keys. The URL is not part of it: servers move."""
        return [self.remote.model, self.max_tokens, self.temperature, self.encode.max_bytes, self.request]

    async def ask(
        self,
        prompt: Prompt,
        schema: type[SomeReply],
        data: Mapping[str, Any],
        blocks: Blocks = (),
        context: Mapping[str, Any] | None = None,
        temperature: float | None = None,
    ) -> SomeReply:
        """The reply to a prompt about frames and data. `context` is what the schema's validators read.

        Raises `BadReply` and `EndpointError`.
        """
        return await asyncio.to_thread(self._ask, prompt, schema, data, blocks, context, temperature)

    def _ask(
        self,
        prompt: Prompt,
        schema: type[SomeReply],
        data: Mapping[str, Any],
        blocks: Blocks,
        context: Mapping[str, Any] | None,
        temperature: float | None,
    ) -> SomeReply:
        chat, frames = to_chat(
            [
                {"role": "system", "content": prompt.text},
                {"role": "user", "content": [*blocks, {"type": "text", "text": json.dumps(data, ensure_ascii=False)}]},
            ],
            self.encode,
            native=False,
            tools=False,
        )
        fields = self._fields(schema, temperature)
        sends = f"{len(frames)} frames of a video, with what is asked about them ({prompt.name}),"
        error = ""
        for _ in range(2):
            try:
                choice = self.remote.complete(chat, sends, frames, **fields)
            except EndpointError as failure:
                if is_fault_of_item(failure):
                    raise BadReply(f"the endpoint refuses the request: {failure}") from failure
                raise
            try:
                return read_reply(choice, schema, context)
            except ValueError as failure:
                error = str(failure)
            chat += [
                {"role": "assistant", "content": _text(choice) or "(no text)"},
                {"role": "user", "content": AGAIN.format(error=error)},
            ]
        raise BadReply(f"the {prompt.name} reply cannot be used: {error}")

    def _fields(self, schema: type[Reply], temperature: float | None) -> dict[str, Any]:
        named = {"name": schema.__name__, "schema": schema.model_json_schema(), "strict": True}
        fields = {
            "response_format": {"type": "json_schema", "json_schema": named},
            "max_tokens": self.max_tokens,
            "temperature": self.temperature if temperature is None else temperature,
            **self.request,
        }
        return {name: value for name, value in fields.items() if value is not None}


def read_reply(choice: Choice, schema: type[SomeReply], context: Mapping[str, Any] | None = None) -> SomeReply:
    """The object of a reply. Raises ValueError of one line, which the model can act on and which repeats none of it."""
    if choice.finish_reason == "length":
        raise ValueError("it was cut off; be shorter")
    if choice.finish_reason == "content_filter" or choice.message.refusal:
        raise ValueError("it is a refusal")
    try:
        return schema.model_validate_json(_text(choice), context=dict(context or {}))
    except ValidationError as error:
        faults = [
            f"{'.'.join(map(str, fault['loc'])) or 'the reply'}: {' '.join(fault['msg'].split())}"
            for fault in error.errors(include_url=False, include_input=False)
        ]
        raise ValueError("; ".join(faults)[:ERROR_CHARACTERS]) from None


def _text(choice: Choice) -> str:
    return valid_text(choice.message.content or "")


def content_key(*parts: Any) -> str:
    """A name for a request by its content: the same parts give the same key on every machine."""
    return sha256(json.dumps(parts, sort_keys=True, ensure_ascii=False, default=str).encode()).hexdigest()
