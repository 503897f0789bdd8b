"""Lessons of recall: every second is asked by its word, and none can be guessed from the order of the frames."""

from itertools import pairwise

import pytest

from medscope.suite.recall import FEWEST_WORDS, recall_examples

NAMES = ("incision", "dissection", "suturing", "irrigation", "coagulation")
LATEST = 200  # seconds


@pytest.fixture(scope="module")
def examples():
    return recall_examples(200, NAMES, LATEST, seed=0)


def test_a_turn_gives_the_second_of_every_word_in_the_order_of_the_question(examples):
    for example in examples[::2]:
        asked = example.question.removeprefix("find ").split()
        of_word = dict(zip(example.captions, example.seconds, strict=True))
        assert example.turn == f"<think>{' | '.join(f'{word} {of_word[word]:g}' for word in asked)}</think>"
        assert sorted(asked) == sorted(set(example.captions)) == sorted(example.captions)


def test_a_word_that_lasts_is_given_its_place(examples):
    """The last second before it, its first, the first behind it."""
    for example in examples[1::2]:
        frames = [*zip(example.captions, example.seconds, strict=True), ("end", example.end)]
        starts = [0, *(i + 1 for i, (a, b) in enumerate(pairwise(frames)) if a[0] != b[0])]
        for part in example.turn.removeprefix("<think>").removesuffix("</think>").split(" | "):
            word, *place = part.split()
            number = next(n for n, at in enumerate(starts) if frames[at][0] == word)
            first, after = starts[number], starts[number + 1]
            assert list(map(float, place)) == [frames[max(0, first - 1)][1], frames[first][1], frames[after][1]]


def test_frames_lie_in_order_within_the_clock(examples):
    for example in examples:
        clock = [*example.seconds, example.end]
        assert clock == sorted(set(clock)) and clock[0] >= 0 and clock[-1] <= LATEST


def test_the_order_of_the_question_is_not_that_of_the_frames(examples):
    alike = sum(example.question.split()[1:] == list(dict.fromkeys(example.captions)) for example in examples)
    assert alike < len(examples) / 3


def test_too_few_words_make_no_lesson():
    assert recall_examples(5, NAMES[: FEWEST_WORDS - 1], LATEST, seed=0) == []
