"""Examples of recall: a storyline in words, and each word that it tells asked again for its place.

This is multi-query associative recall (Arora et al. 2023, "Zoology"). In a teacher's turn most seconds can be copied in
the order of the frames, so that few tokens of it ask for the second *of a word*, and a model of random weights does not
learn from so few. Here every second does. In half of them (`RECALL`) every frame shows another word and the
second is asked alone; in the others (`PLACES`) a word lasts for some frames and its place is asked as a teacher's
thought writes it; in half of these a word comes twice, and all its places are asked, as a thought lists candidates. A
model learns the second kind after the first, and neither of them soon from both at once. Half of the first kind have
three words at most: with more in most of them a model of random weights may stay for long on the plateau of one that
recalls nothing. The storyline stands in the question.
"""

from collections.abc import Iterable, Sequence

import numpy as np

from medscope.records import Recording, WarmUpExample
from medscope.suite.nested_tasks import EVENT, LEVEL
from medscope.suite.teachers.thoughts import Run, numbers, place, story, think

RECALL, PLACES = "recall", "places"  # collections of these examples
FEWEST_WORDS, FEW_WORDS, MOST_WORDS = 2, 3, 8  # distinct ones; half of the first kind have few
TWICE = 0.5  # share of the second kind in which a word comes twice
MOST_FRAMES = 4  # of a word that lasts
STEPS = (1.0, 1.3, 2.0, 4.0, 7.0, 13.0, 30.0)  # seconds between frames


def told_words(recordings: Iterable[Recording]) -> list[str]:
    """What a thought may tell: the labels, and the attributes of events. Sorted."""
    intervals = [interval for recording in recordings for interval in recording.intervals]
    described = [interval.attributes for interval in intervals if interval.attributes.get(LEVEL) == EVENT]
    told = {value for attributes in described for name, value in attributes.items() if name != LEVEL}
    return sorted(told | {interval.label for interval in intervals})


def recall_examples(count: int, names: Sequence[str], latest_second: int, seed: int) -> list[WarmUpExample]:
    """`count` examples on words from `names` and seconds up to `latest_second`; none where there are too few words."""
    if len(names) < FEWEST_WORDS:
        return []
    rng = np.random.default_rng([seed, 12])
    return [_example(names, (RECALL, PLACES)[number % 2], latest_second, rng) for number in range(count)]


def _example(names: Sequence[str], collection: str, latest_second: int, rng: np.random.Generator) -> WarmUpExample:
    lasting = collection == PLACES
    most = min(FEW_WORDS if not lasting and rng.random() < 0.5 else MOST_WORDS, len(names))
    words = [names[i] for i in rng.permutation(len(names))[: int(rng.integers(FEWEST_WORDS, most + 1))]]
    order = [words[i] for i in rng.permutation(len(words))]
    if lasting and rng.random() < TWICE:
        again = words[int(rng.integers(len(words) - 1))]
        words.insert(int(rng.integers(words.index(again) + 2, len(words) + 1)), again)
    lengths = [int(rng.integers(1, MOST_FRAMES + 1)) if lasting else 1 for _ in words]
    frames = sum(lengths)
    between = min(float(rng.choice(STEPS)), latest_second / (frames + 1))
    start = int(rng.integers(0, latest_second - int(between * frames)))
    seconds = [float(start + int(between * number)) for number in range(frames + 1)]
    shown, found = iter(seconds), []
    for word, length in zip(words, lengths, strict=True):
        found.append(Run(word, tuple(next(shown) for _ in range(length))))
    asked = [number for word in order for number in numbers(found, [word])]
    parts = (str(place(found, n, seconds[-1])) if lasting else f"{found[n].label} {found[n].first:g}" for n in asked)
    return WarmUpExample(
        video="",
        path="",
        question=f"find {' '.join(order)} | {story(found, seconds[-1])}",
        seconds=(),
        max_pixels=0,
        end=seconds[-1],
        turn=think(*parts),
        collection=collection,
    )
