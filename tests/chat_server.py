"""A scripted OpenAI-compatible server for tests of the endpoint agent: it sees what is sent and replies by a script."""

import base64
import io
import json
import re
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import numpy as np
from PIL import Image


def text(content, **fields):
    """A reply in words."""
    return {"message": {"role": "assistant", "content": content, **fields}}


def call(name, arguments, content=None, **fields):
    """A native tool call; `arguments` may be a text that is no JSON."""
    given = arguments if isinstance(arguments, str) else json.dumps(arguments)
    function = {"id": "c1", "type": "function", "function": {"name": name, "arguments": given}, **fields}
    return text(content, tool_calls=[function]) | {"finish_reason": "tool_calls"}


class ChatServer(ThreadingHTTPServer):
    """Replies in turn, the last one for ever.

    A reply is a choice (`text`, `call`), a status, bytes of a body, "die" (the line is cut before a reply), a number of
    seconds as float (it hangs), a URL that it redirects to, or a function that makes one of these of the request.
    """

    daemon_threads = True

    def __init__(self, *replies):
        self.replies, self.requests = list(replies), []
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}/v1"
        Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    def reply(self):
        return self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]

    def close(self):
        self.shutdown()
        self.server_close()


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.requests.append(request := json.loads(body))
        reply = self.server.reply()
        if callable(reply):
            reply = reply(request)
        if reply == "die":
            self.close_connection = True
            return
        if isinstance(reply, float):
            time.sleep(reply)
            return
        self.send_response(reply if isinstance(reply, int) else 307 if isinstance(reply, str) else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Retry-After", "0.01")
        if isinstance(reply, str):
            self.send_header("Location", reply)
        self.end_headers()
        self.wfile.write(reply if isinstance(reply, bytes) else completion(reply))

    def log_message(self, *_):
        pass


def completion(reply):
    if not isinstance(reply, dict):
        return b"{}"
    choice = {"index": 0, "finish_reason": "stop", **reply}
    usage = {"prompt_tokens": 1000, "completion_tokens": 10, "total_tokens": 1010}
    head = {"id": "1", "object": "chat.completion", "created": 0, "model": "m"}
    return json.dumps(head | {"choices": [choice], "usage": usage}).encode()


def frames_of(request):
    """(second that the text behind a frame tells, its picture) of every frame in a request, in order."""
    parts = [p for m in request["messages"] if isinstance(m["content"], list) for p in m["content"]]
    found = []
    for part, behind in zip(parts, [*parts[1:], None], strict=True):
        if part["type"] == "image_url":
            content = base64.b64decode(part["image_url"]["url"].removeprefix("data:image/jpeg;base64,"), validate=True)
            assert content.startswith(b"\xff\xd8") and len(content) <= 65_536
            found.append(
                (float(re.fullmatch(r" ([\d.]+)s", behind["text"])[1]), np.asarray(Image.open(io.BytesIO(content))))
            )
    return found
