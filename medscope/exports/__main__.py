"""The suite for other tools: `python -m medscope.exports huggingface|fork|lmms_eval|verl SUITE --out DIR`."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from datasets import disable_progress_bars
from pydantic import TypeAdapter

from medscope.environment import ToolBudget
from medscope.exports.fork import RECORDS, ROWS, Sampling, export_fork
from medscope.exports.huggingface import CARD, export_huggingface
from medscope.exports.lmms_eval.export import export_lmms_eval
from medscope.exports.verl.rows import FRAMES, TEMPLATE, TOOL_FILE, export_verl
from medscope.exports.verl.rows import ROWS as VERL_ROWS
from medscope.suite.suite import Suite


def main(arguments: Sequence[str] | None = None) -> int:
    """0: the files are written. 2: nothing was written, and why."""
    options = _parser().parse_args(arguments)
    try:
        {"huggingface": _huggingface, "fork": _fork, "lmms_eval": _lmms_eval, "verl": _verl}[options.form](options)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m medscope.exports", description=__doc__)
    forms = parser.add_subparsers(dest="form", required=True)
    hub = forms.add_parser("huggingface", help="a folder that Hugging Face `datasets` loads, with a dataset card")
    fork = forms.add_parser("fork", help="the RL tasks as JSONL of the authors' training fork")
    lmms = forms.add_parser("lmms_eval", help="the benchmark as tasks of lmms-eval, for its --include_path")
    verl = forms.add_parser("verl", help="the RL tasks with frames, tools and chat template for verl")
    for form in (hub, fork, lmms, verl):
        form.add_argument("suite", type=Path, help="the folder of the suite (data/suite)")
        form.add_argument("--out", type=Path, required=True, metavar="DIR", help="where the files go")
    hub.add_argument(
        "--licence",
        action="append",
        default=[],
        metavar="COLLECTION=NAME",
        help="the licence of the videos of a collection; once for each",
    )
    hub.add_argument(
        "--funnel", type=Path, metavar="FILE", help="metrics/synthesize_data.json: how much was rejected, and why"
    )
    fork.add_argument("--data-source", metavar="NAME", help="instead of the collection of each task")
    verl.add_argument("--budget", type=Path, metavar="FILE", help="a budget.json (default: the budget of the paper)")
    for name, default in vars(Sampling()).items():
        fork.add_argument(f"--{name.replace('_', '-')}", type=_positive, default=default, metavar="N")
    return parser


def _huggingface(options: argparse.Namespace) -> None:
    disable_progress_bars()  # one of each file; ours counts the files
    pairs = [text.partition("=") for text in options.licence]
    if bad := [text for text, (name, _, licence) in zip(options.licence, pairs, strict=True) if not (name and licence)]:
        raise ValueError(f"--licence {bad[0]!r} is not COLLECTION=NAME; for example 'ours=CC-BY-4.0'")
    rejected = _rejected(options.funnel) if options.funnel else None
    counts = export_huggingface(_suite(options), options.out, {name: licence for name, _, licence in pairs}, rejected)
    for name, splits in counts.items():
        print(f"{name:18}{', '.join(f'{count} {split}' for split, count in splits.items())}")
    print(f"written: {options.out / CARD}, {options.out / 'data'}. The videos are not in it. Not for clinical use.")


def _fork(options: argparse.Namespace) -> None:
    sampling = Sampling(**{name: getattr(options, name) for name in vars(Sampling())})
    count = export_fork(_suite(options), options.out, data_source=options.data_source, sampling=sampling)
    print(f"{count} tasks of split rl: {options.out / ROWS}, {options.out / RECORDS}")


def _verl(options: argparse.Namespace) -> None:
    budget = (
        TypeAdapter(ToolBudget).validate_json(options.budget.read_text("utf-8")) if options.budget else ToolBudget()
    )
    count = export_verl(_suite(options), options.out, budget)
    print(f"{count} tasks of split rl: {options.out / VERL_ROWS}, with {TOOL_FILE}, {TEMPLATE} and {FRAMES}/")


def _lmms_eval(options: argparse.Namespace) -> None:
    for name, count in export_lmms_eval(_suite(options), options.out).items():
        print(f"{name}: {count} tasks in {options.out}")


def _suite(options: argparse.Namespace) -> Suite:
    if not options.suite.is_dir():
        raise FileNotFoundError(f"{options.suite} is not a folder; name the folder of a suite")
    if options.out.resolve().is_relative_to(options.suite.resolve()):
        raise ValueError(f"--out {options.out} is inside the suite {options.suite}; name a folder outside of it")
    return Suite(options.suite)


def _rejected(path: Path) -> dict[str, int]:
    try:
        rejected = json.loads(path.read_text("utf-8"))["rejected"]
        return {str(reason): int(count) for reason, count in rejected.items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ValueError(f"--funnel {path}: it has no `rejected` of reasons and counts") from None


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number of at least 1")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
