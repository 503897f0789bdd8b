"""Lessons of recall: every second is asked by its word, and none can be guessed from the order of the frames."""

import pytest

from medscope.suite.recall import FEWEST_FRAMES, MOST_FRAMES, recall_examples

NAMES = ("incision", "dissection", "suturing", "irrigation", "coagulation")
LATEST = 200  # seconds


@pytest.fixture(scope="module")
def examples():
    return recall_examples(200, NAMES, LATEST, seed=0)


def test_the_turn_gives_every_word_its_second_in_the_order_of_the_question(examples):
    for example in examples:
        asked = example.question.removeprefix("find ").split()
        of_word = dict(zip(example.captions, example.seconds, strict=True))
        assert example.turn == f"<think>{' | '.join(f'{word} {of_word[word]:g}' for word in asked)}</think>"
        assert sorted(asked) == sorted(example.captions)


def test_frames_lie_in_order_within_the_clock_and_each_shows_another_word(examples):
    for example in examples:
        assert FEWEST_FRAMES <= len(set(example.captions)) == len(example.captions) <= min(MOST_FRAMES, len(NAMES))
        clock = [*example.seconds, example.end]
        assert clock == sorted(set(clock)) and clock[0] >= 0 and clock[-1] <= LATEST


def test_the_order_of_the_question_is_not_that_of_the_frames(examples):
    alike = sum(example.question.split()[1:] == list(example.captions) for example in examples)
    assert alike < len(examples) / 3  # one of six orders of three words


def test_too_few_words_make_no_lesson():
    assert recall_examples(5, NAMES[: FEWEST_FRAMES - 1], LATEST, seed=0) == []
