"""Presets, e.g. presets/qwen2.5-vl-7b.yaml, as the `-S` words of `dvc exp run`: `make repro PRESET=qwen2.5-vl-7b`.

A preset names sections and parameters as params.yaml does: `world` is params.yaml's `world`, which every stage takes.
The own section of a stage wins. Presets are laid over one another, the last wins: `PRESET="qwen2.5-vl-7b vllm"`.
"""

import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from medscope.pipeline.parameters import (
    NOTEBOOKS,
    ROOT,
    WORLD,
    StageError,
    declared_parameters,
    notebook_of,
    read_parameters,
    refuse_unknown,
    typed,
)


def settings(preset: Path) -> dict[str, Any]:
    """`section.name` -> value of every parameter that a preset changes.

    Raises StageError naming what params.yaml or the notebook does not have, or a value of another type than declared.
    """
    given = yaml.safe_load(preset.read_text())
    refuse_unknown(preset.name, given, (WORLD, *NOTEBOOKS), "section")
    found = {}
    for section, values in given.items():
        declared = known_parameters(section)
        refuse_unknown(f"{preset.name}: section {section}", values, declared)
        for name, value in values.items():
            found[f"{section}.{name}"] = typed(f"{section}.{name}", value, declared[name])
    return found


def known_parameters(section: str) -> Mapping[str, Any]:
    """Name -> a value of the right type for everything that the section may hold."""
    return read_parameters()[WORLD] if section == WORLD else declared_parameters(notebook_of(section))


def laid_over(names: Sequence[str]) -> dict[str, Any]:
    """The settings of several presets by name; StageError if there is none of that name."""
    found: dict[str, Any] = {}
    for name in names:
        preset = ROOT / "presets" / f"{name}.yaml"
        if not preset.exists():
            known = ", ".join(sorted(file.stem for file in preset.parent.glob("*.yaml")))
            raise StageError(f"there is no preset {name!r}; choose from {known}")
        found |= settings(preset)
    return found


def of_stage(names: Sequence[str], stage: str) -> list[str]:
    """The presets as `name=value` of one stage, from weak to strong: what it takes of `world`, then its own section."""
    chosen, declared = laid_over(names), declared_parameters(notebook_of(stage))
    given = [(*name.partition(".")[::2], value) for name, value in chosen.items()]
    shared = [f"{name}={value}" for section, name, value in given if section == WORLD and name in declared]
    return shared + [f"{name}={value}" for section, name, value in given if section == stage]


def words(chosen: Mapping[str, Any]) -> Iterable[str]:
    """What `dvc exp run` is told; `++` also sets a value that a stage has from `world` so far."""
    for name, value in chosen.items():
        yield f"-S ++{name}={str(value).lower() if isinstance(value, bool) else value}"


def main() -> None:
    """Command line: names of presets; prints the words for `dvc exp run`."""
    try:
        print(" ".join(words(laid_over(sys.argv[1:]))))
    except StageError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
