"""Grouping by length: every example as often as the others, batches of like length, one order for one seed."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from medscope.environment import ClinicalVideoEnvironment
from medscope.environment.grammar import call_text
from medscope.records import Task, Text, Trajectory, WarmUpExample, Window
from medscope.training.examples import trajectory_example, warm_up_example
from medscope.training.order import estimated_tokens, grouped_by_length

LENGTHS = np.random.default_rng(0).integers(100, 5000, 1000).tolist()


def padding(order, batch_size):
    """Tokens of padding in a token of an example."""
    rows = np.asarray(LENGTHS)[order].reshape(-1, batch_size)
    return rows.shape[1] * rows.max(1).sum() / rows.sum() - 1


def test_batches_hold_examples_of_like_length_in_random_order():
    order = grouped_by_length(LENGTHS, 8, 125, seed=0)
    assert sorted(order) == list(range(1000)), "one epoch: every example once"
    random = np.random.default_rng(1).permutation(1000).tolist()
    assert padding(order, 8) < 0.05 < 0.5 < padding(random, 8)
    means = np.asarray(LENGTHS)[order].reshape(-1, 8).mean(1)
    assert abs(np.corrcoef(means, np.arange(125))[0, 1]) < 0.2, "batches are not sorted by length"


def test_every_example_comes_as_often_as_the_others():
    counts = Counter(grouped_by_length(LENGTHS, 16, 200, seed=0))
    assert set(counts.values()) == {3, 4} and len(counts) == 1000


def test_the_order_depends_on_the_seed_alone_and_begins_alike_however_long_the_training_is():
    assert grouped_by_length(LENGTHS, 8, 300, seed=3) == grouped_by_length(LENGTHS, 8, 300, seed=3)
    assert grouped_by_length(LENGTHS, 8, 300, seed=3) != grouped_by_length(LENGTHS, 8, 300, seed=4)


@pytest.fixture
def task(operation):
    return Task(
        id="a", video=operation.video, path=operation.path, question="When?", reference=Text("now"),
        evidence=Window(0, 20), kind="grounding", split="sft", collection="cataract",
    )  # fmt: skip


def test_lengths_are_estimated_without_a_look_at_the_video(policy, task, operation, store, tiny_budget):
    environment = ClinicalVideoEnvironment(store, tiny_budget)
    calls = [call_text("crop_video", {"start_time": 0.0, "end_time": 20.0}), call_text("get_frame", {"timestamp": 9.0})]
    turns = [f"<think>look</think>{call}" for call in calls]
    records, true = [], []
    for count in range(3):
        record = Trajectory(task, (*turns[:count], "<think>seen</think><answer>yes</answer>"))
        true.append(trajectory_example(policy, record, environment).tokens)
        records.append(replace(record, calls=tuple(environment.trace.calls)))
    records.append(WarmUpExample(task.video, task.path, "When?", (1.0, 2.0), 784, 3.0, "now"))
    true.append(warm_up_example(policy, records[-1], store).tokens)
    durations = {task.video: operation.duration}
    gone = [
        replace(r, task=replace(task, path="gone.mp4")) if isinstance(r, Trajectory) else replace(r, path="gone.mp4")
        for r in records
    ]
    found = [estimated_tokens(policy, record, durations, tiny_budget) for record in gone]
    assert np.argsort(found).tolist() == np.argsort(true).tolist()
    assert found == pytest.approx(true, rel=0.15)
