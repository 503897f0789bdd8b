"""The parameters of a stage: declared in its notebook, given by params.yaml, the command line, papermill or Jupyter.

A notebook declares every parameter once, as a commented literal in the cell tagged `parameters`; those values are the
smoke run. params.yaml has a section per stage with the real values, and a section `world` for what several stages must
agree on: a stage takes the `world` keys that it declares, its own section wins. No name is accepted and ignored.
"""

import ast
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from medscope.pipeline.checks import problems
from medscope.ranks import local_process_count, local_process_index

if TYPE_CHECKING:
    from medscope.environment import ToolBudget

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = {
    "synthesize_data": "notebooks/01_synthesize_data.ipynb",
    "warm_up": "notebooks/02_warm_up.ipynb",
    "sft": "notebooks/03_sft.ipynb",
    "ga_grpo": "notebooks/04_ga_grpo.ipynb",
    "ablations": "notebooks/05_ablations.ipynb",
    "evaluate": "notebooks/06_evaluate.ipynb",
    "report": "notebooks/07_report.ipynb",
    "studies": "notebooks/08_studies.ipynb",
}
# Sections of params.yaml that are no stage's: values shared by stages, and what is laid over the section of a stage.
WORLD = "world"
OVERLAYS = (
    "blind",
    "systems",
    "ablation",
    "ablation_overrides",
    "ablation_evaluation",
    "study",
)
INJECTED = "# Parameters"  # how the cell begins that papermill adds behind the parameters cell


class StageError(ValueError):
    """Parameters and notebook do not agree, or the stage is unknown."""


class Parameters(dict[str, Any]):
    """Name -> value of every parameter that a notebook declares; `stage` says whose they are."""

    def __init__(self, stage: str, values: Mapping[str, Any]):
        super().__init__(values)
        self.stage = stage

    def __reduce__(self):
        return Parameters, (self.stage, dict(self))


def notebook_of(stage: str) -> Path:
    """The notebook of a stage; `explore` is one, too, but no stage of the pipeline."""
    return ROOT / NOTEBOOKS.get(stage, f"notebooks/{stage}.ipynb")


def begin(stage: str, notebook: dict[str, Any]) -> Parameters:
    """First line of every notebook: its parameters from its `globals()`, checked; work from the repository root.

    A whole number given for a float becomes a float, in the notebook as well. Raises StageError for a name that
    papermill was given and the notebook does not declare, and for a value of another type than the declared one.
    """
    declared = declared_parameters(notebook_of(stage))
    refuse_unknown(f"notebook {stage}", injected_names(notebook.get("In", ())), declared)
    parameters = checked(stage, {n: typed(f"{stage}.{n}", notebook[n], value) for n, value in declared.items()})
    notebook.update(parameters)
    prepare_process()
    return parameters


def prepare_process() -> None:
    """Work from the repository root, with torch pinned to the cores and the GPU of this process.

    More threads than cores make small models ten times slower. Of several processes on a machine each takes the GPU of
    its own number there, or all of them would load their model to the first. Raises RuntimeError for too few GPUs.
    """
    import torch

    os.chdir(ROOT)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    torch.set_num_threads(max(1, cores // local_process_count()))
    if gpus := torch.cuda.device_count():
        if gpus < local_process_count():
            raise RuntimeError(f"{local_process_count()} processes on this machine, which has {gpus} GPUs")
        torch.cuda.set_device(local_process_index())


def tool_budget(parameters: Mapping[str, Any]) -> "ToolBudget":
    """The tool budget among a stage's parameters."""
    from medscope.environment import ToolBudget  # here, so that the launcher starts without torch

    return ToolBudget(
        **{field.name: parameters[field.name] for field in fields(ToolBudget) if field.name in parameters}
    )


def declared_parameters(notebook: Path) -> dict[str, Any]:
    """Names and defaults in the notebook's `parameters` cell: literals, which are read and never executed."""
    cells = json.loads(notebook.read_text())["cells"]
    sources = ["".join(cell["source"]) for cell in cells if "parameters" in cell["metadata"].get("tags", [])]
    if len(sources) != 1:
        raise StageError(f"{notebook} has {len(sources)} cells tagged `parameters`, it needs one")
    try:
        return {name: ast.literal_eval(value) for name, value in assignments(sources[0])}
    except (SyntaxError, ValueError) as error:
        raise StageError(f"the `parameters` cell of {notebook} holds more than `name = literal`: {error}") from None


def assignments(source: str) -> Iterable[tuple[str, ast.expr]]:
    """Name and value of every `name = value` in the source; ValueError for any other statement."""
    for node in ast.parse(source).body:
        if not (isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name)):
            raise ValueError(f"line {node.lineno} is no `name = value`")
        yield node.targets[0].id, node.value


def injected_names(executed: Iterable[str]) -> list[str]:
    """Names that papermill has set, from the sources of the executed cells (IPython's `In`)."""
    return [name for cell in executed if cell.startswith(INJECTED) for name, _ in assignments(cell)]


def refuse_unknown(where: str, given: Iterable[str], declared: Iterable[str], what: str = "parameter") -> None:
    """StageError that names what is given and not declared, and what could be given."""
    unknown = sorted(set(given) - set(declared))
    if unknown:
        raise StageError(f"{where} has no {what} {', '.join(unknown)}; it has {', '.join(declared)}")


def typed(name: str, value: Any, declared: Any) -> Any:
    """`value` in the type that the notebook declares (YAML reads 1e-4 as text), or a StageError that names it."""
    kind = type(declared)
    if kind is float and not isinstance(value, bool):
        try:
            return float(value)
        except (TypeError, ValueError):
            pass
    elif type(value) is kind:
        return value
    raise StageError(f"{name} is {value!r}, the notebook declares a {kind.__name__} such as {declared!r}")


def read_parameters() -> dict[str, Any]:
    """The sections of params.yaml; StageError for a section that nothing reads, or a key of `world` no stage has."""
    sections = yaml.safe_load((ROOT / "params.yaml").read_text())
    refuse_unknown("params.yaml", sections, (WORLD, *NOTEBOOKS, *OVERLAYS), "section")
    shared = {name for stage in NOTEBOOKS for name in declared_parameters(notebook_of(stage))}
    refuse_unknown(f"section {WORLD} of params.yaml", sections.get(WORLD) or {}, sorted(shared))
    return sections


def overlay(sections: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The values of `ablation_overrides.full`, `study.rho.table` and the like; StageError that lists what could be
    named."""
    section, *members = name.split(".")
    refuse_unknown("params.yaml, for --with,", [section], OVERLAYS, "section")
    values, path = sections.get(section) or {}, section
    for member in members:
        refuse_unknown(f"section {path} of params.yaml", [member], values, "member")
        values, path = values[member] or {}, f"{path}.{member}"
    return dict(values)


def laid_over(given: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """`given` with these values; of a parameter that is a mapping (`settings`) only the named members change."""
    mapped = {n: {**given[n], **v} for n, v in values.items() if isinstance(v, dict) and isinstance(given.get(n), dict)}
    return {**given, **values, **mapped}


def stage_parameters(
    stage: str, overrides: Iterable[str] = (), overlays: Iterable[str] = (), smoke: bool = False
) -> Parameters:
    """What a run of the stage is given, from weak to strong: `world`, the stage's section, overlays, `name=value`.

    With `smoke` the notebook's own values stand in the place of the first two. Raises StageError naming every parameter
    that the notebook does not declare, that nothing gives a value, or that is not of the notebook's type.
    """
    declared, sections = declared_parameters(notebook_of(stage)), read_parameters()
    given: dict[str, Any] = {"folder": "."}
    if smoke:
        given = dict(declared)
    else:
        given |= {name: value for name, value in (sections.get(WORLD) or {}).items() if name in declared}
        given |= sections.get(stage) or {}
    for name in overlays:
        given = laid_over(given, overlay(sections, name))
    for override in overrides:
        name, equals, value = override.partition("=")
        if not equals:
            raise StageError(f"{override!r} is not of the form name=value")
        given[name] = yaml.safe_load(value)
    refuse_unknown(f"notebook {stage}", given, declared)
    missing = sorted(set(declared) - set(given))
    if missing:
        raise StageError(f"section {stage} of params.yaml lacks {', '.join(missing)}, which its notebook declares")
    return checked(stage, {name: typed(f"{stage}.{name}", given[name], value) for name, value in declared.items()})


def checked(stage: str, values: dict[str, Any]) -> Parameters:
    """The values as the stage's parameters; StageError for values or combinations that it cannot use."""
    if found := problems(stage, values):
        raise StageError(f"{stage}: {'; '.join(found)}")
    return Parameters(stage, values)
