"""Examples of recall: every second is asked by its word, and none can be guessed from the order of the frames."""

from itertools import pairwise

import pytest

from medscope.suite.recall import FEW_WORDS, FEWEST_WORDS, recall_examples

NAMES = ("incision", "dissection", "suturing", "irrigation", "coagulation")
LATEST = 200  # seconds


@pytest.fixture(scope="module")
def examples():
    return recall_examples(200, NAMES, LATEST, seed=0)


def read(example):
    """The words asked for, and what the storyline says: a word and a second for every frame, the last word is `end`."""
    asked, told = example.question.removeprefix("find ").split(" | ")
    told = told.split()
    return asked.split(), list(zip(told[::2], (float(second.rstrip("s")) for second in told[1::2]), strict=True))


def test_a_turn_gives_the_second_of_every_word_in_the_order_of_the_question(examples):
    for example in examples[::2]:
        asked, frames = read(example)
        of_word = dict(frames)
        assert example.turn == f"<think>{' | '.join(f'{word} {of_word[word]:g}' for word in asked)}</think>"
        assert sorted([*asked, "end"]) == sorted(word for word, _ in frames) == sorted(of_word)


def test_a_word_that_lasts_is_given_all_its_places(examples):
    """The last second before it, its first, the first behind it; of a word that comes twice first the earlier one."""
    twice = 0
    for example in examples[1::2]:
        asked, frames = read(example)
        starts = [0, *(i + 1 for i, (a, b) in enumerate(pairwise(frames)) if a[0] != b[0])]
        expected = []
        for word in asked:
            of_word = [n for n, at in enumerate(starts) if frames[at][0] == word]
            twice += len(of_word) == 2
            for number in of_word:
                first, after = starts[number], starts[number + 1]
                expected.append(f"{word} {frames[max(0, first - 1)][1]:g} {frames[first][1]:g} {frames[after][1]:g}")
        assert example.turn == f"<think>{' | '.join(expected)}</think>"
    assert len(examples) / 5 < twice < len(examples) / 3


def test_frames_lie_in_order_within_the_clock(examples):
    for example in examples:
        clock = [second for _, second in read(example)[1]]
        assert clock == sorted(set(clock)) and clock[0] >= 0 and clock[-1] <= LATEST


def test_the_order_of_the_question_is_not_that_of_the_frames(examples):
    told = ((asked, dict(frames)) for asked, frames in map(read, examples))
    alike = sum([*asked, "end"] == list(words) for asked, words in told)
    assert alike < len(examples) / 3


def test_too_few_words_make_no_example():
    assert recall_examples(5, NAMES[: FEWEST_WORDS - 1], LATEST, seed=0) == []


def test_half_of_the_first_kind_have_few_words(examples):
    """The others draw their number evenly from 2 to 5 here, so that half of them have few as well."""
    few = sum(len(read(example)[0]) <= FEW_WORDS for example in examples[::2])
    assert few / len(examples[::2]) == pytest.approx(0.75, abs=0.08)
