"""Lessons of recall: a look in words, every frame another word, and each word asked again for its second.

This is multi-query associative recall (Arora et al. 2023, "Zoology"). In a teacher's turn most seconds can be copied in
the order of the frames, so that few tokens of it ask for the second *of a word*, and a model of random weights does not
learn from so few. Here every second does. On these lessons it is learned within 200 steps (docs/results.md).
"""

from collections.abc import Sequence

import numpy as np

from medscope.records import WarmUpExample
from medscope.suite.teachers.thoughts import think

RECALL = "recall"  # collection of these examples
FEWEST_FRAMES, MOST_FRAMES = 3, 10
STEPS = (1.0, 1.3, 2.0, 4.0, 7.0, 13.0)  # seconds between frames


def recall_examples(count: int, names: Sequence[str], latest_second: int, seed: int) -> list[WarmUpExample]:
    """`count` lessons on words from `names` and seconds up to `latest_second`; none where there are too few words."""
    most = min(MOST_FRAMES, len(names))
    if most < FEWEST_FRAMES:
        return []
    rng = np.random.default_rng([seed, 12])
    examples = []
    for _ in range(count):
        frames = int(rng.integers(FEWEST_FRAMES, most + 1))
        words = [names[i] for i in rng.permutation(len(names))[:frames]]
        between = float(rng.choice(STEPS))
        start = int(rng.integers(0, latest_second - int(between * (frames + 1))))
        *seconds, end = (start + round(between * i) for i in range(frames + 1))
        order = rng.permutation(frames)
        example = WarmUpExample(
            video="",
            path="",
            question="find " + " ".join(words[i] for i in order),
            seconds=tuple(seconds),
            max_pixels=0,
            end=end,
            turn=think(*(f"{words[i]} {seconds[i]}" for i in order)),
            captions=tuple(words),
            collection=RECALL,
        )
        examples.append(example)
    return examples
