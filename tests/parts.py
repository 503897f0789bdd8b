"""nbformat's cells and outputs, imported when a test asks for one.

The import takes four seconds (a grammar of URIs), and every worker reads every test file.
"""

from typing import Any


def __getattr__(name: str) -> Any:
    if not name.startswith("new_"):
        raise AttributeError(name)
    from nbformat import v4

    return getattr(v4, name)
