"""All formats by name, and the way from a file or a folder of files to what it states."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from medscope.sources.annotations.activitynet import read_activitynet
from medscope.sources.annotations.annotation import Annotation, AnnotationError, Reader, Unreadable
from medscope.sources.annotations.documents import read_medvidqa, read_multibypass140, read_nurvid, read_svu31k
from medscope.sources.annotations.frames import read_cataract101, read_cholec80, read_cholect50, read_heichole
from medscope.sources.annotations.label_studio import read_label_studio
from medscope.sources.annotations.subtitles import read_srt, read_webvtt
from medscope.sources.annotations.tables import read_cataract1k, read_csv, read_jsonl, read_ophnet
from medscope.sources.folder import without_suffix
from medscope.sources.manifest import Quarantined

FORMATS: dict[str, Reader] = {
    "csv": read_csv,
    "jsonl": read_jsonl,
    "ophnet": read_ophnet,
    "activitynet": read_activitynet,
    "nurvid": read_nurvid,
    "multibypass140": read_multibypass140,
    "cholec80": read_cholec80,
    "cataract101": read_cataract101,
    "cholect50": read_cholect50,
    "heichole": read_heichole,
    "cataract1k": read_cataract1k,
    "medvidqa": read_medvidqa,
    "svu31k": read_svu31k,
    "webvtt": read_webvtt,
    "srt": read_srt,
    "label_studio": read_label_studio,
}
# The files of a folder that are read in a format; `.json` where nothing else is said.
SUFFIXES: dict[str, str] = {
    **{name: ".csv" for name in ("csv", "ophnet", "cataract101", "cataract1k", "heichole")},
    "jsonl": ".jsonl",
    "cholec80": "-phase.txt",
    "webvtt": ".vtt",
    "srt": ".srt",
}


@dataclass(frozen=True)
class Stated:
    """An annotation and the file that it stands in."""

    path: str
    annotation: Annotation


def check_format(name: str) -> None:
    """Raise ValueError that lists the formats for an unknown one."""
    if name not in FORMATS:
        raise ValueError(f"annotation format {name!r} is unknown; choose one of {', '.join(FORMATS)}")


def read_annotations(
    path: str | Path, name: str, keys: Mapping[str, str] | None = None
) -> tuple[list[Stated], list[Quarantined]]:
    """What a file, or every file of the format below a folder, states; and entries and files that cannot be read.

    `keys` are those of the formats csv and jsonl. Raises FileNotFoundError, ValueError for an unknown format, and
    `AnnotationError` that names the file when the only file is not of the format.
    """
    check_format(name)
    path, read = Path(path), FORMATS[name]
    if keys:
        if name not in ("csv", "jsonl"):
            raise ValueError(f"keys are given for the format {name}, which has its own; they are for csv and jsonl")
        read = partial(read, keys=keys)
    files = _files(path, name)
    stated: list[Stated] = []
    quarantined: list[Quarantined] = []
    for file in files:
        try:
            for entry in read(_text(file), _bare(file)):
                if isinstance(entry, Unreadable):
                    quarantined.append(Quarantined(str(file), f"{entry.place}: {entry.reason}"))
                else:
                    stated.append(Stated(str(file), entry))
        except AnnotationError as error:
            if path.is_file():
                raise AnnotationError(f"{file}: not an annotation file of the format {name} ({error})") from None
            quarantined.append(Quarantined(str(file), f"not of the format {name} ({error})"))
    return stated, quarantined


def _files(path: Path, name: str) -> list[Path]:
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise FileNotFoundError(f"{path} does not exist; name an annotation file, or a folder of them")
    suffix = SUFFIXES.get(name, ".json")
    if files := sorted(file for file in path.rglob(f"*{suffix}") if file.is_file()):
        return files
    raise FileNotFoundError(f"{path} holds no file that ends in {suffix}, as the format {name} has")


def _text(path: Path) -> str:
    """The text of a file without its byte order mark."""
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise AnnotationError(f"not UTF-8 text, byte {error.start}; save it as UTF-8") from None


def _bare(path: Path) -> str:
    """`BBP01` for `BBP01.mp4.json`, so that the file names the video."""
    return without_suffix(path.stem)
