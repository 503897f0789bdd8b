"""The table of a study, by hand: arms, contrasts, the family of tests, what is withheld, sampled answers."""

import numpy as np
import pytest
from predicted import crop, prediction, task

from medscope.evaluation.benchmark import METRICS, numbered, per_question
from medscope.evaluation.statistics import holm
from medscope.evaluation.studies.study import read_scores, run_names, samples_table, study_table
from medscope.pipeline.layout import Layout
from medscope.records import Window

TASKS = [task(n, "hook", Window(0, 10), video=f"v{n // 2}") for n in range(8)]
FAR = [task(n, "hook", Window(0, 10), video=f"w{n // 2}", collection="far") for n in range(4)]
GAIN = {"RL": {"rl": 1, "sft": -1}}


def answers(*accuracies, tasks=TASKS):
    return [prediction(t, "hook", float(a), [crop(0, 10)] * int(a)) for t, a in zip(tasks, accuracies, strict=True)]


def run(*accuracies):
    return per_question(answers(*accuracies))


def both(near, far):
    return per_question([*answers(*near), *answers(*far, tasks=FAR)])


@pytest.fixture
def arms():
    return {
        "sft": [both([0, 1, 0, 1, 0, 1, 0, 1], [0, 0, 0, 1]), both([0, 1, 0, 1, 0, 1, 1, 1], [0, 0, 0, 0])],
        "rl": [both([1] * 8, [0, 1, 0, 1]), both([1, 1, 1, 1, 1, 1, 0, 1], [1, 0, 0, 0])],
    }


@pytest.fixture
def stored(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    scores = per_question(answers(1, 0.5, tasks=[FAR[2], TASKS[1]]))
    Layout("smoke").write_scores("studies/x_0", numbered(scores, [*TASKS, *FAR]))
    return Layout("smoke").scores("studies/x_0"), scores


def test_scores_from_disk_are_those_in_memory_under_numbers(stored):
    """No id of a task or video is written: they may hold names. Empty is a task that does not count."""
    file, scores = stored
    found = read_scores(file)
    assert found.index.tolist() == ["10", "1"] and found["video"].tolist() == ["5", "0"]
    assert found["set"].tolist() == ["far", "set"] and found["tg_miou"].isna().all()
    assert np.allclose(found[list(METRICS)], scores[list(METRICS)], atol=1e-6, equal_nan=True)
    assert not {"v0", "w1", "set:1", "far:2"} & set(file.read_text().replace("\n", ",").split(","))


def test_scores_that_are_missing_or_of_an_older_benchmark_are_refused(stored):
    file, _ = stored
    with pytest.raises(FileNotFoundError, match=r"y_0.*\(dvc repro"):
        read_scores(file.with_name("y_0.csv"))
    file.write_text(file.read_text().replace("revision", "revised"))
    with pytest.raises(ValueError, match="has no revision: it is of an older benchmark"):
        read_scores(file)


def test_an_arm_names_its_predictions_with_and_without_seeds():
    assert run_names(["rl", "seeds/rl_{seed}"], [1, 2]) == ["rl", "seeds/rl_1", "seeds/rl_2"]


def test_arms_hold_every_seed_and_contrasts_what_was_asked(arms):
    table = study_table(arms, GAIN, ["accuracy", "evidence_miou"], delta=0.02)
    assert table["arms"]["set"]["rl"]["accuracy"] == {"mean": 15 / 16, "per_seed": [1, 7 / 8]}
    assert table["arms"]["far"]["sft"]["accuracy"] == {"mean": 1 / 8, "per_seed": [0.25, 0]}
    assert table["arms"]["set"]["rl"]["recovery"] == {"mean": None, "per_seed": [None, None]}
    cell = table["contrasts"]["set"]["RL"]["accuracy"]
    assert cell["per_seed"] == [0.5, 0.25] and cell["mean"] == 0.375
    assert table["tests"] == 4 and table["withheld"] == {}


def test_all_tests_of_a_study_are_one_family(arms):
    table = study_table(arms, GAIN, ["accuracy", "evidence_miou"], delta=0.02)
    cells = [table["contrasts"][s]["RL"][m] for s in ("set", "far") for m in ("accuracy", "evidence_miou")]
    assert [cell["p_holm"] for cell in cells] == holm([cell["p"] for cell in cells])
    assert all(cell["p_holm"] >= cell["p"] for cell in cells)


def test_no_effect_is_said_only_within_delta(arms):
    same = {"rl": arms["rl"], "sft": arms["rl"]}
    assert study_table(same, GAIN, ["accuracy"], 0.02)["contrasts"]["set"]["RL"]["accuracy"]["equivalent"]
    wide = study_table(arms, GAIN, ["accuracy"], 0.02)["contrasts"]["far"]["RL"]["accuracy"]
    assert wide["ci"][0] < 0 < wide["ci"][1] and not wide["equivalent"]


def test_a_set_without_claims_has_arms_and_no_contrast(arms):
    table = study_table(arms, GAIN, ["accuracy"], 0.02, {"set": None, "far": "VQA of blind was not measured"})
    assert set(table["arms"]) == {"set", "far"} and set(table["contrasts"]) == {"set"} and table["tests"] == 1
    assert table["withheld"] == {"far": "VQA of blind was not measured"}


def test_an_arm_that_was_not_asked_a_set_leaves_its_contrasts_out(arms):
    arms["sft"] = [run(*[0] * 8)] * 2
    assert set(study_table(arms, GAIN, ["accuracy"], 0.02)["contrasts"]) == {"set"}


def test_metrics_of_looks_say_nothing_about_an_arm_that_never_looks(arms):
    blind = per_question([prediction(t, "hook") for t in [*TASKS, *FAR]])
    table = study_table({"rl": arms["rl"], "sft": [blind]}, GAIN, ["accuracy", "evidence_miou"], 0.02)
    assert set(table["contrasts"]["set"]["RL"]) == {"accuracy"}


def test_sampled_answers_by_hand():
    arms = {
        "sft": [run(0, 1, 0, 0, 0, 0, 0, 0), run(1, 1, 0, 0, 0, 0, 0, 0)],
        "rl": [run(1, 1, 1, 1, 0, 0, 0, 0)] * 2,
        "greedy": [run(1, 1, 0, 0, 0, 0, 0, 0)],
    }
    table = samples_table(arms, {"RL": {"rl": 1, "sft": -1}, "sampling": {"greedy": 1, "sft": -1}}, 0.02)
    rows = table["arms"]["set"]
    assert [rows["sft"][m]["mean"] for m in ("avg", "pass@1", "pass@2")] == [3 / 16, 3 / 16, 2 / 8]
    assert [rows["rl"][m]["mean"] for m in ("avg", "pass@2")] == [0.5, 0.5] and set(rows["greedy"]) == {"avg", "pass@1"}
    assert table["contrasts"]["set"]["RL"]["pass@2"]["mean"] == 0.25
    assert set(table["contrasts"]["set"]["sampling"]) == {"avg", "pass@1"} and table["tests"] == 5


def test_half_right_answers_count_in_the_mean_and_do_not_pass():
    arms = {"rl": [run(0.5, *[0] * 7)] * 2}
    rows = samples_table(arms, {}, 0.02)["arms"]["set"]["rl"]
    assert rows["avg"]["mean"] == 1 / 16 and rows["pass@2"]["mean"] == 0
