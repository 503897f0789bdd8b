"""A suite of one's own recordings: `make suite VIDEOS=folder ANNOTATIONS=file FORMAT=csv TEACHER=endpoint`.

    python -m medscope.pipeline.own_suite FOLDER [--annotations FILE --format NAME] [--teacher endpoint]

Runs notebook 01 below runs/ with these values in the place of those of params.yaml, and prints what to write there so
that `dvc repro` runs on the same recordings.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from medscope.pipeline.parameters import Parameters, StageError, stage_parameters
from medscope.pipeline.stage import StageFailed, ending_on_signals, run
from medscope.sources.annotations.formats import FORMATS

STAGE = "synthesize_data"


def parser() -> argparse.ArgumentParser:
    """The command line."""
    raw = argparse.RawDescriptionHelpFormatter
    words = argparse.ArgumentParser("python -m medscope.pipeline.own_suite", description=__doc__, formatter_class=raw)
    words.add_argument("videos", type=Path, help="the folder of the recordings, videos and DICOM cines at any depth")
    words.add_argument("--annotations", type=Path, metavar="FILE", help="an annotation file, or a folder of them")
    words.add_argument("--format", metavar="NAME", default="csv", help=f"its format: {', '.join(FORMATS)} (csv)")
    words.add_argument("--teacher", default="", help="scripted (needs annotations) | endpoint; default: by annotations")
    words.add_argument("--group-from", metavar="HOW", help="which videos belong together (docs/your_own_videos.md)")
    words.add_argument("overrides", nargs="*", metavar="name=value", help="other parameters of the stage")
    return words


def chosen(options: argparse.Namespace) -> dict[str, Any]:
    """What the stage's section of params.yaml must say. Raises StageError for what cannot be."""
    teacher = options.teacher or ("scripted" if options.annotations else "endpoint")
    if teacher == "scripted" and not options.annotations:
        raise StageError("the scripted teacher needs annotations: ANNOTATIONS=file FORMAT=name, or TEACHER=endpoint")
    settings = {"folder": str(options.videos.absolute())}
    if options.annotations:
        settings |= {"annotations": str(options.annotations.absolute()), "format": options.format}
    if options.group_from:
        settings["group_from"] = options.group_from
    return {"source": "segments" if options.annotations else "folder", "settings": settings, "teacher": teacher}


def parameters_of(options: argparse.Namespace) -> Parameters:
    """The parameters of the run."""
    words = [f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in chosen(options).items()]
    return stage_parameters(STAGE, [*options.overrides, *words])


def main(words: Sequence[str] | None = None) -> None:
    """Command line: see --help."""
    options = parser().parse_intermixed_args(words)
    try:
        values, parameters = chosen(options), parameters_of(options)
    except StageError as error:
        sys.exit(f"error: {error}")
    try:
        with ending_on_signals():
            print(run(parameters))
    except StageFailed as error:
        sys.exit(f"the suite was not made\n{error}")
    section = yaml.safe_dump({STAGE: values}, sort_keys=False, allow_unicode=True)
    place = Path("runs" if parameters["folder"] == "." else parameters["folder"], "data", "suite")
    print(f"The suite is in {place}. For `dvc repro` on these recordings write in params.yaml:\n\n{section}")


if __name__ == "__main__":
    main()
