"""Notebooks: thin, stripped, every parameter declared, commented, given and used."""

import ast
import json
import re
from dataclasses import fields
from pathlib import Path

import pytest

from medscope.environment import ToolBudget
from medscope.pipeline.parameters import NOTEBOOKS, ROOT, assignments, declared_parameters
from medscope.pipeline.stage import smoke_chain
from medscope.rewards import RewardSettings

ALL = sorted((ROOT / "notebooks").glob("*.ipynb"))
STAGES = [path for path in ALL if path.stem != "explore"]
GLUE = ("medscope.pipeline.train", "medscope.pipeline.evaluate")


def code_cells(path: Path) -> list[dict]:
    return [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]


def sources(path: Path) -> list[str]:
    return ["".join(cell["source"]) for cell in code_cells(path)]


def test_there_is_one_notebook_per_stage_and_one_to_explore():
    assert [f"notebooks/{path.name}" for path in ALL] == [*NOTEBOOKS.values(), "notebooks/explore.ipynb"]


@pytest.mark.parametrize("path", ALL, ids=lambda p: p.stem)
def test_a_notebook_is_thin_and_stripped(path):
    """No classes; a function is at most a reader of two statements."""
    cells = code_cells(path)
    assert len(cells) <= 12
    assert not any(cell["outputs"] or cell["execution_count"] for cell in cells)
    nodes = [node for source in sources(path) for node in ast.walk(ast.parse(source))]
    assert not any(isinstance(node, ast.ClassDef) for node in nodes)
    for node in nodes:
        if isinstance(node, ast.FunctionDef):
            assert len([part for part in node.body if not isinstance(getattr(part, "value", None), ast.Constant)]) <= 2


@pytest.mark.parametrize("path", ALL, ids=lambda p: p.stem)
def test_a_notebook_begins_with_its_own_name(path):
    """`begin` checks against the parameters of this very notebook."""
    stage = next((stage for stage, file in NOTEBOOKS.items() if file.endswith(path.name)), path.stem)
    assert f'parameters = begin("{stage}", globals())' in sources(path)[1]


@pytest.mark.parametrize("path", [path for path in STAGES if path.stem != "08_studies"], ids=lambda p: p.stem)
def test_a_notebook_ends_in_assertions(path):
    assert "assert " in sources(path)[-1]


@pytest.mark.parametrize("path", ALL, ids=lambda p: p.stem)
def test_every_parameter_is_a_literal_and_is_used(path):
    parameters, cells = declared_parameters(path), sources(path)
    assert [name for name, _ in assignments(cells[0])] == list(parameters)
    rest = "\n".join(cells[1:])
    used = {node.id for node in ast.walk(ast.parse(rest)) if isinstance(node, ast.Name)}
    glues = [glue for glue in GLUE if glue in rest]
    for glue in glues:  # handed to one of its functions, which reads them as p["name"]
        used |= names_read_by(glue, ast.parse(rest))
    if "tool_budget(parameters)" in rest or glues:
        used |= {field.name for field in fields(ToolBudget)}
    assert not set(parameters) - used


def names_read_by(glue: str, notebook: ast.Module) -> set[str]:
    """Every string constant in the functions that the notebook imports from the glue, and in their helpers."""
    tree = ast.parse((ROOT / f"{glue.replace('.', '/')}.py").read_text())
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    imported = [n for n in ast.walk(notebook) if isinstance(n, ast.ImportFrom) and n.module == glue]
    waiting, seen, words = [alias.name for node in imported for alias in node.names], set(), set()
    while waiting:
        name = waiting.pop()
        if name in functions and name not in seen:
            seen.add(name)
            nodes = list(ast.walk(functions[name]))
            waiting += [node.id for node in nodes if isinstance(node, ast.Name)]
            words |= {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}
            if "fields(RewardSettings)" in ast.unparse(functions[name]):
                words |= {field.name for field in fields(RewardSettings)}
    return words


@pytest.mark.parametrize("path", ALL, ids=lambda p: p.stem)
def test_a_parameter_means_the_same_in_every_notebook(path):
    """A name that two notebooks share has the same type in both."""
    for other in ALL:
        mine, theirs = declared_parameters(path), declared_parameters(other)
        assert all(type(mine[name]) is type(theirs[name]) for name in set(mine) & set(theirs))


def test_the_smoke_chain_runs_every_stage_in_order():
    chain = smoke_chain()
    assert [parameters["folder"] for parameters in chain] == ["smoke"] * len(chain)
    stages = list(dict.fromkeys(parameters.stage for parameters in chain))
    assert stages == ["synthesize_data", "warm_up", "sft", "ga_grpo", "evaluate", "ablations", "report"]
    report = next(parameters for parameters in chain if parameters.stage == "report")
    evaluated = [parameters["system"] for parameters in chain if parameters.stage == "evaluate"]
    assert set(report["systems"]) <= set(evaluated)
    ablations = next(parameters for parameters in chain if parameters.stage == "ablations")
    wanted = {f"ablation/{variant}_{seed}" for variant in ablations["variants"] for seed in ablations["seeds"]}
    assert wanted <= set(evaluated) and wanted <= {p.get("variant") for p in chain}


def test_every_parameter_has_a_comment_or_a_plain_name():
    """Only names that need no words stand without: they say what they are."""
    plain = {"seed", "batch_size", "gradient_accumulation", "learning_rate", "w_acc", "w_format", "w_evidence"}
    for path in ALL:
        lines = sources(path)[0].splitlines()
        bare = {line.split(" = ")[0] for line in lines if re.match(r"\w+ = [^#]*$", line)}
        assert bare <= plain | {"questions_per_step"}, f"{path.name}: {bare - plain}"
