"""What `ask` costs besides the model, on an hour of 1080p H.264: seconds and memory of a first and a second question.

The film is a minute of FFmpeg's moving test pattern, repeated without encoding it again. The model is a scripted
endpoint on this machine that replies at once. `command`: `python -m medscope.ask` from start to end, with its page.
`same process`: two questions over one store of frames, as in the reading room and behind the MCP server. `cpu_s` is
what the processor worked, with the page; on a machine that has other work the seconds are more than that.

    python benchmarks/ask_hour.py
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import av
from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[1]
SEGMENT = 60  # s of film that are really encoded
ENOUGH = {"first_s": 10.0, "second_s": 1.0, "peak_gib": 1.0}  # what is aimed at


def write_film(path: Path, minutes: int, fps: int = 25) -> None:
    """1080p at a few megabits a second, a key frame every two seconds."""
    segment = path.with_name("segment.mp4")
    source = f"testsrc2=size=1920x1080:rate={fps}:duration={SEGMENT}"
    options = {"preset": "ultrafast", "g": str(2 * fps), "crf": "28", "maxrate": "4M", "bufsize": "8M"}
    with av.open(source, format="lavfi") as pattern, av.open(str(segment), "w") as made:
        stream = made.add_stream("libx264", rate=fps, options=options)
        stream.width, stream.height, stream.pix_fmt = 1920, 1080, "yuv420p"
        for frame in tqdm(pattern.decode(video=0), desc="encode a minute", total=SEGMENT * fps):
            made.mux(stream.encode(frame.reformat(format="yuv420p")))
        made.mux(stream.encode())
    with av.open(str(path), "w") as film:
        copy = None
        for minute in tqdm(range(minutes), desc="repeat it"):
            with av.open(str(segment)) as again:
                stream = again.streams.video[0]
                copy = copy or film.add_stream_from_template(stream)
                later = round(minute * SEGMENT / stream.time_base)
                for packet in again.demux(stream):
                    if packet.dts is not None:
                        packet.pts, packet.dts, packet.stream = packet.pts + later, packet.dts + later, copy
                        film.mux(packet)
    segment.unlink()


def serve(duration: float) -> Any:
    """The tests' scripted endpoint: every question gets a crop, a frame and an answer, each question elsewhere."""
    sys.path.insert(0, str(ROOT / "tests"))
    from chat_server import ChatServer, call, text

    replies = []
    for share in (0.25, 0.5, 0.75):
        start = share * duration
        replies += [
            call("crop_video", {"start_time": start, "end_time": start + duration / 60}, "It may be here."),
            call("get_frame", {"timestamp": start + duration / 100}, "Look closely."),
            text(f"<think>Seen.</think><answer>from {start:g} to {start + 10:g} s</answer>"),
        ]
    return ChatServer(*replies)


def measure(words: list[str]) -> tuple[dict[str, float], str]:
    """Run a command: its seconds, its processor's seconds, the most memory it held (GiB), and its stdout."""
    began = time.perf_counter()
    process = subprocess.Popen([sys.executable, *words], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    printed = process.stdout.read()
    _, status, used = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - began
    if status:
        raise RuntimeError(f"{' '.join(words)} ended with status {os.waitstatus_to_exitcode(status)}")
    return {
        "seconds": round(seconds, 2),
        "cpu_s": round(used.ru_utime + used.ru_stime, 2),
        "peak_gib": round(used.ru_maxrss / 2**20, 3),
    }, printed


def ask_twice(film: str, url: str) -> list[dict[str, float]]:
    """Two questions over one store, in this process: seconds to the answer, and with the page."""
    from medscope.environment import FrameStore
    from medscope.models import EndpointSettings, open_model
    from medscope.reporting.ask_page import write_ask_page
    from medscope.session import open_session

    store, model, rows = FrameStore("pyav"), open_model(url, None, EndpointSettings("scripted")), []
    for question in ("When is it opened?", "When is it closed?"):
        began, worked = time.perf_counter(), time.process_time()
        session = open_session(film, question, store, model.budget)
        model.answer(session)
        answered = time.perf_counter() - began
        write_ask_page(Path(film).with_name("page.html"), session.trajectory, store, model.budget, {})
        with_page, cpu = time.perf_counter() - began, time.process_time() - worked
        rows.append({"seconds": round(answered, 2), "cpu_s": round(cpu, 2), "with_page_s": round(with_page, 2)})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=int, default=60)
    parser.add_argument("--name", default="ask_hour", help="of the files in benchmarks/results/")
    parser.add_argument("--ask-twice", nargs=2, metavar=("FILM", "URL"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.ask_twice:
        print(json.dumps(ask_twice(*options.ask_twice)))
        return
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        film = Path(folder) / "film.mp4"
        write_film(film, options.minutes)
        server = serve(options.minutes * 60)
        try:
            command = ["-m", "medscope.ask", str(film), "When?", "--model", server.url, "--model-name", "scripted"]
            first, _ = measure([*command, "--json", "--out", str(Path(folder) / "out")])
            page = (Path(folder) / "out" / "ask.html").stat().st_size
        finally:
            server.close()
        server = serve(options.minutes * 60)
        try:
            both, printed = measure([__file__, "--ask-twice", str(film), server.url])
        finally:
            server.close()
        size = film.stat().st_size
    one, two = json.loads(printed.splitlines()[-1])
    rows = [
        {"question": "first", "how": "command", **first, "with_page_s": first["seconds"]},
        {"question": "first", "how": "same process", **one, "peak_gib": both["peak_gib"]},
        {"question": "second", "how": "same process", **two, "peak_gib": both["peak_gib"]},
    ]
    reached = {
        "first_s": first["seconds"] < ENOUGH["first_s"],
        "second_s": two["seconds"] < ENOUGH["second_s"],
        "peak_gib": max(first["peak_gib"], both["peak_gib"]) < ENOUGH["peak_gib"],
    }
    from report import machine, write_results

    about = {"film": f"{options.minutes} min 1080p, {size / 2**20:.0f} MiB", "page": f"{page / 2**20:.1f} MiB"}
    loads = {"load before": f"{load:.2f}", "load after": f"{os.getloadavg()[0]:.2f}"}
    write_results(options.name, rows, {**machine(), **about, **loads, "aims reached": json.dumps(reached)})
    print(json.dumps({"rows": rows, "reached": reached}, indent=1))


if __name__ == "__main__":
    main()
