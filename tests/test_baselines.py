"""The baselines: every section is a valid run, the parts compared exist, and the differences by hand."""

from dataclasses import replace

import numpy as np
import pytest

from medscope.evaluation.studies.baselines import ADDED, added
from medscope.evaluation.benchmark import outcome, score
from medscope.reporting.charts import ladder, radar
from medscope.pipeline.stage import read_parameters, stage_parameters
from medscope.suite.tasks import questions
from medscope.suite.retelling import TELLINGS

BASELINES = read_parameters()["baselines"]


@pytest.mark.parametrize("name", BASELINES)
def test_every_baseline_is_a_valid_run_of_its_stage(name):
    changes = dict(BASELINES[name])
    stage = changes.pop("stage")
    parameters = stage_parameters(stage, [f"{key}={value}" for key, value in changes.items()])
    assert parameters.get("trajectories", "tools") in TELLINGS
    plain = stage_parameters(stage)
    assert {key for key in plain if parameters[key] != plain[key]} == set(changes), "it changes what it says"


def test_the_parts_compare_systems_that_exist():
    assert {name for pair in ADDED.values() for name in pair} <= {*BASELINES, "sft", "ga_grpo"}


@pytest.fixture
def answered(operation):
    """Outcomes by system: everyone answers wrong but GA-GRPO, who is right on every second question."""
    asked = questions(operation, np.random.default_rng(0))
    wrong = [outcome(q, "no", 0.0) for q in asked]
    half = [replace(o, accuracy=float(n % 2)) for n, o in enumerate(wrong)]
    names = {name for pair in ADDED.values() for name in pair}
    return {name: {"cataract": half if name == "ga_grpo" else wrong} for name in names}


def test_what_a_part_adds_is_the_paired_difference(answered):
    parts = added(answered)
    assert set(parts) == set(ADDED)
    accuracies = [o.accuracy for o in answered["ga_grpo"]["cataract"]]
    assert parts["the modulation"]["cataract"]["accuracy"]["mean"] == pytest.approx(np.mean(accuracies))
    assert parts["the evidence reward"]["cataract"]["accuracy"] == {"mean": 0.0, "ci": [0.0, 0.0]}


def test_the_charts_are_written(answered, tmp_path):
    table = {name: {split: score(found) for split, found in splits.items()} for name, splits in answered.items()}
    for chart in (ladder, radar):
        chart(table, tmp_path / f"{chart.__name__}.png")
        assert (tmp_path / f"{chart.__name__}.png").stat().st_size > 5000
