"""Notebooks: thin, stripped, every parameter declared, given and used."""

import ast
import json
import re
from dataclasses import fields
from pathlib import Path

import pytest
import yaml

from medscope.pipeline.stage import (
    NOTEBOOKS,
    ROOT,
    StageError,
    check_keys,
    declared_parameters,
    parse,
    read_parameters,
    stage_parameters,
)
from medscope.environment.tools import ToolBudget

ALL = sorted((ROOT / "notebooks").glob("*.ipynb"))


def code_cells(path: Path) -> list[dict]:
    return [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]


def sources(path: Path) -> list[str]:
    return ["".join(cell["source"]) for cell in code_cells(path)]


def test_there_is_one_notebook_per_stage_and_one_to_explore():
    assert [path.stem for path in ALL] == [*NOTEBOOKS.values(), "explore"]


@pytest.mark.parametrize("path", ALL, ids=lambda p: p.stem)
def test_a_notebook_is_thin_and_stripped(path):
    cells = code_cells(path)
    assert len(cells) <= 12
    assert not any(cell["outputs"] or cell["execution_count"] for cell in cells)
    nodes = [node for source in sources(path) for node in ast.walk(ast.parse(source))]
    assert not any(isinstance(node, ast.FunctionDef | ast.ClassDef) for node in nodes)


@pytest.mark.parametrize("path", [p for p in ALL if p.stem != "explore"], ids=lambda p: p.stem)
def test_a_notebook_ends_in_assertions(path):
    assert "assert " in sources(path)[-1]


@pytest.mark.parametrize("path", ALL, ids=lambda p: p.stem)
def test_every_parameter_is_a_commented_literal_and_is_used(path):
    parameters = declared_parameters(path)
    cells = sources(path)
    cell = next(s for s in cells if set(parameters) <= set(re.findall(r"^(\w+) = ", s, re.MULTILINE)))
    for node in ast.parse(cell).body:
        assert isinstance(node, ast.Assign)
        ast.literal_eval(node.value)  # raises for anything else
    rest = "\n".join(s for s in cells if s != cell)
    used = {node.id for node in ast.walk(ast.parse(rest)) if isinstance(node, ast.Name)}
    if "plain(globals())" in rest:  # handed to a function of stages.py, which reads them as p.name
        tree = ast.parse((ROOT / "medscope" / "stages.py").read_text())
        functions = {n.name: n for n in tree.body if isinstance(n, ast.FunctionDef)}
        function = next(n for name, n in functions.items() if name in used)
        for part in (function, functions["_begin"], functions["_tuning"]):
            used |= {n.attr for n in ast.walk(part) if isinstance(n, ast.Attribute) and ast.unparse(n.value) == "p"}
        rest += ast.unparse(function)
    if re.search(r"tool_budget\((globals\(\)|parameters)\)", rest):
        used |= {field.name for field in fields(ToolBudget)}
    assert not set(parameters) - used


@pytest.mark.parametrize("stage", NOTEBOOKS)
def test_params_yaml_gives_exactly_the_declared_parameters(stage):
    assert stage_parameters(stage)


@pytest.mark.parametrize("variant", read_parameters()["ablation_overrides"])
def test_every_ablation_variant_is_a_valid_run(variant):
    parameters = stage_parameters("ga_grpo", ["seed=3"], variant)
    assert parameters["variant"] == f"ablation/{variant}_3"


def test_every_command_of_the_pipeline_is_understood():
    matrix = {"${item.variant}": "full", "${item.seed}": "1"}
    commands = [stage["cmd"] for stage in yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"].values()]
    for command in commands:
        for name, value in matrix.items():
            command = command.replace(name, value)
        words = command.removeprefix("python -m medscope.pipeline.stage ").split()
        _, arguments = parse(words)
        assert arguments.stage == words[0]
        assert stage_parameters(arguments.stage, arguments.overrides, arguments.variant)


def test_unknown_and_missing_parameters_are_named():
    with pytest.raises(StageError, match="unknown: b; missing: c"):
        check_keys("sft", {"a": 1, "b": 2}, {"a": 1, "c": 3})
    with pytest.raises(StageError, match="no variant 'nonsense'"):
        stage_parameters("ga_grpo", variant="nonsense")
    with pytest.raises(StageError, match="not of the form"):
        stage_parameters("sft", ["steps"])


def test_a_parameter_has_the_type_that_its_notebook_declares():
    assert stage_parameters("sft", ["learning_rate=1e-4"])["learning_rate"] == 1e-4  # which YAML reads as text
    assert stage_parameters("sft", ["learning_rate=1"])["learning_rate"] == 1.0
    with pytest.raises(StageError, match=r"sft\.learning_rate is 'fast', the notebook declares a float"):
        stage_parameters("sft", ["learning_rate=fast"])
    with pytest.raises(StageError, match=r"sft\.steps is 2\.5, the notebook declares a int"):
        stage_parameters("sft", ["steps=2.5"])
