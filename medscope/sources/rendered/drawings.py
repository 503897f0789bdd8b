"""The files of rendered recordings: drawn once, remembered, drawn anew when their annotation or the code changes."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from hashlib import sha256
from multiprocessing import get_context
from pathlib import Path

from tqdm import tqdm

from medscope.records import Recording

MEMORY = ".drawn.txt"  # beside the videos, one line per drawn video; DVC does not see it (.dvcignore)
Write = Callable[[Recording], None]


def draw_missing(
    folder: str | Path, recordings: Sequence[Recording], write: Write, made_from: str, workers: int = 1
) -> None:
    """Write the file of every recording that is missing or was drawn from something else, by `workers` processes.

    A file is kept if it was drawn from the same annotation and the same `made_from` (the code, see `code_of`).
    A line of the memory that a kill cut off is left out: that video is drawn again.
    """
    memory = Path(folder) / MEMORY
    lines = memory.read_text().splitlines() if memory.exists() else []
    drawn = dict(line.split(" ") for line in lines if line.count(" ") == 1)
    keys = {r.video: sha256(f"{r} {made_from}".encode()).hexdigest() for r in recordings}
    missing = [r for r in recordings if drawn.get(r.video) != keys[r.video] or not Path(r.path).exists()]
    memory.parent.mkdir(parents=True, exist_ok=True)
    draw = partial(_draw, write)
    with (
        get_context("spawn").Pool(workers) if workers > 1 and missing else nullcontext() as pool,
        memory.open("a") as log,
    ):
        videos = pool.imap_unordered(draw, missing) if pool else map(draw, missing)
        for video in tqdm(videos, desc="render", total=len(missing), unit="video", disable=not missing):
            log.write(f"{video} {keys[video]}\n")
            log.flush()


def _draw(write: Write, recording: Recording) -> str:
    write(recording)
    return recording.video


def code_of(*names: str) -> str:
    """A hash of the modules beside this one that decide what a file looks like; `painters/*.py` names several."""
    files = [file for name in names for file in sorted(Path(__file__).parent.glob(name))]
    return sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
