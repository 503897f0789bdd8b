"""The modules of medscope that decide the result of a notebook: what its code imports, and what those import.

Reporting and the launcher do not decide a result, so neither counts, except where pictures and pages are the result.
Of GLUE, modules of medscope.pipeline that notebooks run, only those imports count that the named functions use.

`python tests/closure.py` (make deps) writes the lists of modules in dvc.yaml and studies/dvc.yaml.
"""

import ast
import json
import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import grimp

from medscope.pipeline.parameters import ROOT

GLUE = ("medscope.pipeline.train", "medscope.pipeline.evaluate")
PIPELINES = (ROOT / "dvc.yaml", ROOT / "studies" / "dvc.yaml")
PICTURES = ("05_ablations", "07_report", "08_studies")  # notebooks whose results are tables, pictures and pages


def import_graph() -> grimp.ImportGraph:
    return grimp.build_graph("medscope", cache_dir=None, exclude_type_checking_imports=True)


@cache
def closure(notebook: Path, graph: grimp.ImportGraph) -> set[str]:
    """Files, relative to the repository: every module that counts and holds more than a docstring, with its data."""
    pictures = notebook.stem in PICTURES
    skipped = ("medscope.pipeline",) if pictures else ("medscope.pipeline", "medscope.reporting")
    code = notebook_code(notebook)
    starts = set(imports_of(code, graph)) - set(GLUE)
    found = set()
    for glue in GLUE:
        if functions := glue_names(code, glue):
            found.add(glue)
            starts |= used_imports(functions, glue, graph)
    for start in starts:
        found |= upstream(start, graph, skipped)
    files = {file_of(module) for module in found}
    data = {near for file in files for near in file.parent.glob("*.json")}
    return {str(file.relative_to(ROOT)) for file in data | {file for file in files if holds_code(file)}}


def upstream(module: str, graph: grimp.ImportGraph, skipped: tuple[str, ...]) -> set[str]:
    """The module and everything that it imports, directly or not, without those that do not count."""
    waiting, found = [module], set()
    while waiting:
        module = waiting.pop()
        if module not in found and not module.startswith(skipped):
            found.add(module)
            waiting += graph.find_modules_directly_imported_by(module)
    return found


def notebook_code(notebook: Path) -> ast.Module:
    cells = json.loads(notebook.read_text())["cells"]
    return ast.parse("\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"))


def imports_of(tree: ast.AST, graph: grimp.ImportGraph) -> Iterable[str]:
    """Modules of medscope that the code names; `from package import module` is the module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in graph.modules)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("medscope"):
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in graph.modules else node.module


def glue_names(tree: ast.AST, glue: str) -> set[str]:
    found = (node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module == glue)
    return {alias.name for node in found for alias in node.names}


def used_imports(names: set[str], glue: str, graph: grimp.ImportGraph) -> set[str]:
    """Modules behind the names that these functions of the glue use, directly or through others of its functions."""
    body = ast.parse(file_of(glue).read_text()).body
    own = {node.name: node for node in body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    own |= {
        t.id: node for node in body if isinstance(node, ast.Assign) for t in node.targets if isinstance(t, ast.Name)
    }
    behind = {}
    for node in body:
        if isinstance(node, ast.ImportFrom) and node.module.startswith("medscope"):
            for alias in node.names:
                behind[alias.asname or alias.name] = set(imports_of(ast.Module([node_of(node, alias)], []), graph))
    waiting, seen, modules = list(names), set(), set()
    while waiting:
        name = waiting.pop()
        modules |= behind.get(name, set())
        if name in own and name not in seen:
            seen.add(name)
            waiting += [node.id for node in ast.walk(own[name]) if isinstance(node, ast.Name)]
            modules |= set(imports_of(own[name], graph))
    assert names <= set(own), f"{glue} has no {names - set(own)}"
    return modules


def node_of(node: ast.ImportFrom, alias: ast.alias) -> ast.ImportFrom:
    return ast.ImportFrom(node.module, [alias], node.level)


def file_of(module: str) -> Path:
    path = ROOT.joinpath(*module.split("."))
    package = path / "__init__.py"
    return package if package.exists() else path.with_suffix(".py")


def holds_code(file: Path) -> bool:
    """Whether there is more in the file than a docstring."""
    body = ast.parse(file.read_text()).body
    return any(not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)) for node in body)


def listed(dependencies: Iterable[str]) -> list[str]:
    """What a stage lists of the package: files, and folders for a whole room."""
    return [path for path in dependencies if path.startswith("medscope/")]


def covered(file: str, paths: Iterable[str]) -> bool:
    return any(file == path or file.startswith(f"{path}/") for path in paths)


def with_closure(text: str, graph: grimp.ImportGraph) -> str:
    """The text of a dvc.yaml with the closure of its notebook in every block of `deps`; folders stay as they are."""
    lines: list[str] = []
    block: list[str] | None = None
    for line in [*text.splitlines(), ""]:
        if block is not None and not line.lstrip().startswith("- "):
            lines += completed(block, graph)
            block = None
        if block is not None:
            block.append(line)
        else:
            lines.append(line)
        if re.match(r" *deps:( &\w+)?$", line):
            block = []
    return "\n".join(lines[:-1]) + "\n"


def completed(block: list[str], graph: grimp.ImportGraph) -> list[str]:
    indent = block[0][: block[0].index("-")]
    paths = [line.strip().removeprefix("- ") for line in block]
    notebook = next(ROOT / path for path in paths if path.startswith("notebooks/"))
    folders = [path for path in listed(paths) if (ROOT / path).is_dir()]
    files = [path for path in closure(notebook, graph) if not covered(path, folders)]
    kept = [path for path in paths if path not in listed(paths)]
    return [f"{indent}- {path}" for path in (*kept, *sorted([*folders, *files]))]


if __name__ == "__main__":
    known = import_graph()
    for pipeline in PIPELINES:
        pipeline.write_text(with_closure(pipeline.read_text(), known))
