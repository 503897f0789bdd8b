"""What a model's folder says beside its weights: the tool budget it was trained for, and what it is not for."""

import json
from dataclasses import fields
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from medscope.environment.tools import ToolBudget

BUDGET, CARD = "budget.json", "README.md"


def read_budget(path: Path) -> ToolBudget:
    """The budget in a JSON file `{"skim_frames": 20, ..}`; what it does not name has `ToolBudget`'s default.

    Raises FileNotFoundError without the file, ValueError for a name or a value that is none.
    """
    if not path.is_file():
        example = json.dumps({"skim_frames": 20, "skim_pixels": 784})
        raise FileNotFoundError(
            f"{path} does not exist: it names the frames and pixels that the model was trained for, such as {example}"
        )
    names = [field.name for field in fields(ToolBudget)]
    try:
        values = json.loads(path.read_text())
        unknown = sorted(set(values) - set(names))
        if unknown:
            raise ValueError(f"{', '.join(unknown)} is unknown; it may name {', '.join(names)}")
        return TypeAdapter(ToolBudget).validate_python(values)
    except (ValueError, TypeError, ValidationError) as error:
        raise ValueError(f"{path}: {' '.join(str(error).split())}") from None


def card_warning(folder: Path) -> str:
    """The first quoted paragraph (`> ..`) of the model card: what the model is and is not; "" without one."""
    card = folder / CARD
    lines = card.read_text(encoding="utf-8").splitlines() if card.is_file() else []
    quoted = [index for index, line in enumerate(lines) if line.startswith(">")]
    paragraph = []
    for line in lines[quoted[0] :] if quoted else []:
        if not line.startswith(">"):
            break
        paragraph.append(line.lstrip("> ").strip())
    return " ".join(paragraph)
