"""The prompts of the teacher, files beside this module. A prompt is a system message and holds no data.

What a prompt is about follows as frames and one JSON object in the user's message, so that no text of a model or of an
annotation can become part of the instructions.
"""

from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from importlib.resources import files

PROMPTS = ("caption", "summary", "questions", "answer", "grade", "tools", "direct")


@dataclass(frozen=True)
class Prompt:
    """A prompt by its name. `hash` changes with every change of the text: it is part of every content key."""

    name: str
    text: str

    @property
    def hash(self) -> str:
        return sha256(self.text.encode()).hexdigest()[:16]


@cache
def load_prompt(name: str) -> Prompt:
    """The prompt in `prompts/NAME.md`. Raises ValueError for a name that is not in `PROMPTS`."""
    if name not in PROMPTS:
        raise ValueError(f"prompt {name!r} is unknown; choose one of {', '.join(PROMPTS)}")
    text = files("medscope.suite.teachers.endpoint").joinpath("prompts", f"{name}.md").read_text(encoding="utf-8")
    return Prompt(name, text.strip())
