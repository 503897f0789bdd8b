"""Lessons of recall: a look in words, and each word that it shows asked again for its place.

This is multi-query associative recall (Arora et al. 2023, "Zoology"). In a teacher's turn most seconds can be copied in
the order of the frames, so that few tokens of it ask for the second *of a word*, and a model of random weights does not
learn from so few. Here every second does. In half of the lessons (`RECALL`) every frame shows another word and the
second is asked alone; in the others (`PLACES`) a word lasts for some frames and its place is asked as a teacher's
thought writes it. A model learns the second kind after the first, and neither of them soon from both at once.
"""

from collections.abc import Sequence

import numpy as np

from medscope.records import WarmUpExample
from medscope.suite.teachers.thoughts import Run, place, think

RECALL, PLACES = "recall", "places"  # collections of these examples
FEWEST_WORDS, MOST_WORDS, MOST_FRAMES = 2, 10, 4  # words of a lesson; frames of a word that lasts
STEPS = (1.0, 1.3, 2.0, 4.0, 7.0, 13.0, 30.0)  # seconds between frames


def recall_examples(count: int, names: Sequence[str], latest_second: int, seed: int) -> list[WarmUpExample]:
    """`count` lessons on words from `names` and seconds up to `latest_second`; none where there are too few words."""
    most = min(MOST_WORDS, len(names))
    if most < FEWEST_WORDS:
        return []
    rng = np.random.default_rng([seed, 12])
    return [_lesson(names, most, latest_second, bool(number % 2), rng) for number in range(count)]


def _lesson(
    names: Sequence[str], most: int, latest_second: int, lasting: bool, rng: np.random.Generator
) -> WarmUpExample:
    words = [names[i] for i in rng.permutation(len(names))[: int(rng.integers(FEWEST_WORDS, most + 1))]]
    lengths = [int(rng.integers(1, MOST_FRAMES + 1)) if lasting else 1 for _ in words]
    frames = sum(lengths)
    between = min(float(rng.choice(STEPS)), latest_second / (frames + 1))
    start = int(rng.integers(0, latest_second - int(between * frames)))
    seconds = [float(start + int(between * number)) for number in range(frames + 1)]
    shown, found = iter(seconds), []
    for word, length in zip(words, lengths, strict=True):
        found.append(Run(word, tuple(next(shown) for _ in range(length))))
    order = [int(number) for number in rng.permutation(len(words))]
    parts = (str(place(found, n, seconds[-1])) if lasting else str(found[n]) for n in order)
    return WarmUpExample(
        video="",
        path="",
        question="find " + " ".join(words[number] for number in order),
        seconds=tuple(seconds[:-1]),
        max_pixels=0,
        end=seconds[-1],
        turn=think(*parts),
        captions=tuple(run.label for run in found for _ in run.seconds),
        collection=PLACES if lasting else RECALL,
    )
