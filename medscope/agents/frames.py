"""Frames as JPEG of bounded bytes. The same frame gives the same bytes; nothing of its file goes but the picture."""

import base64
import io
from collections import OrderedDict
from threading import Lock

from PIL import Image

QUALITIES = (90, 80, 70, 60, 50, 40, 30)  # tried in turn; below the last the frame is halved
SMALLEST = 16  # pixels a side


def jpeg(image: Image.Image, max_bytes: int) -> bytes:
    """The frame as baseline JPEG of at most `max_bytes`, in the best of a few qualities, else at half its size.

    Raises ValueError where not even a frame of 16 pixels fits.
    """
    bare = Image.frombytes("RGB", image.size, image.convert("RGB").tobytes())  # no comment, colour profile or EXIF
    while min(bare.size) >= SMALLEST or bare.size == image.size:
        for quality in QUALITIES:
            file = io.BytesIO()
            bare.save(file, "JPEG", quality=quality)
            if file.tell() <= max_bytes:
                return file.getvalue()
        bare = bare.resize((max(1, bare.width // 2), max(1, bare.height // 2)), Image.Resampling.BOX)
    raise ValueError(f"a frame of {image.width} x {image.height} pixels does not fit {max_bytes} bytes as JPEG")


def data_uri(content: bytes, kind: str = "image/jpeg") -> str:
    """Bytes as a URI that needs no network."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


class FrameEncoder:
    """`jpeg` with a memory: a dialogue sends its frames again with every turn. Threads may share it."""

    def __init__(self, max_bytes: int, remembered: int = 2048):
        self.max_bytes, self.remembered = max_bytes, remembered
        self._lock = Lock()
        self._known: OrderedDict[tuple[str, int, int], bytes] = OrderedDict()

    def __call__(self, image: Image.Image) -> bytes:
        key = image.info.get("frame")  # of a frame store; other images have no name
        with self._lock:
            if key in self._known:
                self._known.move_to_end(key)
                return self._known[key]
        content = jpeg(image, self.max_bytes)
        if key is not None:
            with self._lock:
                self._known[key] = content
                while len(self._known) > self.remembered:
                    self._known.popitem(last=False)
        return content
