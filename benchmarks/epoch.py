"""Seconds of a shuffled epoch over many long 1080p files, with the ways to open them side by side.

An example is a crop: 32 frames of a window of 10 to 60 s. `reopening` makes a `FrameStore` for every example, as a data
set does that opens the file in `__getitem__`: the decoder looks for the file's frames each time. `one store` is how
training reads: times are known after the first look, files are closed and opened again. With PyAV the index of frames
is kept on disk (`medscope.environment.frame_index`); the pass that makes it is a row of its own, paid once a video.

    python benchmarks/epoch.py --videos 200

Simplified: the files are hard links to one file, which then lies in the page cache for every way alike.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from report import machine, write_results
from tool_latency import BUDGET, CROP_SECONDS, write_test_video

from medscope.environment import FrameStore
from medscope.environment.tools import crop_seconds
from medscope.records import Window

FPS = 25
Example = tuple[str, list[float]]  # a file and the seconds to show


def reopening(decoder: str) -> Callable[[Example], object]:
    return lambda example: FrameStore(decoder).frames(*example, BUDGET.crop_pixels)


def one_store(decoder: str) -> Callable[[Example], object]:
    store = FrameStore(decoder)
    return lambda example: store.frames(*example, BUDGET.crop_pixels)


def seconds_of(read: Callable[[Example], object], examples: list[Example]) -> float:
    start = time.perf_counter()
    for example in examples:
        read(example)
    return time.perf_counter() - start


def main() -> None:
    """Command line: see --help."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, default=200)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--examples", type=int, default=2, help="of every video")
    arguments = parser.parse_args()
    folder, duration = Path(tempfile.mkdtemp()), arguments.minutes * 60
    os.environ["MEDSCOPE_INDEX_CACHE"] = str(folder / "index")
    write_test_video(folder / "0.mp4", arguments.minutes, FPS)
    paths = [str(folder / f"{number}.mp4") for number in range(arguments.videos)]
    for path in paths[1:]:
        os.link(paths[0], path)
    rng, examples = np.random.default_rng(0), []
    for path in arguments.examples * paths:
        length = rng.uniform(*CROP_SECONDS)
        start = rng.uniform(0, duration - length)
        examples.append((path, crop_seconds(Window(start, start + length), FPS, BUDGET)))
    examples = [examples[number] for number in rng.permutation(len(examples))]
    ways = {
        "reopening, decord": reopening("decord"),
        "one store, decord": one_store("decord"),
        "first look at every file, pyav": None,
        "one store, pyav, index kept": one_store("pyav"),
    }
    rows: list[dict] = []
    for name, read in ways.items():
        if read is None:
            store = FrameStore("pyav")
            taken = seconds_of(lambda example, store=store: store.video(example[0]), [(path, []) for path in paths])
        else:
            taken = seconds_of(read, examples)
        rows.append({"way": name, "seconds": round(taken, 1)})
        if read is not None:
            rows[-1]["speedup"] = round(rows[0]["seconds"] / taken, 2)
        print(rows[-1], flush=True)
    what = f"{arguments.videos} files, {arguments.minutes:g} min, 1080p, {FPS} fps, {len(examples)} examples"
    write_results("epoch", rows, {**machine(), "videos": what})


if __name__ == "__main__":
    main()
