"""An OpenAI-compatible server for tests: it replies what it is told to, or fails on purpose."""

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Server(ThreadingHTTPServer):
    """An OpenAI-compatible endpoint that replies what it is told to: a text, or a status that fails on purpose."""

    def __init__(self, replies: list[str | int]):
        self.replies, self.requests = replies, []
        super().__init__(("127.0.0.1", 0), Handler)


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        self.server.requests.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        reply = self.server.replies.pop(0) if len(self.server.replies) > 1 else self.server.replies[0]
        self.send_response(reply if isinstance(reply, int) else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Retry-After", "0.01")
        self.end_headers()
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": str(reply)}}
        body = {"id": "1", "object": "chat.completion", "created": 0, "model": "judge", "choices": [choice]}
        self.wfile.write(json.dumps(body).encode())

    def log_message(self, *_):
        pass
