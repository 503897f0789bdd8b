"""The endpoint of a judge in tests: it replies with texts and statuses."""

from collections.abc import Callable
from typing import Any

from chat_server import ChatServer, text

Reply = str | int  # a text, or the status of a failure


class Server(ChatServer):
    """Replies in turn, the last one for ever; or what a function makes of the request. `finish_reason` of texts."""

    def __init__(self, replies: list[Reply] | Callable[[dict[str, Any]], Reply], finish_reason: str = "stop"):
        self.finish_reason = finish_reason
        super().__init__(*([lambda request: self.choice(replies(request))] if callable(replies) else replies))

    def reply(self) -> Any:
        return self.choice(super().reply())

    def choice(self, reply: Any) -> Any:
        return text(reply) | {"finish_reason": self.finish_reason} if isinstance(reply, str) else reply
