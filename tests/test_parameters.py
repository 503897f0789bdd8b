"""Parameters: literals that are read and never executed; no name or value is accepted and ignored."""

import json
import pickle

import pytest
from house import build_house, write_notebook

from medscope.pipeline import parameters
from medscope.pipeline.parameters import (
    StageError,
    begin,
    declared_parameters,
    read_parameters,
    stage_parameters,
    tool_budget,
)


@pytest.fixture
def home(tmp_path, monkeypatch):
    home = build_house(tmp_path / "copy")
    monkeypatch.setattr(parameters, "ROOT", home)
    monkeypatch.chdir(home)
    return home


@pytest.mark.parametrize("code", ["open('made', 'w')", "x = open('made', 'w')", "x = y = 1", "if True:\n    x = 1"])
def test_a_parameters_cell_holds_literals_and_is_not_executed(code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_notebook(tmp_path / "bad.ipynb", f"steps = 3\n{code}\n", "")
    with pytest.raises(StageError, match="more than `name = literal`"):
        declared_parameters(tmp_path / "bad.ipynb")
    assert not (tmp_path / "made").exists()


def test_a_notebook_needs_one_parameters_cell(tmp_path):
    (tmp_path / "none.ipynb").write_text(json.dumps({"cells": []}))
    with pytest.raises(StageError, match="has 0 cells tagged"):
        declared_parameters(tmp_path / "none.ipynb")


def test_world_section_overlay_and_word_from_weak_to_strong(home):
    world = "world: {decoder: pyav, learning_rate: 7.0}\nablation: {learning_rate: 3.0}\n"
    (home / "params.yaml").write_text(world + "ga_grpo: {variant: ga_grpo}\nsft: {variant: sft, learning_rate: 5.0}\n")
    assert stage_parameters("ga_grpo") == {
        "folder": ".", "decoder": "pyav", "learning_rate": 7.0, "variant": "ga_grpo"
    }  # fmt: skip
    assert stage_parameters("ablations") == {"folder": ".", "decoder": "pyav"}, "it declares no learning rate"
    assert stage_parameters("sft")["learning_rate"] == 5.0
    assert stage_parameters("sft", overlays=["ablation"])["learning_rate"] == 3.0
    assert stage_parameters("sft", ["learning_rate=2"], ["ablation"])["learning_rate"] == 2.0


def test_smoke_takes_the_values_of_the_notebook_and_the_words(home):
    assert stage_parameters("sft", smoke=True) == {
        "folder": "smoke", "decoder": "decord", "learning_rate": 0.01, "variant": "sft"
    }  # fmt: skip
    assert stage_parameters("sft", ["learning_rate=0.5"], smoke=True)["learning_rate"] == 0.5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("wrold: {decoder: pyav}", "params.yaml has no section wrold"),
        ("world: {decodre: pyav}", "section world of params.yaml has no parameter decodre"),
        ("sft: {stepz: 1}", "notebook sft has no parameter stepz; it has folder, decoder, learning_rate, variant"),
        ("sft: {variant: sft, decoder: pyav}", "lacks learning_rate"),
        ("sft: {variant: sft, decoder: pyav, learning_rate: fast}", r"sft\.learning_rate is 'fast', .* a float"),
        ("sft: {variant: 3, decoder: pyav, learning_rate: 1.0}", r"sft\.variant is 3, the notebook declares a str"),
    ],
)
def test_what_nothing_reads_is_an_error_that_names_it(text, message, home):
    (home / "params.yaml").write_text(text)
    with pytest.raises(StageError, match=message):
        stage_parameters("sft")


@pytest.mark.parametrize(
    ("words", "overlays", "message"),
    [
        (["steps"], [], "not of the form name=value"),
        (["stepz=3"], [], "no parameter stepz"),
        (
            [],
            ["ablation_overrides.fast"],
            "section ablation_overrides of params.yaml has no member fast; it has full",
        ),
        ([], ["sft"], "for --with, has no section sft"),
    ],
)
def test_wrong_words_are_errors(words, overlays, message, home):
    with pytest.raises(StageError, match=message):
        stage_parameters("ga_grpo", words, overlays)


def test_yaml_text_becomes_the_declared_number(home):
    assert stage_parameters("sft", ["learning_rate=1e-4"])["learning_rate"] == 1e-4  # which YAML reads as text
    assert read_parameters()["sft"]["variant"] == "sft"


def test_begin_takes_the_checked_values_and_refuses_what_papermill_injects_beside_them(home):
    notebook = {**declared_parameters(home / "notebooks/03_sft.ipynb"), "learning_rate": 1, "In": ["", "x = 3"]}
    found = begin("sft", notebook)
    assert found == {"folder": "smoke", "decoder": "decord", "learning_rate": 1.0, "variant": "sft"}
    assert type(notebook["learning_rate"]) is float and "x" not in found
    copy = pickle.loads(pickle.dumps(found))  # as `on_processes` sends it
    assert copy == found and copy.stage == "sft"
    notebook["In"] = ["", '# Parameters\nlearning_rat = 0.5\nfolder = "."\n']
    with pytest.raises(StageError, match="notebook sft has no parameter learning_rat; it has"):
        begin("sft", notebook)
    with pytest.raises(StageError, match=r"sft\.variant is 3"):
        begin("sft", notebook | {"In": [], "variant": 3})


def test_tool_budget_is_read_from_the_parameters():
    budget = tool_budget({"max_calls": 2, "crop_frames": 4, "steps": 3})
    assert (budget.max_calls, budget.crop_frames) == (2, 4)
