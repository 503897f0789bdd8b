"""A set of keys that grows by 8 bytes a key, so that the memory of a run stays flat over millions of items."""

from collections.abc import Iterable
from hashlib import blake2b

import numpy as np

RECENT = 4_096  # keys of the small set; then they go into the sorted array


class Keys:
    """Keys as 64-bit digests: 10^7 different keys hold two of the same digest with a probability of 3e-6."""

    def __init__(self, keys: Iterable[str] = ()):
        self._sorted = np.empty(0, np.uint64)
        self._recent: set[int] = set()
        for key in keys:
            self.add(key)

    def __contains__(self, key: str) -> bool:
        return self._has(_digest(key))

    def __len__(self) -> int:
        return len(self._sorted) + len(self._recent)

    def add(self, key: str) -> bool:
        """Whether the key is new."""
        digest = _digest(key)
        if self._has(digest):
            return False
        self._recent.add(digest)
        if len(self._recent) >= RECENT:
            recent = np.sort(np.fromiter(self._recent, np.uint64, len(self._recent)))
            self._sorted = np.insert(self._sorted, np.searchsorted(self._sorted, recent), recent)
            self._recent.clear()
        return True

    def _has(self, digest: int) -> bool:
        if digest in self._recent:
            return True
        at = np.searchsorted(self._sorted, np.uint64(digest))
        return bool(at < len(self._sorted) and self._sorted[at] == digest)


def _digest(key: str) -> int:
    return int.from_bytes(blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")
