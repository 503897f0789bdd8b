"""What of a frame is made black: rectangles, everything outside the endoscope's circle, whole stretches of time."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from medscope.records import Window

_DEVICE = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,63}")
FORM = "a list of [x, y, width, height], or a mapping of rectangles, circle, size and videos"


@dataclass(frozen=True)
class Rectangle:
    """Pixels of a frame as it is shown: left, top, width, height."""

    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True)
class Circle:
    """The endoscope's view: centre and radius in pixels of a frame as it is shown. It may reach beyond the frame."""

    x: float
    y: float
    radius: float


@dataclass(frozen=True)
class Mask:
    """What is made black in one video. An empty mask changes nothing."""

    rectangles: tuple[Rectangle, ...] = ()
    circle: Circle | None = None
    stretches: tuple[Window, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.rectangles or self.circle or self.stretches)

    def hidden(self, width: int, height: int) -> np.ndarray:
        """Bool [height, width]: the pixels that are black in every frame."""
        hidden = np.zeros((height, width), dtype=bool)
        for box in self.rectangles:
            hidden[box.y : box.y + box.height, box.x : box.x + box.width] = True
        if self.circle:
            y, x = np.ogrid[:height, :width]
            hidden |= (x - self.circle.x) ** 2 + (y - self.circle.y) ** 2 > self.circle.radius**2
        return hidden

    def hides(self, time: float) -> bool:
        """Whether the whole frame at `time` (s) is black."""
        return any(stretch.contains(time) for stretch in self.stretches)


@dataclass(frozen=True)
class Device:
    """A recording device: which videos are its own, and what it writes into them.

    `videos` are patterns of names (`*` for any text, slashes too). `size` (width, height) refuses videos of another.
    `circle` is given, or True: looked for in every video.
    """

    name: str
    videos: tuple[str, ...]
    rectangles: tuple[Rectangle, ...] = ()
    circle: Circle | bool = False
    size: tuple[int, int] | None = None

    def check(self, width: int, height: int) -> None:
        """Raise ValueError when a video of this size cannot be of this device."""
        if self.size and self.size != (width, height):
            raise ValueError(
                f"its frames are {width}x{height}, those of device {self.name} {self.size[0]}x{self.size[1]}; "
                "give it a device of its own"
            )
        for box in self.rectangles:
            if box.x + box.width > width or box.y + box.height > height:
                raise ValueError(
                    f"the rectangle [{box.x}, {box.y}, {box.width}, {box.height}] of device {self.name} is not inside "
                    f"its frames of {width}x{height}; give it a device of its own"
                )


def read_devices(path: str | Path) -> list[Device]:
    """The devices of a YAML or JSON file: name -> rectangles, or -> {rectangles, circle, size, videos}.

    Without `videos`, a device takes the videos below a folder of its name; the only device of a file takes all.
    Raises ValueError that names the file, the device and the value.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; it is a YAML or JSON file: device -> {FORM}")
    try:
        found = yaml.safe_load(path.read_text("utf-8"))  # JSON is YAML
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: neither YAML nor JSON ({' '.join(str(error).split())[:200]})") from None
    if not isinstance(found, dict) or not found:
        raise ValueError(f"{path}: it must be a mapping: device -> {FORM}")
    try:
        return [_device(name, entry, len(found) == 1) for name, entry in found.items()]
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def device_of(devices: Sequence[Device], video: str) -> Device:
    """The first device that a video belongs to. Raises ValueError when there is none."""
    for device in devices:
        if any(fnmatchcase(video, pattern) for pattern in device.videos):
            return device
    names = ", ".join(device.name for device in devices)
    raise ValueError(f"it belongs to no device of the masks ({names}); move it below a folder of that name or add it")


def _device(name: Any, entry: Any, only: bool) -> Device:
    if not isinstance(name, str) or not _DEVICE.fullmatch(name):
        raise ValueError(f"the device {name!r} needs a name of letters, digits, dot, - and _, 64 at most")
    entry = {"rectangles": entry} if isinstance(entry, list) else entry
    if not isinstance(entry, Mapping) or not set(entry) <= {"rectangles", "circle", "size", "videos"}:
        raise ValueError(f"device {name}: {json.dumps(entry, default=str)[:80]} is not {FORM}")
    videos = entry.get("videos", ["*"] if only else [f"{name}/*", f"*/{name}/*"])
    videos = [videos] if isinstance(videos, str) else videos
    if not isinstance(videos, list) or not videos or not all(isinstance(pattern, str) for pattern in videos):
        raise ValueError(f"device {name}: videos is {videos!r}, not a pattern or a list of them")
    boxes = entry.get("rectangles") or []
    if not isinstance(boxes, list):
        raise ValueError(f"device {name}: rectangles is {boxes!r}, not a list of [x, y, width, height]")
    size = entry.get("size")
    return Device(
        name,
        tuple(videos),
        tuple(Rectangle(*_whole(name, "rectangle", box, 4, least=(0, 0, 1, 1))) for box in boxes),
        _circle(name, entry.get("circle", False)),
        None if size is None else tuple(_whole(name, "size", size, 2, least=(1, 1))),
    )


def _circle(name: str, value: Any) -> Circle | bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, list) and len(value) == 3 and all(_is_number(part) for part in value) and value[2] > 0:
        return Circle(*map(float, value))
    raise ValueError(f"device {name}: circle is {value!r}; give [x, y, radius], true or false")


def _whole(name: str, what: str, value: Any, count: int, least: tuple[int, ...]) -> list[int]:
    if (
        not isinstance(value, list)
        or len(value) != count
        or not all(isinstance(part, int) and not isinstance(part, bool) for part in value)
        or any(part < low for part, low in zip(value, least, strict=True))
    ):
        form = "[x, y, width, height]" if count == 4 else "[width, height]"
        raise ValueError(f"device {name}: the {what} {value!r} is not {form} in whole pixels")
    return value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
