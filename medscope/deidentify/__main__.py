"""Copies that do not say whose they are: `python -m medscope.deidentify FOLDER --out DIR --names FILE.csv`.

No metadata, no sound, random names, the same frame times. Options make parts of the picture black.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from medscope.deidentify.run import Outcome, Settings, deidentify
from medscope.deidentify.sheets import WARNING
from medscope.sources.annotations.formats import FORMATS
from medscope.sources.manifest import QUARANTINE, QuarantineError, check_limit, check_share

SHOWN = 10  # reasons that are printed


def main(arguments: Sequence[str] | None = None) -> int:
    """0: the copies are made. 1: too much is quarantined. 2: nothing was done, and why."""
    options = _parser().parse_args(arguments)
    try:
        return _run(options)
    except (QuarantineError, ValueError, OSError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1 if isinstance(error, QuarantineError) else 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m medscope.deidentify", description=__doc__)
    parser.add_argument("folder", type=Path, help="the folder of the originals, videos and DICOM cines at any depth")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where the copies go")
    parser.add_argument(
        "--names", type=Path, required=True, metavar="FILE.csv", help="the private map of old to new names"
    )
    parser.add_argument("--masks", type=Path, metavar="FILE", help="rectangles by device, YAML or JSON")
    parser.add_argument("--circle", action="store_true", help="make black what is outside of the endoscope's circle")
    parser.add_argument("--annotations", type=Path, metavar="FILE", help="an annotation file, or a folder of them")
    parser.add_argument("--format", metavar="NAME", help=f"its format: {', '.join(FORMATS)}")
    parser.add_argument("--keys", metavar="KEY=NAME,..", help="csv and jsonl: which column is video, start, end, label")
    parser.add_argument("--mask-labels", metavar="LABEL,..", help="make black the stretches with these labels")
    parser.add_argument("--group-from", default="video", metavar="HOW", help="which videos belong together")
    parser.add_argument("--max-quarantined", type=float, default=1.0, metavar="SHARE", help="fail above this share")
    parser.add_argument("--workers", type=int, default=2, help="files that are looked at at the same time")
    return parser


def _run(options: argparse.Namespace) -> int:
    if bool(options.annotations) != bool(options.format):
        raise ValueError(f"--annotations and --format belong together; the formats are {', '.join(FORMATS)}")
    labels = tuple(label.strip() for label in (options.mask_labels or "").split(",") if label.strip())
    if labels and not options.annotations:
        raise ValueError("--mask-labels needs the --annotations that hold these labels")
    check_limit(options.max_quarantined)
    pairs = dict(part.partition("=")[::2] for part in (options.keys or "").split(",") if part)
    if bad := [key for key, name in pairs.items() if not (key and name)]:
        raise ValueError(f"--keys: {bad[0]!r} is not KEY=NAME; for example video=clip,start=from,end=to,label=text")
    settings = Settings(
        folder=options.folder.absolute(),
        out=options.out.absolute(),
        names=options.names.absolute(),
        masks=options.masks,
        circle=options.circle,
        annotations=options.annotations,
        format=options.format,
        keys=pairs or None,
        mask_labels=labels,
        group_from=options.group_from,
        workers=options.workers,
    )
    outcome = deidentify(settings)
    _print(outcome, settings)
    good = sum(map(len, outcome.copies.values()))
    check_share("files", outcome.found - good, outcome.found, options.max_quarantined, settings.private)
    return 0


def _print(outcome: Outcome, settings: Settings) -> None:
    for record in outcome.quarantined[:SHOWN]:
        reason = record.reason if record.reason.startswith(record.path) else f"{record.path}: {record.reason}"
        print(f"quarantined  {reason}")
    if len(outcome.quarantined) > SHOWN:
        print(f"... and {len(outcome.quarantined) - SHOWN} more in {settings.private / QUARANTINE}")
    streams = sum(how == "stream" for how in outcome.made.values())
    good = sum(map(len, outcome.copies.values()))
    print(f"copies:      {good} of {outcome.found} files in {settings.out}")
    anew = len(outcome.made) - streams
    print(f"             {streams} as they were, {anew} encoded anew, {outcome.kept} from before")
    if outcome.orphans:
        print(f"             {outcome.orphans} more whose original is gone; delete what you do not want to keep")
    if settings.annotations:
        print(f"annotations: {outcome.annotations} under the new names in {settings.out / 'annotations.csv'}")
    if outcome.without_circle:
        names = ", ".join(outcome.without_circle[:SHOWN])
        print(f"no circle:   {len(outcome.without_circle)} videos, whose corners stay as they are: {names}")
    print(f"keep private: {settings.names} and {settings.private}")
    for sheet in outcome.sheets:
        print(f"look at      {sheet}")
    print(" ".join(WARNING))


if __name__ == "__main__":
    sys.exit(main())
