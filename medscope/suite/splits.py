"""Splits are assigned here, apart from the source: published ones are kept, the rest follow a hash of the group.

A group (patient or procedure) is never separated. Groups of the same name in two collections count as one.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from hashlib import sha256
from itertools import accumulate

from medscope.records import Recording, Split

SHARES: dict[Split, float] = {"warm_up": 0.3, "sft": 0.4, "rl": 0.2, "eval": 0.1}


def assign_splits(
    recordings: Iterable[Recording], shares: Mapping[Split, float] = SHARES, seed: int = 0
) -> list[Recording]:
    """The recordings in their order, each with a split.

    A recording without a published split joins the published split of its group. Where the group has none, it is drawn
    by `shares` from the seed and the group's name alone: a recording that is added later moves no other. Recordings
    that are out of domain are for evaluation only. Raises ValueError for a video that comes twice, for published splits
    that separate a group, for one that trains on an out-of-domain collection, and for shares that are no shares.
    """
    recordings = list(recordings)
    if not all(share >= 0 for share in shares.values()) or abs(sum(shares.values()) - 1) > 1e-6:
        raise ValueError(f"the shares of the splits are {dict(shares)}; they must add up to 1")
    videos: set[str] = set()
    splits: dict[str, Split] = {}
    for recording in recordings:
        if recording.video in videos:
            raise ValueError(f"the video {recording.video!r} comes twice; a source names every video once")
        videos.add(recording.video)
        _publish(splits, recording)
    return [replace(r, split=splits.get(group_of(r)) or _draw(group_of(r), shares, seed)) for r in recordings]


def group_of(recording: Recording) -> str:
    """The name of the recording's group; a video without one stands alone."""
    return recording.group or recording.video


def _publish(splits: dict[str, Split], recording: Recording) -> None:
    """Note the published split of a recording's group; for an out-of-domain collection that is `eval`."""
    published, group = recording.split, group_of(recording)
    if recording.domain == "out":
        if published not in (None, "eval"):
            raise ValueError(
                f"{recording.video} is of the out-of-domain collection {recording.collection} and in split "
                f"{published}; only eval may hold it"
            )
        published = "eval"
    if published is not None and splits.setdefault(group, published) != published:
        raise ValueError(
            f"the group {group} is in the splits {splits[group]} and {published} ({recording.video}); "
            "keep all its videos in one split"
        )


def _draw(group: str, shares: Mapping[Split, float], seed: int) -> Split:
    """A split with the chance of its share, from seed and group alone."""
    chance = int.from_bytes(sha256(f"{seed}/{group}".encode()).digest()[:8]) / 2**64
    bounds = zip(shares, accumulate(shares.values()), strict=True)
    return next((split for split, bound in bounds if chance < bound), next(s for s in reversed(shares) if shares[s]))
