"""Look before you build: `python -m medscope.sources FOLDER [--annotations FILE --format NAME] --out DIR`.

Writes `manifest.jsonl` and `quarantine.jsonl` to DIR, and nothing else, and prints what it found.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from medscope.sources.annotations.annotation import AnnotationError
from medscope.sources.annotations.check import check
from medscope.sources.annotations.formats import FORMATS, Stated, read_annotations
from medscope.sources.dicom import is_dicom
from medscope.sources.folder import find_files
from medscope.sources.manifest import (
    MANIFEST,
    QUARANTINE,
    Quarantined,
    QuarantineError,
    VideoFile,
    check_limit,
    check_share,
    make_manifest,
    write_manifest,
)
from medscope.sources.videos import find_all, require

SHOWN = 10  # reasons and videos that are printed


def main(arguments: Sequence[str] | None = None) -> int:
    """0: both files are written. 1: too much is quarantined. 2: nothing was done, and why."""
    options = _parser().parse_args(arguments)
    try:
        return _run(options)
    except (QuarantineError, AnnotationError, ValueError, OSError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1 if isinstance(error, QuarantineError) else 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m medscope.sources", description=__doc__)
    parser.add_argument("folder", help="the folder of the videos, at any depth")
    parser.add_argument("--out", required=True, metavar="DIR", help=f"where {MANIFEST} and {QUARANTINE} go")
    parser.add_argument("--annotations", metavar="FILE", help="an annotation file, or a folder of them")
    parser.add_argument("--format", metavar="NAME", help=f"its format: {', '.join(FORMATS)}")
    parser.add_argument("--keys", metavar="KEY=NAME,..", help="csv and jsonl: which column is video, start, end, label")
    parser.add_argument(
        "--group-from",
        default="video",
        metavar="HOW",
        help="video | parent | pattern:REGEX | map:FILE | patient (of DICOM)",
    )
    parser.add_argument("--copies", metavar="DIR", help="take DICOM cines too, and copy them as MP4 files to DIR")
    parser.add_argument(
        "--max-quarantined", type=float, default=1.0, metavar="SHARE", help="fail above this share (default: never)"
    )
    parser.add_argument("--workers", type=int, default=2, help="files that are read at the same time")
    return parser


def _run(options: argparse.Namespace) -> int:
    if bool(options.annotations) != bool(options.format):
        raise ValueError(f"--annotations and --format belong together; the formats are {', '.join(FORMATS)}")
    check_limit(options.max_quarantined)
    stated: list[Stated] = []
    unreadable: list[Quarantined] = []
    if options.annotations:  # first: a wrong format shows at once, and not after an hour of probing
        stated, unreadable = read_annotations(options.annotations, options.format, _keys(options.keys))
    found = find_all(options.folder, options.copies, options.group_from)
    dicoms = [] if options.copies else find_files(options.folder, is_dicom)
    if dicoms:
        print(f"{len(dicoms)} DICOM files are left out: name a folder for their MP4 copies with --copies")
    videos, bad = make_manifest(require(found, options.folder), options.out, options.workers)
    checked = check(stated, videos)
    quarantined = [*bad, *unreadable, *checked.impossible, *checked.unknown]
    write_manifest(options.out, videos, quarantined)
    print(_table(videos, {name: len(intervals) for name, intervals in checked.intervals.items()}, bool(stated)))
    _print_quarantine(quarantined)
    print(f"files:       {len(videos)} of {len(found)} are good, {len(bad)} quarantined")
    wrong, total = len(unreadable) + len(checked.impossible), len(unreadable) + checked.considered
    if options.annotations:
        fit = sum(map(len, checked.intervals.values()))
        print(f"annotations: {fit} of {total} fit a video, {wrong} impossible, {total - fit - wrong} of unknown videos")
    print(f"written:     {Path(options.out) / MANIFEST}, {Path(options.out) / QUARANTINE}")
    check_share("files", len(bad), len(found), options.max_quarantined, options.out)
    check_share("annotations", wrong, total, options.max_quarantined, options.out)
    return 0


def _keys(text: str | None) -> dict[str, str] | None:
    if not text:
        return None
    pairs = [part.partition("=") for part in text.split(",")]
    if bad := [key for key, sign, value in pairs if not (key and sign and value)]:
        raise ValueError(f"--keys: {bad[0]!r} is not KEY=NAME; for example video=clip,start=from,end=to,label=text")
    return {key.strip(): value.strip() for key, _, value in pairs}


def _table(videos: Sequence[VideoFile], intervals: dict[str, int], annotated: bool) -> str:
    """The first videos, a line each."""
    head = ["video", "group", "length", "fps", "size", "codec"] + ["intervals"] * annotated
    rows = [
        [v.video, v.group, _length(v.duration), f"{v.fps:.2f}", f"{v.width}x{v.height}", v.codec]
        + [str(intervals.get(v.video, 0))] * annotated
        for v in videos[:SHOWN]
    ]
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in [head, *rows]
    ]
    more = [f"... and {len(videos) - SHOWN} more"] if len(videos) > SHOWN else []
    return "\n".join([*lines, *more])


def _length(seconds: float) -> str:
    return f"{int(seconds) // 3600}:{int(seconds) // 60 % 60:02d}:{seconds % 60:04.1f}"


def _print_quarantine(quarantined: Sequence[Quarantined]) -> None:
    for record in quarantined[:SHOWN]:
        reason = record.reason if record.reason.startswith(record.path) else f"{record.path}: {record.reason}"
        print(f"quarantined  {reason}")
    if len(quarantined) > SHOWN:
        print(f"... and {len(quarantined) - SHOWN} more in {QUARANTINE}")


if __name__ == "__main__":
    sys.exit(main())
