"""The vision tower alone: its tokens become the embeddings of what the frames show, and nothing else moves."""

import numpy as np
import pytest
import torch

from medscope.agents.policy import tiny_policy
from medscope.environment import FrameStore, ToolBudget
from medscope.sources.rendered.camera import write_video
from medscope.sources.rendered.collections import sample_recording
from medscope.suite.captioned_frames import captioned_frames
from medscope.training.alignment import align

BUDGET = ToolBudget(skim_pixels=784, crop_frames=6, crop_pixels=3136, frame_pixels=7056)


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    path = tmp_path_factory.mktemp("videos") / "a.mp4"
    recording = sample_recording("clips", "clip", "warm_up", path, 24, 0.2, np.random.default_rng(1))
    write_video(recording)
    return captioned_frames([recording], 8, BUDGET, seed=0)


def test_the_tower_learns_and_nothing_else_moves(examples, tmp_path):
    policy = tiny_policy(seed=0)
    before = {name: weights.clone() for name, weights in policy.model.named_parameters()}
    log = align(policy, examples, examples, FrameStore(), tmp_path, 12, 4, 3e-3)
    held_out = [row for row in log if "eval_loss" in row]
    assert held_out[-1]["eval_loss"] < held_out[0]["eval_loss"]
    assert 0 <= held_out[-1]["eval_mean_token_accuracy"] <= 1
    moved = {name for name, weights in policy.model.named_parameters() if not torch.equal(weights, before[name])}
    assert moved and all("visual" in name for name in moved)
    assert all(weights.requires_grad for weights in policy.model.parameters())
    weights = {name: w.clone() for name, w in policy.model.named_parameters()}
    again = tiny_policy(seed=0)
    resumed = align(again, examples, examples, FrameStore(), tmp_path, 12, 4, 3e-3)  # finished: loaded, not repeated
    assert [row for row in resumed if "eval_loss" in row] == held_out
    assert all(torch.equal(w, weights[name]) for name, w in again.model.named_parameters())
