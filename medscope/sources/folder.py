"""Videos below a folder, at any depth, in an order that does not change, and the group that each belongs to."""

import csv
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from medscope.sources.manifest import Found, printable

SUFFIXES = (".mp4", ".m4v", ".mkv", ".mov", ".avi", ".webm", ".mpg", ".mpeg", ".ts", ".m2ts", ".wmv")
DICOM_SUFFIXES = (".dcm", ".dicom", ".ima")


def find_files(folder: str | Path, wanted: Callable[[Path], bool]) -> list[Path]:
    """Paths below `folder` (absolute), sorted by their relative path. Hidden files and folders are left out.

    Links to folders are followed once. Raises NotADirectoryError when `folder` is none.
    """
    folder = Path(folder).absolute()
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder} is not a folder; name the folder that holds the videos")
    found, seen = [], set()
    for root, folders, files in os.walk(folder, followlinks=True):
        if (place := os.path.realpath(root)) in seen:
            folders.clear()
            continue
        seen.add(place)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [Path(root) / name for name in files if not name.startswith(".")]
    return sorted((path for path in found if wanted(path)), key=lambda path: path.relative_to(folder).parts)


def find_videos(folder: str | Path, group_from: str = "video") -> list[Found]:
    """The video files below `folder`, by their suffix, with name and group.

    A video is named by its path below `folder` without suffix, with it where two files would share a name. `group_from`
    says which videos belong to one patient or procedure and never come into two splits: see `grouping`.
    """
    folder = Path(folder).absolute()
    return named(folder, find_files(folder, lambda path: path.suffix.lower() in SUFFIXES), group_from)


def named(folder: Path, paths: list[Path], group_from: str) -> list[Found]:
    """Name and group files below `folder`. A name that is not UTF-8, or a video without a group, is a problem."""
    group_of = grouping(group_from)
    relative = [path.relative_to(folder).as_posix() for path in paths]
    stems = Counter(without_suffix(name) for name in relative)
    return [
        _found(path, name if stems[without_suffix(name)] > 1 else without_suffix(name), name, group_of)
        for path, name in zip(paths, relative, strict=True)
    ]


def without_suffix(name: str) -> str:
    """A path without the suffix of a video or DICOM file; dots elsewhere in a name stay."""
    return next((name[: -len(suffix)] for suffix in SUFFIXES + DICOM_SUFFIXES if name.lower().endswith(suffix)), name)


def _found(path: Path, video: str, name: str, group_of: Callable[[str, str], str]) -> Found:
    if printable(path) != str(path):
        return Found(
            printable(name), printable(path), problem=f"{printable(path)}: the file name is not UTF-8; rename it"
        )
    try:
        return Found(video, str(path), group_of(video, name))
    except LookupError as error:
        return Found(video, str(path), problem=f"{path}: {error.args[0]}")


def grouping(group_from: str) -> Callable[[str, str], str]:
    """A function of a video's name and its path below the folder that gives its group.

    `video`: each video is a group of its own. `parent`: the folder that holds it. `pattern:REGEX`: what the one pair of
    brackets of the pattern finds in the path (`pattern:(case\\d+)`). `map:FILE`: a CSV file with the columns `video`,
    `group`. The function raises LookupError for a video without a group. Raises ValueError for any other word.
    """
    kind, _, argument = group_from.partition(":")
    if group_from == "video":
        return lambda video, name: video
    if group_from == "parent":
        return lambda video, name: Path(name).parent.name or video
    if kind == "pattern" and argument:
        return _by_pattern(argument)
    if kind == "map" and argument:
        return _by_map(argument)
    raise ValueError(f"group_from is {group_from!r}; choose video, parent, pattern:REGEX or map:FILE.csv")


def _by_pattern(argument: str) -> Callable[[str, str], str]:
    try:
        pattern = re.compile(argument)
    except re.error as error:
        raise ValueError(f"group_from: {argument!r} is no regular expression ({error})") from None
    if pattern.groups != 1:
        raise ValueError(f"group_from: {argument!r} has {pattern.groups} pairs of brackets; it needs exactly one")

    def group_of(video: str, name: str) -> str:
        match = pattern.search(name)
        if match is None or not match[1]:
            raise LookupError(f"the pattern {argument!r} of group_from finds no group in {name!r}")
        return match[1]

    return group_of


def _by_map(file: str) -> Callable[[str, str], str]:
    groups = dict(_rows(file))

    def group_of(video: str, name: str) -> str:
        for key in (video, name, Path(name).name, Path(name).stem):
            if key in groups:
                return groups[key]
        raise LookupError(f"{file} has no row for the video {video!r}; add one")

    return group_of


def _rows(file: str) -> Iterator[tuple[str, str]]:
    if not os.path.isfile(file):
        raise FileNotFoundError(f"group_from: {file} does not exist; it is a CSV file with the columns video,group")
    with open(file, newline="", encoding="utf-8-sig") as lines:
        reader = csv.DictReader(lines)
        if not {"video", "group"} <= set(reader.fieldnames or ()):
            raise ValueError(f"{file}, line 1: the columns are {reader.fieldnames}; video and group are needed")
        for row in reader:
            if not row["video"] or not row["group"]:
                raise ValueError(
                    f"{file}, line {reader.line_num}: video {row['video']!r}, group {row['group']!r}; fill both"
                )
            yield row["video"], row["group"]
