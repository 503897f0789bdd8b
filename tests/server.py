"""An OpenAI-compatible server for tests: it replies what it is told to, or fails on purpose."""

import json
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Reply = str | int  # a text, or the status of a failure


class Server(ThreadingHTTPServer):
    """Replies in turn, the last one for ever; or what a function makes of the request. `finish_reason` of texts."""

    def __init__(self, replies: list[Reply] | Callable[[dict[str, Any]], Reply], finish_reason: str = "stop"):
        self.replies, self.finish_reason, self.requests = replies, finish_reason, []
        super().__init__(("127.0.0.1", 0), Handler)

    def reply(self, request: dict[str, Any]) -> Reply:
        self.requests.append(request)
        if callable(self.replies):
            return self.replies(request)
        return self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        reply = self.server.reply(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(reply if isinstance(reply, int) else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Retry-After", "0.01")
        self.end_headers()
        message = {"role": "assistant", "content": str(reply)}
        choice = {"index": 0, "finish_reason": self.server.finish_reason, "message": message}
        body = {"id": "1", "object": "chat.completion", "created": 0, "model": "judge", "choices": [choice]}
        self.wfile.write(json.dumps(body).encode())

    def log_message(self, *_):
        pass
