"""The videos of the reading room: those of a suite, those that come with the project, files and uploads."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from medscope.records import Task
from medscope.sources.folder import SUFFIXES
from medscope.suite.suite import Suite


@dataclass(frozen=True)
class Choice:
    """A video that can be chosen. `name` is the one that annotations give it, `tasks` the suite's by their question."""

    label: str
    path: str
    name: str
    tasks: Mapping[str, Task] = field(default_factory=dict)


def suite_choices(suite: Suite) -> list[Choice]:
    """The held-out videos of a suite with their challenging questions, in the order of their names."""
    tasks: dict[str, dict[str, Task]] = {}
    for task in suite.select("eval", challenging=True, free_text=False):
        tasks.setdefault(task.video, {}).setdefault(task.question, task)
    return [Choice(video, suite.recording(video).path, video, of) for video, of in sorted(tasks.items())]


def choices_of(folder: Path) -> list[Choice]:
    """The videos directly in a folder; none where it does not exist."""
    files = sorted(file for file in folder.glob("*") if file.suffix.lower() in SUFFIXES)
    return [own_choice(str(file)) for file in files]


def own_choice(path: str) -> Choice:
    """A file by its path; `~` is the home folder. Its name holds its folder, so that two cases are not mixed up."""
    file = Path(path.strip()).expanduser()
    return Choice(f"{file.name} ({file.parent})", str(file), PurePosixPath(*file.absolute().parts[-2:]).as_posix())


def keep_upload(name: str, content: bytes, folder: Path) -> Choice:
    """Write an upload below `folder`, under its own name. Raises ValueError for a name of no kind of video."""
    bare = PurePosixPath(name.replace("\\", "/")).name
    kind = PurePosixPath(bare).suffix.lower()
    if kind not in SUFFIXES:
        raise ValueError(f"{bare!r} is no kind of video; the name of one ends in {', '.join(SUFFIXES)}")
    place = folder / hashlib.sha256(content).hexdigest()[:16] / f"video{kind}"
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(content)
    return Choice(f"{bare} (upload)", str(place), bare)
