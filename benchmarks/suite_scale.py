"""Suite making over 10^5 items against a server on this machine: items a second, peak memory, a restart after kill -9.

    python benchmarks/suite_scale.py

Three stand-in steps, caption, question and check, ask one request an item through the real client and runner; every
tenth question is rejected. The server is a process of its own that replies at once and remembers every request, so
the numbers are the cost of the machinery. One worker makes a tenth of the items. Another makes all, is killed with
SIGKILL half-way and started again. Memory is the peak of the worker's resident set.
"""

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
import urllib.request
from hashlib import blake2b
from pathlib import Path
from typing import Any

from medscope.records import Caption, Task, Text, Window
from medscope.remote import RemoteModel
from medscope.suite.bulk import Rejected, read_step, run_step

STEPS = 3
SECONDS = 30.0  # of a window
FLAT, REPEATED = 1.2, 0.001  # what the project promises
REPLY = {
    "id": "1",
    "object": "chat.completion",
    "created": 0,
    "model": "m",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "seen " * 50}}],
    "usage": {"prompt_tokens": 1000, "completion_tokens": 50, "total_tokens": 1050},
}


class Ask:
    """One request an item: the item as text behind as many bytes as frames would need."""

    def __init__(self, url: str, payload: int):
        self.remote, self.payload = RemoteModel(url=url, model="m", trip=10**9), "x" * payload

    async def ask(self, text: str) -> str:
        messages = [{"role": "user", "content": f"{self.name}: {text} {self.payload}"}]
        return (await asyncio.to_thread(self.remote.complete, messages, "text")).message.content


class CaptionStep(Ask):
    name = "captions"

    def key(self, number: int) -> str:
        return f"{number}-m"

    async def __call__(self, number: int) -> Caption:
        start = SECONDS * (number % 100)
        return Caption(f"video {number // 100}", Window(start, start + SECONDS), await self.ask(str(number)))


class QuestionStep(Ask):
    name = "questions"

    def key(self, caption: Caption) -> str:
        return f"{caption.video}-{caption.window.start}-m"

    async def __call__(self, caption: Caption) -> Task | Rejected:
        name = f"{caption.video} {caption.window.start:g}"
        answer = Text(await self.ask(name))
        if caption.window.start % (10 * SECONDS) == 0:
            return Rejected(f"tenth: {name}")
        return Task(name, caption.video, "", "What is seen?", answer, caption.window, "what", "sft", "synthetic")


class CheckStep(Ask):
    name = "checks"

    def key(self, task: Task) -> str:
        return f"{task.id}-m"

    async def __call__(self, task: Task) -> Task:
        await self.ask(task.id)
        return task


async def work(folder: str, url: str, items: int, concurrency: int, payload: int) -> None:
    """All steps in turn. Each reads what the step before has kept, one record at a time."""
    steps = CaptionStep(url, payload), QuestionStep(url, payload), CheckStep(url, payload)
    sources = range(items), read_step(folder, "captions", Caption), read_step(folder, "questions", Task)
    for step, source in zip(steps, sources, strict=True):
        print(await run_step(step, source, folder, concurrency, usage=step.remote.usage), flush=True)


class Counted(asyncio.Protocol):
    """A POST is a chat completion and is counted; a GET tells the counts: [requests, different ones]."""

    requests, seen = 0, set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport, self.buffer = transport, b""

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while (end := self.buffer.find(b"\r\n\r\n")) >= 0:
            head = self.buffer[:end].lower()
            length = int(head.partition(b"content-length:")[2].split(b"\r\n")[0] or 0)
            if len(self.buffer) < end + 4 + length:
                return
            body, self.buffer = self.buffer[end + 4 : end + 4 + length], self.buffer[end + 4 + length :]
            reply: Any = REPLY
            if head.startswith(b"post"):
                Counted.requests += 1
                Counted.seen.add(blake2b(body, digest_size=12).digest())
            else:
                reply = [Counted.requests, len(Counted.seen)]
            text = json.dumps(reply).encode()
            length = str(len(text)).encode()
            self.transport.write(
                b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: " + length + b"\r\n\r\n" + text
            )


async def serve() -> None:
    """Print the port, then reply for ever."""
    server = await asyncio.get_running_loop().create_server(Counted, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def counts(url: str) -> tuple[int, int]:
    with urllib.request.urlopen(url) as reply:
        requests, different = json.load(reply)
    return requests, different


def peak_mib(process: subprocess.Popen) -> float:
    """The highest resident set of a process that still lives (Linux)."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))) / 1024


def run(words: list[str], url: str, kill_at: int | None = None) -> tuple[float, float]:
    """Seconds and peak MiB of a worker, which is killed when the server has seen `kill_at` requests."""
    started, peak = time.monotonic(), 0.0
    with subprocess.Popen([sys.executable, __file__, "work", *words]) as process:
        while process.poll() is None:
            try:
                peak = max(peak, peak_mib(process))
            except (OSError, StopIteration):  # it has just ended
                break
            if kill_at is not None and counts(url)[0] >= kill_at:
                process.kill()
                break
            time.sleep(0.2)
    if process.returncode not in (0, -9):
        raise SystemExit(f"the worker ended with {process.returncode}")
    return time.monotonic() - started, peak


def measure(items: int, kill: bool, concurrency: int, payload: int) -> dict[str, Any]:
    """Make `items` against a server of their own, with a kill half-way if told to."""
    server = subprocess.Popen([sys.executable, __file__, "serve"], stdout=subprocess.PIPE, text=True)
    try:
        url = f"http://127.0.0.1:{int(server.stdout.readline())}/v1"
        with tempfile.TemporaryDirectory() as folder:
            words = [folder, url, str(items), str(concurrency), str(payload)]
            parts = [run(words, url, kill_at=items * STEPS // 2)] if kill else []
            parts.append(run(words, url))
            kept = sum(1 for _ in read_step(folder, "checks", Task))
        requests, different = counts(url)
    finally:
        server.kill()
        server.wait()
    seconds, peak = sum(part[0] for part in parts), max(part[1] for part in parts)
    wanted = 3 * items - -(-items // 10)  # every tenth question is rejected, so not checked
    if different != wanted or kept != items - -(-items // 10):
        raise SystemExit(f"{different} different requests, {kept} kept; {wanted} and nine tenths are expected")
    return {
        "items": items,
        "killed": kill,
        "items_per_s": round(items / seconds, 1),
        "requests_per_s": round(requests / seconds, 1),
        "peak_MiB": round(peak, 1),
        "requests": requests,
        "repeated": requests - different,
    }


def main() -> None:
    """Command line: see --help. `serve` and `work` are the processes that it starts."""
    if sys.argv[1:2] == ["serve"]:
        return asyncio.run(serve())
    if sys.argv[1:2] == ["work"]:
        folder, url, *numbers = sys.argv[2:]
        return asyncio.run(work(folder, url, *map(int, numbers)))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--concurrency", type=int, default=16)
    parser.add_argument("--payload", type=int, default=2_000, help="bytes of a request behind its text")
    parser.add_argument("--dry-run", action="store_true", help="write no results")
    arguments = parser.parse_args()
    rows = []
    for items, kill in ((arguments.items // 10, False), (arguments.items, True)):
        rows.append(measure(items, kill, arguments.concurrency, arguments.payload))
        print(rows[-1], flush=True)
    rows[1]["peak_ratio"] = round(rows[1]["peak_MiB"] / rows[0]["peak_MiB"], 3)
    rows[1]["repeated_share"] = rows[1]["repeated"] / rows[1]["requests"]
    print(f"peak memory x {rows[1]['peak_ratio']} (at most {FLAT}), repeated {rows[1]['repeated_share']:.5%}")
    if not arguments.dry_run:
        from report import machine, write_results  # it imports torch, which the workers do not need

        write_results("suite_scale", rows, machine())
    if rows[1]["peak_ratio"] > FLAT or rows[1]["repeated_share"] >= REPEATED:
        raise SystemExit(f"more than {FLAT} times the memory or {REPEATED:.1%} of the requests")


if __name__ == "__main__":
    main()
