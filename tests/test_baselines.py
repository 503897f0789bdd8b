"""The tables of baselines and seeds, by hand."""

import pytest
from predicted import crop, prediction, task

from medscope.evaluation.studies.baselines import ADDED, baselines_table
from medscope.evaluation.studies.seeds import seeds_table
from medscope.pipeline.parameters import read_parameters
from medscope.records import Window

TASKS = [task(n, "hook", Window(0, 10), video=video) for n, video in enumerate("aabb")]


def run(*accuracies):
    """Answers with these verdicts on tasks about the videos a, a, b and b."""
    return [prediction(t, "hook", float(a), [crop(0, 10)]) for t, a in zip(TASKS, accuracies, strict=True)]


def test_the_parts_compare_systems_that_exist():
    asked = read_parameters()["study_tables"]["baselines"]["names"]
    assert {name for pair in ADDED.values() for name in pair} <= {*asked, "sft", "rl"}


def test_what_a_part_adds_is_the_paired_difference():
    systems = {name: run(0, 0, 0, 0) for pair in ADDED.values() for name in pair}
    systems["rl"] = run(1, 1, 0, 1)
    table = baselines_table(systems)
    assert set(table["added"]) == set(ADDED) and set(table["systems"]) == set(systems)
    assert table["added"]["the modulation"]["set"]["accuracy"] == {"mean": 0.75, "ci": [0.5, 1.0]}
    assert table["added"]["the evidence reward"]["set"]["accuracy"] == {"mean": 0.0, "ci": [0.0, 0.0]}
    assert "tg_r70" not in table["added"]["tools"]["set"], "no task of this set counts for it"
    assert table["systems"]["rl"]["set"]["accuracy"] == 0.75


def test_the_gain_over_seeds():
    table = seeds_table(run(0, 0, 1, 1), {0: run(1, 1, 1, 1), 1: run(1, 0, 1, 1)})["set"]
    assert table["sft"]["accuracy"] == 0.5 and table["seed 1"]["accuracy"] == 0.75
    gain = table["gain"]["accuracy"]
    assert gain["mean"] == 0.375 and gain["per_seed"] == [0.5, 0.25]
    assert gain["std"] == pytest.approx(0.25 / 2**0.5)
    assert gain["ci"] == [0, 0.75]  # video a gains .75 of its answers, video b nothing
    assert table["gain"]["evidence_precision"]["mean"] == 0
