"""Ask one question about one's own video: `python -m medscope.ask VIDEO QUESTION [--model M] [--json] [--out FOLDER]`.

M is a folder of weights (default: the tiny model that comes with the project), the Hub name of a Qwen2.5-VL checkpoint,
the URL of an OpenAI-compatible endpoint, or `endpoint` for the one that MEDSCOPE_MODEL_URL names. Relative paths mean
the folder that the command is run in.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory

from medscope.agents.model_card import read_budget
from medscope.environment import FrameStore
from medscope.environment.decoders import DECODERS
from medscope.files import write_json, write_jsonl
from medscope.models import TINY, EndpointSettings, Model, open_model
from medscope.remote import EndpointError
from medscope.reporting.ask_page import write_ask_page
from medscope.session import Session, cost_facts, open_session, printable, window_of

PAGE, RECORD, TRAJECTORY = "ask.html", "ask.json", "trajectory.jsonl"
INTERRUPTED = 130  # exit status after Ctrl-C, as shells have it


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Returns its exit status: 0, 1 for an error, 130 after Ctrl-C."""
    options = read_options(arguments)
    session: Session | None = None
    try:
        with redirect_stdout(sys.stderr):  # whatever a library prints: stdout is for the answer
            if options.out:
                options.out.mkdir(parents=True, exist_ok=True)
            model = _model(options)
            warning, store = model.warning(options.video), FrameStore(options.decoder)
            session = open_session(options.video, options.question, store, model.budget)
            if warning:
                print(f"warning: {warning}", file=sys.stderr)
            model.answer(session)
            if options.out:
                _keep(session, options.out, store, options.model, warning)
        print(json.dumps(session.record(), indent=2) if options.json else printable(_report(session, options.out)))
        return 0
    except KeyboardInterrupt:
        return _fail("interrupted", session, options.out, INTERRUPTED)
    except (ValueError, EndpointError, OSError) as error:
        return _fail(" ".join(str(error).split()), session, options.out, 1)


def read_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line; argparse ends the program with status 2 where it cannot be read."""
    parser = argparse.ArgumentParser("python -m medscope.ask", description="Ask a question about a video.")
    parser.add_argument("video", help="a video file")
    parser.add_argument("question")
    parser.add_argument("--model", default=str(TINY), help="folder, Hub name, URL of an endpoint, or `endpoint`")
    parser.add_argument("--json", action="store_true", help="print JSON alone on stdout")
    parser.add_argument("--out", type=Path, help="folder for the page, the JSON and the trajectory; one for each ask")
    parser.add_argument("--budget", type=Path, help="JSON file of frames, pixels and calls (default: the model's own)")
    parser.add_argument("--decoder", choices=sorted(DECODERS), default="pyav", help="(decord: slow on long HD video)")
    endpoint = parser.add_argument_group("endpoint")
    endpoint.add_argument("--allow-remote", action="store_true", help="frames may be sent to another machine")
    endpoint.add_argument("--model-name", help="of the endpoint's model (default: MEDSCOPE_MODEL_MODEL)")
    endpoint.add_argument("--calls", choices=("native", "tags"), default="native", help="how the model calls tools")
    endpoint.add_argument("--request", type=json.loads, default={}, help="JSON: fields of the request to change")
    endpoint.add_argument("--timeout", type=float, default=120.0, help="seconds to wait for a reply")
    endpoint.add_argument("--price", type=float, nargs=2, metavar=("IN", "OUT"), help="dollars per million tokens")
    return parser.parse_args(arguments)


def _model(options: argparse.Namespace) -> Model:
    price = options.price or (None, None)
    endpoint = EndpointSettings(
        options.model_name, options.calls, options.allow_remote, options.request, options.timeout, *price
    )
    return open_model(options.model, read_budget(options.budget) if options.budget else None, endpoint)


def _keep(session: Session, out: Path, store: FrameStore, model: str, warning: str) -> None:
    """The page and the records, each moved to its place whole, so that asks beside each other never mix."""
    facts = {"video": session.task.video, "model": model, **cost_facts(session)}
    with TemporaryDirectory(dir=out, prefix=".ask-") as made:
        write_ask_page(Path(made) / PAGE, session.trajectory, store, session.environment.budget, facts, warning)
        _write_records(session, Path(made), None)
        _move(Path(made), out)


def _write_records(session: Session, folder: Path, error: str | None) -> None:
    write_json(folder / RECORD, session.record() | ({"error": error} if error else {}))
    write_jsonl(folder / TRAJECTORY, [session.trajectory])


def _move(made: Path, out: Path) -> None:
    for file in made.iterdir():
        file.replace(out / file.name)


def _fail(message: str, session: Session | None, out: Path | None, status: int) -> int:
    """One line on stderr; with `--out` the trajectory so far is kept."""
    kept = ""
    if session is not None and out is not None:
        try:
            with TemporaryDirectory(dir=out, prefix=".ask-") as made:
                _write_records(session, Path(made), message)
                _move(Path(made), out)
            kept = f" (what was done so far is in {out / TRAJECTORY})"
        except OSError as error:
            kept = f" (what was done so far could not be kept: {error})"
    print(printable(f"ask: {message}{kept}"), file=sys.stderr)
    return status


def _report(session: Session, out: Path | None) -> str:
    """The answer and how it came about, for the terminal."""
    lines = [f"answer: {'none (the model did not give one)' if session.answer is None else session.answer}"]
    for number, call in enumerate(session.environment.trace.calls, start=1):
        if not call.executed:
            lines.append(f"call {number}: {call.name} refused: {call.message}")
            continue
        start, end = window_of(call)
        shown = ", ".join(f"{second:g}" for second in call.seconds)
        lines.append(f"call {number}: {call.name} looked from {start:g} to {end:g} s; frames at {shown} s")
    lines.append("cost: " + ", ".join(f"{name} {value}" for name, value in cost_facts(session).items()))
    return "\n".join([*lines, f"page: {out / PAGE}"] if out else lines)


if __name__ == "__main__":
    sys.exit(main())
