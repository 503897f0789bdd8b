"""What SFT reads: built when needed, in bounded memory, within the context, held out by video."""

import gc
import weakref
from dataclasses import replace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from training_tasks import window_tasks

from medscope.agents.encoding import TokenSpan
from medscope.agents.lengths import FRAME_WORDS
from medscope.agents.policy import tiny_policy
from medscope.agents.rollout import generate
from medscope.environment import ClinicalVideoEnvironment, FrameStore, ToolBudget
from medscope.environment.grammar import call_text
from medscope.files import write_jsonl
from medscope.records import Interval, Recording, ToolCall, Trajectory, WarmUpExample, Window
from medscope.suite.suite import Suite
from medscope.training.examples import (
    Example,
    ExampleBuilder,
    LazyExamples,
    clip_records,
    collate,
    hold_out,
    trajectory_example,
    trajectory_records,
    warm_up_records,
)
from medscope.training.sft import fine_tune

TURNS = (
    "<think>look</think>" + call_text("crop_video", {"start_time": 0.0, "end_time": 20.0}),
    "<think>seen</think><answer>yes</answer>",
)


@pytest.fixture
def trajectories(operation):
    return [Trajectory(task, TURNS) for task in window_tasks(operation.path, 4)]


@pytest.fixture(scope="module")
def own_policy():
    return tiny_policy(seed=0)


def test_nothing_is_decoded_before_a_batch_needs_it(own_policy, trajectories, tiny_budget):
    store = FrameStore()
    build = ExampleBuilder(own_policy, store, tiny_budget)
    training, held_out = map(build.fitting, trajectory_records(trajectories * 20))
    examples = LazyExamples([*training, *held_out], build)
    assert len(examples) == 80 and store.bytes == examples.bytes == 0
    assert examples[0].tokens > 0 and store.bytes > 0


@pytest.mark.slow
def test_examples_are_kept_within_a_bound_in_bytes(own_policy, trajectories, tiny_budget):
    build = ExampleBuilder(own_policy, FrameStore(max_bytes=1), tiny_budget)  # a store that keeps nothing itself
    one = build(trajectories[0])
    # 20 skim frames of 28 x 28 and 8 crop frames of 56 x 56, three bytes a pixel, and 8 bytes a token
    assert one.bytes == 3 * (20 * 784 + 8 * 3136) + 8 * one.tokens
    shown = []

    def watched(trajectory):
        example = build(trajectory)
        shown.extend(weakref.ref(image) for span in example.spans for image in span.images)
        return example

    examples = LazyExamples(trajectories * 3, watched, max_bytes=3 * one.bytes)
    for number in range(len(examples)):
        tokens = examples[number].tokens
        assert examples.bytes <= 3 * one.bytes + 8 * 3 * abs(tokens - one.tokens)
    gc.collect()
    assert len(shown) == 12 * 28 and sum(image() is not None for image in shown) <= 3 * 28
    assert examples[0].tokens == one.tokens and len(shown) == 13 * 28  # forgotten, so built again


def test_examples_of_a_video_are_built_together_while_there_is_room(tmp_path):
    built = []

    def build(record):
        built.append(record.question)
        return Example((TokenSpan([0] * 10),))  # 80 bytes

    records = [replace(warm_up(video), question=video + number) for number in "123" for video in ("a", "b", "")]
    examples = LazyExamples(records, build, max_bytes=400)
    assert examples[4].tokens == 10 and built == ["b2", "b1", "b3"]  # its video is opened once
    assert examples[2].tokens == 10 and built[3:] == ["1"]  # without a video nothing belongs to it
    assert examples[3].tokens == 10 and built[4:] == ["a2"]  # the bound leaves no room for a1 and a3
    assert [examples[i].tokens for i in (1, 4, 7, 2, 3)] == [10] * 5 and len(built) == 5
    assert examples.bytes == 400


@pytest.mark.slow
def test_a_trainer_builds_no_more_examples_than_its_batches_need(own_policy, tmp_path):
    built = []

    def build(number):
        built.append(number)
        text = own_policy.encode(f"from {number} s")
        return Example((TokenSpan(text), TokenSpan([*text, own_policy.turn_end], assistant=True)))

    fine_tune(tiny_policy(seed=0), range(50), [50], build, tmp_path, steps=2, batch_size=3, learning_rate=1e-3)
    assert 50 in built and len(built) == len(set(built)) <= 1 + 3 * 3  # two batches and one fetched ahead


@pytest.mark.slow
def test_processes_that_read_ahead_change_nothing(trajectories, tiny_budget, tmp_path):
    def trained(workers):
        policy, store, built = tiny_policy(seed=0), FrameStore(), []
        build = ExampleBuilder(policy, store, tiny_budget)
        build(trajectories[0])  # a file is open when the workers are forked

        def watched(record):
            built.append(record)
            return build(record)

        settings = {"steps": 4, "batch_size": 2, "learning_rate": 1e-3, "loader_workers": workers}
        log = fine_tune(policy, trajectories, trajectories[:1], watched, tmp_path / str(workers), **settings)
        assert bool(built) == (workers == 0), "the workers build, not the trainer"
        return log, policy.model.state_dict()

    (log, alone), (other_log, ahead) = trained(0), trained(2)
    assert [row.get("loss") for row in log] == [row.get("loss") for row in other_log]
    assert all(torch.equal(alone[name], ahead[name]) for name in alone)


def test_a_trajectory_trains_on_the_very_tokens_of_its_rollout(own_policy, trajectories, store, tiny_budget):
    environment = ClinicalVideoEnvironment(store, tiny_budget)
    task = trajectories[0].task
    rollout, *_ = generate(own_policy, [task], [environment], forced_turns=[[TURNS[0]]], max_turn_tokens=2)
    example = ExampleBuilder(own_policy, store, tiny_budget)(trajectories[0])
    read = [token for span in example.spans for token in span.ids]
    seen = rollout.prompt.ids + rollout.completion
    assert read[: len(seen) - 2] == seen[:-2]  # without the two tokens that it sampled
    batch = collate(own_policy, [example])
    taught = batch["labels"][0][batch["labels"][0] >= 0]
    said = own_policy.tokenizer.decode(taught)
    assert said == f"{TURNS[0]}<|im_end|>{TURNS[1]}<|im_end|>"


def test_a_refused_turn_is_read_and_not_imitated(own_policy, trajectories, store, tiny_budget):
    swapped = "<think>look</think>" + call_text("crop_video", {"start_time": 20.0, "end_time": 0.0})
    example = ExampleBuilder(own_policy, store, tiny_budget)(replace(trajectories[0], turns=(swapped, *TURNS)))
    said = ["".join(own_policy.tokenizer.decode(span.ids)) for span in example.spans if span.assistant]
    assert said == [f"{turn}<|im_end|>" for turn in TURNS]
    assert swapped in own_policy.tokenizer.decode([token for span in example.spans for token in span.ids])


def test_long_batches_are_trained_without_a_mask_to_the_same_loss_and_gradient(trajectories, store, tiny_budget):
    policy = tiny_policy(seed=0)
    other = Trajectory(trajectories[0].task, (TURNS[0], f"<think>{'seen ' * 50}</think><answer>yes</answer>"))
    examples = [ExampleBuilder(policy, store, tiny_budget)(t) for t in (trajectories[0], other)]
    width = max(example.tokens for example in examples)

    def trained():
        batch = collate(policy, examples)
        policy.model.zero_grad()
        with Squares() as seen:
            loss = policy.model(**batch).loss
            loss.backward()
        gradient = torch.cat([p.grad.flatten() for p in policy.model.parameters() if p.grad is not None])
        return loss.detach(), gradient, seen.squares

    loss, gradient, squares = trained()
    policy.activation_bytes = 1 << 10  # and with it the largest mask
    assert policy.mask_elements < width**2
    other_loss, other_gradient, other_squares = trained()
    torch.testing.assert_close(other_loss, loss, atol=1e-6, rtol=0)
    torch.testing.assert_close(other_gradient, gradient, atol=1e-6, rtol=1e-4)
    assert squares and not other_squares  # no [.., width, width] was made


class Squares(TorchDispatchMode):
    """How many tensors [.., n, n] of at least 200 tokens the operations return."""

    squares = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else [result]:
            shape = getattr(tensor, "shape", ())
            self.squares += len(shape) > 2 and shape[-1] == shape[-2] >= 200
        return result


def test_examples_beyond_the_context_are_counted_and_left_out(own_policy, trajectories, store, capsys, tiny_budget):
    lengths = [ExampleBuilder(own_policy, store, tiny_budget)(t).tokens for t in trajectories]
    longer = Trajectory(trajectories[0].task, (TURNS[0], f"<think>{'seen ' * 50}</think><answer>yes</answer>"))
    limit = ToolBudget(
        skim_frames=20, skim_pixels=784, crop_frames=8, crop_pixels=3136, frame_pixels=7056, context_tokens=max(lengths)
    )
    kept = ExampleBuilder(own_policy, store, limit).fitting([*trajectories, longer])
    assert kept == trajectories
    assert capsys.readouterr().out == f"1 of 5 examples left out: more than {max(lengths)} tokens each\n"
    assert ExampleBuilder(own_policy, store, tiny_budget).fitting([longer]) == [longer]
    assert capsys.readouterr().out == ""


def test_a_record_tells_the_most_tokens_of_its_example(own_policy, trajectories, store, tiny_budget):
    """Frames that were shown count, not those that a call could show; a video whose length is known has no more."""
    a_frame = tiny_budget.skim_pixels // 784 + FRAME_WORDS
    call = ToolCall("crop_video", {"start_time": 0, "end_time": 20}, Window(0, 20), seconds=(0.0, 10.0, 20.0))
    unrecorded, trajectory = trajectories[0], replace(trajectories[0], calls=(call,))
    build = ExampleBuilder(own_policy, store, tiny_budget)
    most = build.most_tokens(trajectory)
    assert build(trajectory).tokens <= most < build.most_tokens(unrecorded)
    short = ExampleBuilder(own_policy, store, tiny_budget, {trajectory.task.video: 10.0})
    assert most - short.most_tokens(trajectory) == (tiny_budget.skim_frames - 10) * a_frame


def test_every_twentieth_source_is_held_out():
    sources = [f"v{i // 2}" for i in range(84)]  # two records a video, 42 videos: the first, the 21st, the 41st
    training, held_out = hold_out(list(range(84)), sources)
    assert held_out == [0, 1, 40, 41, 80, 81]
    assert training == [i for i in range(84) if i not in held_out]


def warm_up(video, captions=()):
    return WarmUpExample(
        video, video and f"{video}.mp4", "?", (0.0, 1.0), 784, 2.0, "<think></think>", captions=captions
    )


def test_warm_up_records_by_kind_and_clips_by_length(tmp_path):
    durations = {"long": 31.0, "short": 30.0, "short too": 6.0}
    interval = (Interval(Window(0, 1), "a"),)
    recordings = [Recording(video, f"{video}.mp4", d, interval, "c") for video, d in durations.items()]
    framed = [warm_up(video) for video in ("long", "short", "short", "long", "short too")]
    captioned = [warm_up("", ("a", "b")) for _ in range(21)]
    write_jsonl(tmp_path / "recordings.jsonl", recordings)
    write_jsonl(tmp_path / "warm_up_examples.jsonl", [*captioned, *framed])
    suite = Suite(tmp_path)
    training, held_out = warm_up_records(suite, "captions")
    assert (len(training), len(held_out)) == (19, 2)  # captioned examples have no video: each stands alone
    assert [e.video for e in warm_up_records(suite, "frames")[1]] == ["long", "long"]
    assert [e.video for e in clip_records(suite, 10)] == ["short", "short", "short too"]
    assert [e.video for e in clip_records(suite, 2)] == ["short", "short too"]
    assert list(clip_records(suite, 0)) == []


def test_a_call_that_was_one_too_many_is_refused_again_though_the_budget_is_larger(policy, trajectories, store):
    """Its turn bears no loss; the recorded words follow it."""
    told = "all tool calls are used; answer now"
    turns = (TURNS[0], TURNS[0], TURNS[-1])
    looked = ToolCall("crop_video", {"start_time": 1, "end_time": 3}, Window(1, 3), (1.0, 2.0))
    trajectory = Trajectory(trajectories[0].task, turns, (looked, ToolCall("crop_video", {}, message=told)))
    spans = trajectory_example(policy, trajectory, ClinicalVideoEnvironment(store, ToolBudget(max_calls=6))).spans
    assert [span.assistant for span in spans] == [False, True, False, False, False, True]
    assert spans[2].images and not spans[4].images
    assert told in policy.tokenizer.decode(spans[4].ids)
