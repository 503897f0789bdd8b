"""The estimate for the full 7B model: parameters as published, memory from measured peaks, more frames cost more."""

import sys

import pytest

from medscope.pipeline.parameters import ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))
from estimate import LAYERS, SETUPS, activations_gib, estimated, full_model, held_gib, slowdown

ROWS = [
    {"step": step, "frames": frames, "tokens": 70 * frames, "peak_gib": 1 + frames / 100, "update_s": frames**1.2}
    for step in ("sft", "ga_grpo")
    for frames in (64, 128, 256)
]


@pytest.fixture(scope="module")
def model():
    return full_model()


def test_the_parameters_are_those_of_qwen2_5_vl_7b(model):
    assert model.all == 8_292_166_656, "its safetensors index on the Hub says 16 584 333 312 bytes of bfloat16"
    assert LAYERS * model.hidden == 28 * 3584 and model.lora == 161_480_704


def test_memory_of_the_weights(model):
    four_bits, low, sharded = (held_gib(model, setup) for setup in SETUPS)
    assert 8 < four_bits < 12 and 17 < low < 19 and 30 < sharded < 32


def test_activations_go_through_the_measured_peaks_and_grow_by_the_missing_layers(model):
    some = ROWS[:3]
    missing = 26 * 2 * 3584 * 70 * 128 / 2**30
    assert activations_gib(model, some, 70 * 128, "sft") == pytest.approx(1 + 1.28 + missing)
    assert activations_gib(model, some, 70 * 128, "ga_grpo") > activations_gib(model, some, 70 * 128, "sft")


def test_a_row_per_setup_and_measured_step(model):
    late = {**ROWS[0], "frames": 512, "peak_gib": None, "update_s": None}
    rows = estimated(model, [*ROWS, late, {**ROWS[4], "generations": 2, "peak_gib": 0.1}], 0.35, 600)
    assert len(rows) == len(SETUPS) * len(ROWS)
    assert all(row["in all GiB"] == pytest.approx(row["held GiB"] + row["activations GiB"], abs=0.11) for row in rows)
    grpo = [row for row in rows if row["estimate for"] == SETUPS[1].name and row["step"] == "ga_grpo"]
    assert [row["fits"] for row in grpo] == [True] * 3 and grpo[0]["seconds per task"] < grpo[2]["seconds per task"]
    assert slowdown(model, ROWS[:3], 70 * 256) >= slowdown(model, ROWS[:3], 70 * 64) == 1
    with pytest.raises(ValueError, match="one length of sft"):
        estimated(model, ROWS[:1], 0.35, 600)
