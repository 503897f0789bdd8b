"""Visual features of frames: remembered while they stay right, computed in chunks of a token budget."""

from collections import OrderedDict
from collections.abc import Hashable, Iterator, Sequence

import torch
from PIL import Image

from medscope.environment.video import PATCH_FACTOR


class FeatureCache:
    """Features by the frame's key, at most `max_bytes` of them; the least recently used go first."""

    def __init__(self, max_bytes: int):
        self.max_bytes, self.bytes = max_bytes, 0
        self._features: OrderedDict[Hashable, torch.Tensor] = OrderedDict()

    def __contains__(self, key: Hashable) -> bool:
        return key in self._features

    def get(self, key: Hashable) -> torch.Tensor | None:
        """The features [tokens, hidden] of this frame, now the most recently used; None if they are not held."""
        if key not in self._features:
            return None
        self._features.move_to_end(key)
        return self._features[key]

    def add(self, key: Hashable, features: torch.Tensor) -> None:
        """Keep a detached copy, and drop what has not been used for longest."""
        self.bytes -= _bytes(self._features.pop(key)) if key in self._features else 0
        self._features[key] = features.detach().clone()
        self.bytes += _bytes(features)
        while self.bytes > self.max_bytes:
            self.bytes -= _bytes(self._features.popitem(last=False)[1])

    def clear(self) -> None:
        """Drop everything: the vision tower has changed, or nobody needs it any more."""
        self._features.clear()
        self.bytes = 0


def _bytes(features: torch.Tensor) -> int:
    return features.numel() * features.element_size()


def visual_tokens(image: Image.Image) -> int:
    """How many tokens a frame takes: one for every 28 x 28 px."""
    return (image.width // PATCH_FACTOR) * (image.height // PATCH_FACTOR)


def in_chunks(images: Sequence[Image.Image], most_tokens: int) -> Iterator[Sequence[Image.Image]]:
    """The frames in order, in runs of at most `most_tokens` visual tokens (a larger frame is a run of its own)."""
    first, tokens = 0, 0
    for index, image in enumerate(images):
        if index > first and tokens + visual_tokens(image) > most_tokens:
            yield images[first:index]
            first, tokens = index, 0
        tokens += visual_tokens(image)
    if first < len(images):
        yield images[first:]
