"""Generic code knows no rendered world: its words stand in sources/rendered, the scripted teacher, parameters, tests.

Names and strings are read, docstrings and comments are not: prose may say "a phase, a step".
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from medscope.pipeline.parameters import ROOT
from medscope.sources.rendered.painters import VIEWS
from medscope.sources.rendered.words import CAMERA, EVENTS, INSTRUMENTS, PHASES, STEPS

# The annotation formats of published data sets have columns and files of these names; the tokenizer is of the world.
ALLOWED = ("sources/rendered/", "sources/annotations/", "suite/teachers/scripted.py", "pipeline/tiny_tokenizer.py")
SPARED = {
    "environment/prompts.py": {"storyline"},  # what the model is told; another prompt is another model
    "suite/nested_tasks.py": {"phase", "phases"},  # phase, step, event: the levels of real annotations, too
}
CONCEPTS = {"phase", "phases", "family", "families", "storyline", "storylines", "cataract", "laparoscopy"}
COMMON = {"smoke", "outside", "probe"}  # words of the world that the code needs for something else
WHOLE = ("clips", "composition")  # collections: words that say something else inside a longer string
FILES = [
    file
    for file in sorted((ROOT / "medscope").rglob("*.py"))
    if not str(file.relative_to(ROOT / "medscope")).startswith(ALLOWED)
]


def world_words() -> set[str]:
    """Everything that the world can draw; sides and numbers are words of every program."""
    return {*PHASES, *STEPS, *EVENTS, *INSTRUMENTS, *CAMERA, *VIEWS} - COMMON


def words(text: str) -> set[str]:
    return set(re.findall(r"[a-z]+", text.lower()))


def literals(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and text of every string that is no docstring."""
    prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
            yield node.lineno, node.value


def names(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and text of every name that the code defines or uses."""
    for node in ast.walk(tree):
        for field in (
            ("id", "attr", "name", "arg") if not isinstance(node, ast.keyword) else ()
        ):  # matplotlib's `family`
            if isinstance(name := getattr(node, field, None), str):
                yield getattr(node, "lineno", 0), name


def found(source: str, spared: frozenset[str] = frozenset()) -> list[str]:
    tree = ast.parse(source)
    world = (world_words() | CONCEPTS) - spared
    strings = [(n, s) for n, s in literals(tree) if words(s) & world or s.strip().lower() in WHOLE]
    named = [(n, s) for n, s in names(tree) if words(s) & (CONCEPTS - spared)]
    return [f"line {n}: {text!r}" for n, text in strings + named]


def test_the_check_finds_what_it_looks_for():
    assert {"forceps", "bleeding", "incision", "grasping", "bladder"} <= world_words()
    assert found("family = 1") and found("x.phase_of(1)") and found("def f(storyline): ...")
    assert found("x = 'clips'") and found("x = f'the cataract {y}'") and found("d['forceps'] = 1")
    assert not found('"""A phase of a cataract operation."""\nclips = 1  # of a family\nx = "the clips of a video"')


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT / "medscope")))
def test_generic_code_knows_no_rendered_world(file: Path):
    spared = SPARED.get(str(file.relative_to(ROOT / "medscope")), set())
    assert not found(file.read_text(), frozenset(spared))
