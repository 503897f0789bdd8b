"""Folders of a run, and the key of its resume checkpoints."""

import csv
import os

import pytest
from house import build_house

from medscope.pipeline import layout, parameters, provenance
from medscope.pipeline.layout import Layout
from medscope.pipeline.parameters import Parameters

GIVEN = {"folder": "smoke", "variant": "ga_grpo", "save_steps": 50, "learning_rate": 1e-4, "processes": 1}


@pytest.fixture
def home(tmp_path, monkeypatch):
    home = build_house(tmp_path / "copy")
    for module in (layout, parameters, provenance):
        monkeypatch.setattr(module, "ROOT", home)
    for name in ("DVC_STAGE", layout.IN_PLACE):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(home)
    return home


@pytest.mark.parametrize("folder", [".", "../copy"])
def test_a_run_of_ones_own_writes_below_runs_and_reads_the_pipeline(folder, home):
    own = Layout(folder)
    assert own.checkpoint("sft").resolve() == home / "checkpoints" / "sft"
    assert str(own.new_checkpoint("sft")) == "runs/checkpoints/sft"
    own.new_checkpoint("sft").mkdir()
    assert str(own.checkpoint("sft")) == "runs/checkpoints/sft", "what runs/ has comes first"
    assert str(own.suite) == "data/suite" and str(own.new_suite) == "runs/data/suite"
    own.write_metrics("sft", {"reward": 2.0})
    assert (home / "metrics" / "sft.json").read_text() == '{"reward": 1.0}'
    for path in (own.new_predictions("a/b"), own.output("sft", "x.png"), own.scratch("sft", training(), [])):
        assert str(path).startswith("runs/")


@pytest.mark.parametrize("name", ["DVC_STAGE", "MEDSCOPE_IN_PLACE"])
def test_dvc_and_in_place_write_the_pipelines_own_files(name, home, monkeypatch):
    monkeypatch.setenv(name, "1")
    assert str(Layout(".").new_checkpoint("sft")) == "checkpoints/sft"
    (home / "runs" / "checkpoints" / "sft").mkdir(parents=True)
    assert str(Layout(".").checkpoint("sft")) == "checkpoints/sft", "the pipeline never reads runs/"
    assert str(Layout("smoke").new_checkpoint("sft")) == "smoke/checkpoints/sft"


def test_another_folder_stands_alone_and_says_what_it_lacks(home):
    with pytest.raises(
        FileNotFoundError, match="no checkpoint smoke/checkpoints/sft; run the stage that trains it with"
    ):
        Layout("smoke").checkpoint("sft")
    with pytest.raises(FileNotFoundError, match="no checkpoint checkpoints/warm_up; `dvc repro warm_up` trains it"):
        Layout(".").checkpoint("warm_up")


def test_a_policy_of_a_world_is_named_by_the_world_and_never_replaced_by_the_pipelines(home, capsys):
    (home / "worlds" / "x" / "checkpoints" / "sft").mkdir(parents=True)
    assert str(Layout(".").checkpoint("worlds/x:sft")) == "worlds/x/checkpoints/sft"
    with pytest.raises(FileNotFoundError, match="no checkpoint worlds/y/checkpoints/sft"):
        Layout(".").checkpoint("worlds/y:sft")
    assert Layout("worlds/y").checkpoint("sft").resolve() == home / "checkpoints" / "sft", "what a world itself lacks"
    assert str(Layout("worlds/x").checkpoint("sft")) == "worlds/x/checkpoints/sft"
    assert "of a run of one's own" not in capsys.readouterr().err, "that is said of runs/, which may be forgotten there"


def test_curves_have_one_row_per_step(home):
    history = [{"step": 1, "loss": 0.5, "other": 9.0}, {"step": 2, "other": 9.0}, {"step": 1, "eval_loss": 0.25}]
    Layout("smoke").write_curves("sft", history, ["loss", "eval_loss"])
    with Layout("smoke").curves("sft").open() as file:
        assert list(csv.reader(file)) == [["step", "loss", "eval_loss"], ["1", "0.5", "0.25"]]


def training(**changes):
    return Parameters("ga_grpo", GIVEN | changes)


def key(**changes):
    return Layout("smoke").scratch("ga_grpo", training(**changes), [layout.Path("data/suite")]).name


def test_scratch_changes_with_what_decides_a_training_and_with_nothing_else(home):
    first = key()
    assert key() == first
    assert key(save_steps=10, variant="other", folder="elsewhere") == first
    assert key(learning_rate=2e-4) != first and key(processes=2) != first
    tasks = home / "data" / "suite" / "tasks.jsonl"
    tasks.write_text('{"id": 1}\n')
    edited = key()
    assert edited != first
    tasks.rename(tasks.with_name("renamed.jsonl"))
    assert key() != edited
    with pytest.raises(FileNotFoundError, match="data/nowhere is an input"):
        Layout("smoke").scratch("ga_grpo", training(), [layout.Path("data/nowhere")])


def test_scratch_changes_with_the_videos(home):
    """Not by their content, which may be terabytes: a file drawn anew has another time."""
    first, video = key(), home / "smoke" / "data" / "videos" / "a" / "v.mp4"
    video.parent.mkdir(parents=True)
    video.write_bytes(b"1")
    drawn = key()
    assert drawn != first and key() == drawn
    os.utime(video, ns=(1, 1))
    assert key() != drawn


def test_the_same_file_name_in_two_folders_is_told_apart(home):
    (home / "a" / "x").mkdir(parents=True)
    (home / "a" / "x" / "weights").write_text("1")
    before = provenance.hash_files(home / "a")
    (home / "a" / "x").rename(home / "a" / "y")
    assert provenance.hash_files(home / "a") != before


def test_an_edit_of_the_reward_after_a_kill_starts_a_new_training(home):
    """A comment does not; nor does code that dvc.yaml does not list for the stage."""
    first, rewards = key(), home / "medscope" / "rewards.py"
    rewards.write_text(rewards.read_text() + "\n\n# a comment\n")
    (home / "medscope" / "files.py").write_text("CHANGED = 1\n")
    assert key() == first
    rewards.write_text(rewards.read_text().replace("0.5", "0.6", 1))
    assert key() != first


def test_scratch_is_forgotten_by_name(home):
    place = Layout("smoke")
    for name in ("sft", "ga_grpo"):
        place.scratch(name, training(), []).mkdir(parents=True)
    place.clear_scratch("sft")
    assert not (home / "smoke" / "scratch" / "sft").exists() and (home / "smoke" / "scratch" / "ga_grpo").exists()


def test_under_the_launcher_the_notebook_does_not_clear_scratch(home, monkeypatch):
    place = Layout("smoke")
    place.scratch("sft", training(), []).mkdir(parents=True)
    monkeypatch.setenv(layout.LAUNCHED, "1")
    place.clear_scratch("sft")
    assert (home / "smoke" / "scratch" / "sft").exists()
    place.forget_scratch("sft")
    assert not (home / "smoke" / "scratch" / "sft").exists()


def test_a_folder_that_several_stages_fill_has_a_hash_of_theirs():
    recorded = {"predictions/a/1.jsonl": "x", "predictions/a/2.jsonl": "y", "predictions/ab.jsonl": "z"}
    whole = provenance.recorded_hash("predictions/a", recorded)
    assert whole and whole != provenance.recorded_hash("predictions/a", recorded | {"predictions/a/2.jsonl": "w"})
    assert whole == provenance.recorded_hash("predictions/a", recorded | {"predictions/ab.jsonl": "w"})
    assert provenance.recorded_hash("predictions/ab.jsonl", recorded) == "z"
    assert provenance.recorded_hash("predictions/b", recorded) is None


def test_hashes_are_those_of_the_stage_that_made_the_input(home):
    run = training(variant="ablation/full_0")
    assert provenance.stage_inputs(run) == ["data/suite", "checkpoints/sft"]
    assert provenance.recorded_hashes() == {"data/suite": "11.dir", "checkpoints/sft": "22.dir"}


def test_an_input_named_after_a_parameter_is_found(home):
    (home / "dvc.yaml").write_text(
        "stages: {evaluate: {foreach: x, do: {deps: ['checkpoints/${item.checkpoint}', 'a/${key}', medscope/x.py]}}}"
    )
    assert provenance.stage_inputs(Parameters("evaluate", {"checkpoint": "ga_grpo"})) == ["checkpoints/ga_grpo"]
