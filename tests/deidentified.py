"""Films for the tests of de-identified copies, and what is found in them."""

import csv
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from medscope.deidentify.__main__ import main
from medscope.environment import open_video

VFR = [0, 0.04, 0.041, 0.5, 0.503, 1.0, 2.007, 2.01, 9.0, 9.001]


def noise(count: int, size: tuple[int, int] = (64, 48), seed: int = 0) -> np.ndarray:
    """Frames [count, h, w, 3] of grey blocks that move."""
    block = np.random.default_rng(seed).integers(0, 255, (size[1] // 8, size[0] // 8, 1), np.uint8)
    picture = block.repeat(8, 0).repeat(8, 1).repeat(3, 2)
    return np.stack([np.roll(picture, i, axis=1) for i in range(count)])


def frames(path: Path) -> np.ndarray:
    video = open_video(path, decoder="pyav")
    return video.read(list(range(len(video.starts))))


def starts(path: Path) -> np.ndarray:
    return open_video(path, decoder="pyav").starts


def only(folder: Path) -> Path:
    [found] = folder.glob("*.mp4")
    return found


def write_film(path: Path, codec: str, pixels: str = "yuv420p", size=(64, 48), times=VFR, **options: str) -> Path:
    """A film of `noise` in any codec and container."""
    with av.open(str(path), "w") as film:
        stream = film.add_stream(codec, rate=25, options=options)
        (stream.width, stream.height), stream.pix_fmt = size, pixels
        if times is VFR:
            stream.codec_context.time_base = Fraction(1, 1000)
        for number, picture in enumerate(noise(len(times), size)):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = (
                (round(times[number] * 1000), Fraction(1, 1000)) if times is VFR else (number, Fraction(1, 25))
            )
            film.mux(stream.encode(frame))
        film.mux(stream.encode())
    return path


def run(home: Path, *options: str) -> int:
    return main([str(home / "in"), "--out", str(home / "out"), "--names", str(home / "key" / "names.csv"), *options])


def rows(home: Path) -> list[dict[str, str]]:
    with (home / "key" / "names.csv").open(newline="") as file:
        return list({row["path"]: row for row in csv.DictReader(file)}.values())
