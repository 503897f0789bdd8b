"""`make gpu-check` runs on a CPU with the tiny model, so that nothing but CUDA is new on the day a GPU is at hand."""

import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
DRY = "--tiny --device cpu --frames 4 --group 2 --tokens 8 --repeats 1"


@pytest.mark.slow
def test_the_gpu_check_runs_dry_with_the_tiny_model():
    before = {file: file.read_bytes() for file in (BENCHMARKS / "results").iterdir()}
    run = subprocess.run(
        [sys.executable, BENCHMARKS / "gpu_check.py", *DRY.split()], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    for check in ("ga_grpo_step", "attention"):
        assert f"'check': '{check}', 'frames': 4" in run.stdout
    assert before == {file: file.read_bytes() for file in (BENCHMARKS / "results").iterdir()}
