"""The vision tower alone: its tokens become the embeddings of what the frames show, and nothing else moves."""

import numpy as np
import pytest
import torch
from PIL import Image
from test_resume import KillAt, Killed

from medscope.agents.policy import tiny_policy
from medscope.environment import FrameStore, ToolBudget
from medscope.ranks import process_count
from medscope.sources.rendered.camera import write_video
from medscope.sources.rendered.collections import sample_recording
from medscope.suite.captioned_frames import captioned_frames
from medscope.training import alignment
from medscope.training.processes import on_processes

BUDGET = ToolBudget(skim_pixels=784, crop_frames=6, crop_pixels=3136, frame_pixels=7056)
STEPS = 12


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    """Of one video for training, and of another one."""
    made = []
    for number in (1, 2):
        path = tmp_path_factory.mktemp("videos") / f"{number}.mp4"
        rng = np.random.default_rng(number)
        recording = sample_recording("clips", f"clip_{number}", "warm_up", path, 24, 0.2, rng)
        write_video(recording)
        made.append(captioned_frames([recording], 10, BUDGET, seed=0))
    return made


def aligned(scratch, training, held_out, steps=STEPS):
    """Weights and log of a short alignment; runs in a process of its own as well."""
    torch.set_num_threads(1)
    policy = tiny_policy(seed=0)
    folder = scratch / str(process_count())
    log = alignment.align(policy, training, held_out, FrameStore(), folder, steps, 4, 3e-3, save_steps=4)
    return {name: weights.detach().clone() for name, weights in policy.model.named_parameters()}, log


@pytest.fixture(scope="module")
def uninterrupted(examples, tmp_path_factory):
    return aligned(tmp_path_factory.mktemp("whole"), *examples)


def test_colours_are_jittered_and_shapes_stay():
    half = np.zeros((56, 56, 3), dtype=np.uint8)
    half[:, :28] = (200, 100, 50)
    frames = [Image.fromarray(half)] * 50
    lit = np.stack([np.asarray(f) for f in alignment.jittered(frames, np.random.default_rng(0))]).astype(float)
    assert lit.shape == (50, 56, 56, 3) and (lit[:, :, 28:] == 0).all() and (lit[:, :, :28].std((1, 2)) == 0).all()
    gains = np.log(lit[:, 0, 0] / half[0, 0])
    assert gains.std(0) == pytest.approx(alignment.JITTER * 2**0.5, rel=0.3)
    assert abs(np.corrcoef(gains[:, 0], gains[:, 1])[0, 1] - 0.5) < 0.3, "half of it is common to the colours"
    again = alignment.jittered(frames, np.random.default_rng(0))
    assert (np.stack([np.asarray(f) for f in again]) == lit).all()


@pytest.mark.slow
def test_the_tower_learns_and_nothing_else_moves(uninterrupted):
    weights, log = uninterrupted
    losses = [row["loss"] for row in log if "loss" in row]  # one video teaches nothing about another one
    assert losses[-1] < losses[0] / 2
    last = [row for row in log if "eval_loss" in row][-1]
    read = {name: value for name, value in last.items() if name.startswith("eval_read_")}
    assert set(read) == {
        "eval_read_784_0",
        *(f"eval_read_3136_{n}" for n in (0, 1)),
        *(f"eval_read_7056_{n}" for n in range(3)),
    }
    assert all(0 <= value <= 1 for value in (*read.values(), last["eval_mean_token_accuracy"]))
    assert min(read.values()) <= last["eval_mean_token_accuracy"] <= max(read.values())
    before = tiny_policy(seed=0).model
    moved = {name for name, old in before.named_parameters() if not torch.equal(old, weights[name])}
    assert moved and all("visual" in name for name in moved)


@pytest.mark.slow
def test_a_killed_alignment_ends_in_the_same_weights(uninterrupted, examples, tmp_path, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(alignment, "show_as_text", lambda trainer: trainer.add_callback(KillAt(4)))
        aligned(tmp_path, *examples)
    weights, log = aligned(tmp_path, *examples)
    assert all(torch.equal(value, weights[name]) for name, value in uninterrupted[0].items())
    assert [row["eval_loss"] for row in log if "eval_loss" in row] == [
        row["eval_loss"] for row in uninterrupted[1] if "eval_loss" in row
    ]


@pytest.mark.slow
def test_a_finished_alignment_is_loaded_and_not_repeated(examples, tmp_path, monkeypatch):
    weights, log = aligned(tmp_path, *examples)
    monkeypatch.setattr(alignment.AlignmentTrainer, "compute_loss", None)
    again, loaded = aligned(tmp_path, *examples)
    assert all(torch.equal(value, again[name]) for name, value in weights.items())
    assert [row for row in loaded if "eval_loss" in row] == [row for row in log if "eval_loss" in row]


@pytest.mark.slow
def test_alignment_on_two_processes_equals_one(examples, tmp_path):
    training, held_out = examples
    weights, log = on_processes(1, aligned, tmp_path, training, held_out, 2)
    both_weights, both = on_processes(2, aligned, tmp_path, training, held_out, 2)
    for name in ("loss", "grad_norm"):
        np.testing.assert_allclose([r[name] for r in both if name in r], [r[name] for r in log if name in r], rtol=1e-3)
    for name, value in weights.items():
        assert (both_weights[name] - value).abs().mean() <= 1e-4, name
