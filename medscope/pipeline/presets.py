"""Presets, e.g. presets/qwen2.5-vl-7b.yaml, as the `-S` words of `dvc exp run`: `make repro PRESET=qwen2.5-vl-7b`.

Several are laid over one another, the last wins: `PRESET="qwen2.5-vl-7b vllm"`. A preset names sections and parameters
as params.yaml does; its section `world` holds for every stage that has the parameter, so that frames and pixels cannot
differ between stages.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from medscope.pipeline.stage import NOTEBOOKS, ROOT, StageError, declared_parameters, read_parameters, typed


def settings(preset: Path) -> dict[str, Any]:
    """`section.name` -> value of every parameter that a preset changes.

    Raises StageError naming what params.yaml does not have, or a value of another type than the notebook's.
    """
    given, known = yaml.safe_load(preset.read_text()), read_parameters()
    shared = given.pop("world", {})
    found = {}
    for section in [name for name in NOTEBOOKS if name in known]:
        own = {name: value for name, value in shared.items() if name in known[section]} | given.pop(section, {})
        declared = declared_parameters(ROOT / "notebooks" / f"{NOTEBOOKS[section]}.ipynb")
        for name, value in own.items():
            if name not in declared:
                raise StageError(f"{preset.name}: params.yaml has no {section}.{name}")
            found[f"{section}.{name}"] = typed(f"{section}.{name}", value, declared[name])
    if given:
        raise StageError(f"{preset.name}: params.yaml has no section {', '.join(given)}")
    return found


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


def main() -> None:
    """Command line: names of presets; prints the words for `dvc exp run`."""
    try:
        chosen = laid_over(sys.argv[1:])
    except StageError as error:
        sys.exit(str(error))
    words = {name: str(value).lower() if isinstance(value, bool) else value for name, value in chosen.items()}
    print(" ".join(f"-S {name}={value}" for name, value in words.items()))


if __name__ == "__main__":
    main()
