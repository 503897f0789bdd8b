"""A scripted teacher behind an OpenAI-compatible server on this machine. It knows only what it is shown.

Its films are grey: frame i is shown at second TIMES[i] and has the grey level (i + shift) modulo 12. It checks that the
frames it gets are the frames of the seconds that it is told, and answers from them.
"""

import json
import re
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread

import numpy as np
from chat_server import call, completion, frames_of, text
from media import grey_frames, level_index, write_mp4

from medscope.environment.prompts import SYSTEM, SYSTEM_TOOLS
from medscope.suite.teachers.endpoint.prompts import PROMPTS, load_prompt

TIMES = [0, 1, 2.5, 3, 4, 5.2, 6, 7, 8, 9.5, 10, 11]
SHADES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven"]


def write_film(path, shift):
    """Twelve frames in about 12 s; each shade once."""
    return str(write_mp4(path, TIMES, np.roll(grey_frames(12), -shift, axis=0)))


def seen_shades(request):
    """(second, shade) of every frame, in order; every frame must be that of its second, all of one film."""
    frames = frames_of(request)
    shifts = {(level_index(picture) - TIMES.index(second)) % 12 for second, picture in frames}
    assert len(shifts) <= 1, f"the frames are not those of their seconds: {shifts}"
    return [(second, SHADES[level_index(picture)]) for second, picture in frames]


def prompt_of(request):
    """Which prompt a request is about: one of PROMPTS."""
    system = request["messages"][0]["content"]
    if system.startswith(SYSTEM_TOOLS):
        return "tools"
    return "direct" if system == SYSTEM else next(name for name in PROMPTS if load_prompt(name).text == system)


def data_of(request):
    content = request["messages"][1]["content"]
    return json.loads(content[-1]["text"])


class TeacherServer(ThreadingHTTPServer):
    """`script(request)` gives a reply of `chat_server`; an object is sent as JSON text. Faults are kept, not raised."""

    daemon_threads = True

    def __init__(self, script):
        self.script, self.requests, self.faults, self.lock = script, [], [], Lock()
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}/v1"
        Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    def named(self, prompt):
        return [request for request in self.requests if prompt_of(request) == prompt]

    def close(self):
        self.shutdown()
        self.server_close()


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.requests.append(request)
        try:
            reply = self.server.script(request)
        except Exception as fault:
            self.server.faults.append(repr(fault))
            reply = 400
        if reply == "die":
            self.close_connection = True
            return
        if isinstance(reply, float):
            time.sleep(reply)
            return
        self.send_response(reply if isinstance(reply, int) else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Retry-After", "0.01")
        self.end_headers()
        if isinstance(reply, dict) and "message" not in reply:
            reply = text(json.dumps(reply))
        elif isinstance(reply, str):
            reply = text(reply)
        self.wfile.write(reply if isinstance(reply, bytes) else completion(reply))

    def log_message(self, *_):
        pass


def teach(request):
    """The reply of an honest teacher to any request of the pipeline."""
    return {
        "caption": caption,
        "summary": lambda request: {"text": f"{len(data_of(request)['captions'])} parts, each a shade darker."},
        "questions": lambda request: {"questions": questions(data_of(request))},
        "answer": lambda request: {"seen": "shades", "answer": answer(data_of(request), seen_shades(request))},
        "grade": lambda request: {"score": 0.9 * (data_of(request)["reference"] in data_of(request)["answer"])},
        "tools": act,
        "direct": lambda request: f"I see it.\n<answer>{answer(asked(request), seen_shades(request))}</answer>",
    }[prompt_of(request)](request)


def caption(request):
    """One moment for every shade; the frames must lie in the segment."""
    data, shades = data_of(request), dict(reversed(seen_shades(request)))
    assert shades and all(data["start"] - 1 <= second <= data["end"] + 1 for second in shades)
    inside = {s: shade for s, shade in shades.items() if data["start"] <= s <= data["end"]} or shades
    return {"moments": [{"second": s, "text": f"shade {inside[s]} is shown"} for s in sorted(inside)]}


def question(kind, form, words, answer, start, end, wrong=()):
    fields = {"kind": kind, "form": form, "question": words, "answer": answer, "start": start, "end": end}
    return fields | {"wrong": list(wrong), "subject": "a shade"}


def questions(data):
    """Three good questions and bad ones of every sort, by turns."""
    told = " ".join(c["text"] for c in data["captions"])
    shown = dict((float(s), shade) for s, shade in re.findall(r"at ([\d.]+) s: shade (\w+)", told))
    (_, zeroth), (a, first), (b, second), (c, third), (d, fourth) = list(shown.items())[:5]
    begin, end = data["captions"][0]["start"], data["captions"][-1]["end"]
    others = [shade for shade in SHADES if shade not in shown.values()][:3]
    between = f"Which shade lies between {first} and {third}?"
    good = [
        question("grounding", "time", f"When does {second} come on?", f"{second} comes on", b, c),
        question("perception", "choice", between, second, a, c, others),
        question("temporal", "text", f"In words, what lies between {second} and {fourth}?", f"shade {third}", b, d),
    ]
    bad = [
        question("reasoning", "text", f"Is the shade {second} on?", "yes", b, c),
        question("perception", "text", f"What comes with shade {second} on the way?", f"shade {second}", b, c),
        question("perception", "text", "What colour has snow?", "white", b, c),
        question("perception", "text", "What sort of picture is it?", "a plain one", b, c),
        question("perception", "choice", f"Which shade lies between {zeroth} and {second}?", first, c, d, others),
        question("grounding", "time", f"When does the wall before {first} fade?", "it fades", begin, end),
        question("reasoning", "text", f"Why at {b:g} s does it fade?", "it is lit", b, c),
        question("perception", "choice", between + " Say it.", second, a, c, others),
    ]
    number = SHADES.index(first) % 4
    return [*good, *bad[2 * number : 2 * number + 2]][: data["count"]]


def answer(data, shades):
    """The answer to a question that this teacher can ask, from what it sees; None where that does not show it."""
    words, seen = data["question"], {shade: second for second, shade in reversed(shades)}
    if "snow" in words:
        return "white"
    if "sort of picture" in words:
        return "a plain one" if shades else None
    if found := re.search(r"When does (\w+) come on", words):
        second = seen.get(found[1])
        return None if second is None else f"from {second:g} to {second + 1:g} s"
    if found := re.search(r"between (\w+) and (\w+)", words):
        shade = SHADES[(SHADES.index(found[1]) + 1) % 12]
        free = words.startswith("In words")
        return None if shade not in seen else f"it is shade {shade}" if free else shade
    return None


def asked(request):
    """The question of a dialogue."""
    return {"question": request["messages"][1]["content"][-1]["text"].strip()}


def act(request):
    """Coarse to fine: a wide crop, a call that is refused, the window of the evidence, the answer."""
    shades, turns = seen_shades(request), sum(m["role"] == "assistant" for m in request["messages"])
    known = {shade: second for second, shade in shades}
    words = asked(request)["question"]
    found = re.search(r"When does (\w+) come on", words) or re.search(r"between (\w+) and (\w+)", words)
    first = SHADES.index(found[1])
    second, shade = shades[0]
    place = TIMES[(TIMES.index(second) + first - SHADES.index(shade)) % 12]  # shades follow one another
    if turns == 0:
        wide = {"start_time": max(0, place - 3), "end_time": min(12, place + 4)}
        return call("crop_video", wide, f"The shades follow one another, it must be near {place:g} s.")
    if turns == 1 and "come on" in words:
        return call("crop_video", {"start_time": 5, "end_time": 4}, "Now closer.")
    if not request["messages"][-1]["content"] or turns < 2 + ("come on" in words):
        start, length = known.get(SHADES[first], place), 1.5 if "come on" in words else 2.5
        return call("crop_video", {"start_time": start, "end_time": start + length}, "This is the window.")
    return text(f"It is seen.\n<answer>{answer(asked(request), shades)}</answer>")
