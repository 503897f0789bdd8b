"""Real files that are no part of the project: in the folder that MEDSCOPE_REAL_DATA names. Tests skip without them."""

import os
from pathlib import Path

import pytest


def real_file(name: str) -> Path:
    """The path of a real file; skips the test, with the reason, where it is not there."""
    folder = os.environ.get("MEDSCOPE_REAL_DATA")
    if not folder:
        pytest.skip(f"{name}: MEDSCOPE_REAL_DATA names no folder of real files")
    if not (path := Path(folder) / name).is_file():
        pytest.skip(f"{path} is not there")
    return path
