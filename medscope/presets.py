"""A preset, e.g. presets/qwen2.5-vl-7b.yaml, as the `-S` words of `dvc exp run`: `make repro PRESET=qwen2.5-vl-7b`.

A preset names sections and parameters as params.yaml does; its section `world` holds for every stage that has the
parameter, so that frames and pixels cannot differ between stages.
"""

import sys
from pathlib import Path

import yaml

from medscope.stage import NOTEBOOKS, ROOT, StageError, declared_parameters, read_parameters, typed


def settings(preset: Path) -> dict[str, str]:
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


def main() -> None:
    """Command line: the name of a preset; prints the words for `dvc exp run`."""
    preset = ROOT / "presets" / f"{sys.argv[1]}.yaml"
    if not preset.exists():
        names = ", ".join(sorted(file.stem for file in preset.parent.glob("*.yaml")))
        sys.exit(f"there is no preset {sys.argv[1]!r}; choose one of {names}")
    print(
        " ".join(
            f"-S {name}={str(value).lower() if isinstance(value, bool) else value}"
            for name, value in settings(preset).items()
        )
    )


if __name__ == "__main__":
    main()
