"""Rooms: imports go down, never in a circle, and every module has its place in the contract of import-linter."""

import re
from configparser import ConfigParser
from graphlib import TopologicalSorter

import grimp
import pytest
from importlinter.cli import lint_imports

from medscope.pipeline.parameters import ROOT

CONTRACT = "importlinter:contract:rooms"


@pytest.fixture(scope="module")
def graph():
    return grimp.build_graph("medscope", cache_dir=None)


def placed() -> list[str]:
    settings = ConfigParser()
    settings.read(ROOT / ".importlinter")
    return re.findall(r"[\w.]+", settings[CONTRACT]["layers"])


def test_imports_go_down():
    assert lint_imports(config_filename=str(ROOT / ".importlinter"), no_cache=True) == 0


def test_every_module_has_its_place(graph):
    layers = placed()
    packages = {layer.rpartition(".")[0] for layer in layers}
    rest = {m for m in graph.modules if not any(m == layer or m.startswith(f"{layer}.") for layer in layers)}
    assert rest <= packages, f"not in .importlinter: {sorted(rest - packages)}"


def test_no_circle_of_imports(graph):
    importers = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    TopologicalSorter(importers).prepare()  # raises CycleError, which names the circle


def test_no_file_is_longer_than_300_lines():
    lengths = {file: len(file.read_text().splitlines()) for file in (ROOT / "medscope").rglob("*.py")}
    assert not {str(file.relative_to(ROOT)): lines for file, lines in lengths.items() if lines > 300}
