"""Warm-up for nested annotations: what a turn names was shown, on whatever clock."""

import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from media import write_mp4

from medscope.agents.policy import tiny_policy
from medscope.environment import FrameStore, ToolBudget
from medscope.environment.grammar import find_tool_call, parse_answer
from medscope.records import Interval, Recording, WarmUpExample, Window
from medscope.sources.rendered.camera import write_video
from medscope.sources.rendered.collections import sample_recording
from medscope.sources.rendered.questions import LANGUAGE
from medscope.sources.source import TEMPLATES, Language
from medscope.suite.nested_tasks import EVENT, FIND, LEVEL, WHICH, nested_tasks
from medscope.suite.search_warm_up import LATEST_SECOND, STORY, search_examples
from medscope.suite.warm_up import warm_up_blocks
from medscope.training.examples import warm_up_example

BUDGET = ToolBudget(max_calls=6, skim_frames=16, skim_pixels=784, crop_frames=12, crop_pixels=3136, frame_pixels=7056)


@pytest.fixture(scope="module")
def recording(tmp_path_factory) -> Recording:
    path = tmp_path_factory.mktemp("videos") / "clip.mp4"
    drawn = sample_recording("clips", "clip", "warm_up", path, BUDGET.skim_frames, 0.2, np.random.default_rng(1))
    write_video(drawn)
    return drawn


def shown_numbers(example: WarmUpExample) -> set[int]:
    """The seconds that the dialogue shows or gives, as its text says them."""
    text = (
        example.given
        + example.question
        + "".join(block["text"] for block in warm_up_blocks(example, FrameStore()) if block["type"] == "text")
    )
    return {int(number) for number in re.findall(r"\d+", text)}


@pytest.mark.parametrize("captioned", [True, False])
def test_every_second_of_a_turn_was_shown(recording, captioned):
    tasks = nested_tasks(recording, LANGUAGE, np.random.default_rng(0))
    store = FrameStore()
    examples = search_examples(tasks, {recording.video: recording}, store, BUDGET, captioned, 1, 9, seed=0)
    assert len(examples) > 2 * len(tasks)
    assert any(example.end > recording.duration for example in examples)  # some count on a clock of their own
    for example in examples:
        assert {int(n) for n in re.findall(r"\d+", example.turn)} <= shown_numbers(example)
        assert bool(example.captions or example.given) == captioned and not (example.captions and example.given)
        assert max(shown_numbers(example)) <= LATEST_SECOND
        assert (find_tool_call(example.turn) is None) == (parse_answer(example.turn) is not None)


def test_where_the_storyline_is_given_its_place_is_taught_and_nothing_else_tells_it(recording):
    tasks = nested_tasks(recording, LANGUAGE, np.random.default_rng(0))
    store = FrameStore()
    examples = search_examples(4 * tasks, {recording.video: recording}, store, BUDGET, True, 1, 9, seed=0)
    given = [example for example in examples if example.given]
    told = [example for example in examples if STORY.match(example.turn)]  # a single frame is told without seconds
    assert 0.3 * len(told) < len(given) < 0.7 * len(told)
    policy = tiny_policy(seed=0)
    for example in given:
        assert example.seconds == () and example.turn.startswith(example.given) and example.given.endswith("s |")
        prompt, head, taught = warm_up_example(policy, example, store).spans
        assert not head.assistant and policy.tokenizer.decode(head.ids) == example.given
        assert taught.assistant and policy.tokenizer.decode(taught.ids).startswith(" ")
        assert not re.search(r"\d+s", policy.tokenizer.decode(prompt.ids))


def test_a_caption_tells_the_attributes_at_the_resolution_of_a_frame(recording):
    tasks = nested_tasks(recording, LANGUAGE, np.random.default_rng(0))
    examples = search_examples(tasks, {recording.video: recording}, FrameStore(), BUDGET, True, 1, 9, seed=0)
    event = next(interval for interval in recording.intervals if "count" in interval.attributes)
    told = sorted(event.attributes[name] for name in ("instrument", "side", "count"))
    places = BUDGET.frame_pixels // 784
    captions = [caption.split() for example in examples for caption in example.captions]
    assert any(sorted(set(words)) == told and len(words) == places for words in captions)


def test_so_many_looks_of_a_task(recording):
    tasks = nested_tasks(recording, LANGUAGE, np.random.default_rng(0))
    known = {recording.video: recording}
    for skims, looks in ((1, 0), (0, 1), (1, 1)):
        examples = search_examples(tasks, known, FrameStore(), BUDGET, False, skims, looks, seed=0)
        sizes = [example.max_pixels for example in examples]
        assert sizes.count(BUDGET.skim_pixels) <= skims * len(tasks)
        assert len(sizes) - sizes.count(BUDGET.skim_pixels) <= looks * len(tasks)
        assert (BUDGET.skim_pixels in sizes) == bool(skims)


@pytest.fixture(scope="module")
def film(tmp_path_factory) -> Recording:
    """120 s: wash, cut, wash again, which bleeds; a leak does not occur."""
    path = tmp_path_factory.mktemp("videos") / "film.mp4"
    write_mp4(path, range(120))
    intervals = [
        *((0, 40, "wash", "phase"), (0, 40, "hold", "step"), (40, 80, "cut", "phase"), (40, 80, "push", "step")),
        *((80, 120, "wash", "phase"), (80, 120, "hold", "step"), (97, 103, "bleed", "event")),
    ]
    annotation = tuple(Interval(Window(a, b), label, {LEVEL: level}) for a, b, label, level in intervals)
    return Recording("film", str(path), 120, annotation, "films", split="warm_up", group="film")


def looks_of(film: Recording, kind: str, others: Sequence[Recording] = ()) -> list[WarmUpExample]:
    """The looks of the warm-up for the film's task of one kind, 40 times, and for those of other recordings."""
    asked = nested_tasks(film, Language({**TEMPLATES, kind: LANGUAGE.templates[kind]}), np.random.default_rng(0))
    tasks = [task for task in asked if task.kind == kind and task.subject == "bleed"]
    assert len(tasks) == 1
    known = {recording.video: recording for recording in (film, *others)}
    tasks = 40 * tasks + [replace(tasks[0], video=recording.video) for recording in others]
    return search_examples(tasks, known, FrameStore(), BUDGET, False, 0, 9, seed=0)


def test_a_look_without_the_event_is_taught_with_the_places_that_were_named_before(film):
    told = [example for example in looks_of(film, WHICH) if example.time_offset == 0]
    turns = {example.question.split("?")[1]: example.turn.split(" | ", 1)[1] for example in told}
    first, second = " wash 0 0 45 wash 75 82 120", " wash 75 82 120"
    assert set(turns) == {first, second}
    assert turns[first].startswith("which wash bleed | not seen | look | wash 75 82 120</think>")
    assert turns[second].startswith("which wash bleed | seen | cut 7")
    assert turns[second].endswith("<answer>from 80 to 120 s</answer>")


def test_some_questions_are_about_an_event_that_does_not_occur(film):
    leak = Interval(Window(9, 15), "leak", {LEVEL: EVENT})
    looks = looks_of(film, FIND, [replace(film, video="other", intervals=(*film.intervals[:2], leak))])
    absent = [example for example in looks if "leak" in example.question]
    assert 0 < len(absent) < len(looks) / 2
    for example in absent:
        assert "bleed" not in example.question and " wash leak | not seen | " in example.turn
    assert not any("leak" in example.question for example in looks_of(film, FIND))
    elsewhere = [
        *(interval for interval in film.intervals if interval.label != "wash"),
        replace(leak, window=Window(50, 56)),
    ]
    looks = looks_of(film, FIND, [replace(film, video="other", intervals=tuple(elsewhere))])
    assert not any("leak" in example.question for example in looks), "training shows no leak in a wash"
