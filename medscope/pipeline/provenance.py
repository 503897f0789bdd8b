"""What a result is made of: the code of a stage, its inputs, the hashes that DVC recorded.

`fingerprint` is the key of resume checkpoints. The code of a stage is what dvc.yaml lists for it, and a test holds that
list to the import closure of the stage's notebook.
"""

import ast
import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from medscope.pipeline.parameters import ROOT, Parameters

# These name a run or pace its saving; with another value of them the training is the same. `processes` is not among
# them: every process keeps a random state of its own, so a resume needs as many of them.
NOT_DECIDING = ("folder", "variant", "save_steps", "loader_workers")


def fingerprint(stage: str, parameters: Mapping[str, Any], inputs: Iterable[Path], videos: Path) -> str:
    """A short hash of what decides a training: parameters, inputs (files, folders), code of the stage, and videos.

    Videos may be terabytes: of them name, size and time of the last change count, of the other inputs the content.
    """
    digest = hashlib.sha256()
    deciding = {name: value for name, value in parameters.items() if name not in NOT_DECIDING}
    digest.update(json.dumps(deciding, sort_keys=True).encode())
    for number, path in enumerate(inputs):
        for name, content in hash_files(path):
            digest.update(f"{number} {name} {content}\n".encode())
    for file in sorted(file for file in videos.rglob("*") if file.is_file()):
        state = file.stat()
        digest.update(f"{file.relative_to(videos)} {state.st_size} {state.st_mtime_ns}\n".encode())
    for file in code_files(stage):
        digest.update(f"{file.relative_to(ROOT)} {hash_code(file)}\n".encode())
    return digest.hexdigest()[:12]


def hash_files(path: Path) -> list[tuple[str, str]]:
    """Relative name and hash of a file, or of every file in a folder; read in pieces, whatever their size."""
    if not path.exists():
        raise FileNotFoundError(f"{path} is an input of this training and does not exist")
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    found = []
    for file in files:
        with file.open("rb") as opened:
            found.append((file.relative_to(path).as_posix(), hashlib.file_digest(opened, "sha256").hexdigest()))
    return found


def hash_code(file: Path) -> str:
    """The hash of a Python file's syntax tree: comments and formatting do not change it. Other files by their bytes."""
    content = file.read_bytes()
    if file.suffix == ".py":
        content = ast.dump(ast.parse(content)).encode()
    return hashlib.sha256(content).hexdigest()


def code_files(stage: str) -> list[Path]:
    """The files below medscope/ that dvc.yaml lists as dependencies of a stage."""
    listed = [ROOT / path for path in read_stages()[stage]["deps"] if path.startswith("medscope/")]
    found = {file for path in listed for file in (path.rglob("*") if path.is_dir() else [path]) if file.is_file()}
    return sorted(file for file in found if "__pycache__" not in file.parts)


def read_stages() -> dict[str, dict[str, Any]]:
    """The stages of dvc.yaml and studies/dvc.yaml; of a matrix or `foreach` the template of its members."""
    files = [file for file in (ROOT / "studies" / "dvc.yaml", ROOT / "dvc.yaml") if file.exists()]
    stages = {name: stage for file in files for name, stage in yaml.safe_load(file.read_text())["stages"].items()}
    return {name: stage.get("do", stage) for name, stage in stages.items()}


def stage_inputs(parameters: Parameters) -> list[str]:
    """Data, checkpoints and metrics that dvc.yaml lists as dependencies of a stage, with the values of this run in
    the place of `${item.name}`. What is named after something else than a parameter is left out."""
    found = []
    for path in read_stages()[parameters.get("study", parameters.stage)]["deps"]:
        known = re.sub(r"\$\{item\.(\w+)\}", lambda match: str(parameters.get(match[1], match[0])), path)
        if not path.startswith(("medscope/", "notebooks/")) and "${" not in known:
            found.append(known)
    return found


def recorded_hashes() -> dict[str, str]:
    """Path -> MD5 of everything that a stage has made, as DVC recorded it when the stage ended."""
    locks = (ROOT / "dvc.lock", ROOT / "studies" / "dvc.lock")
    stages = [yaml.safe_load(lock.read_text())["stages"] for lock in locks if lock.exists()]
    outs = [out for found in stages for stage in found.values() for out in stage.get("outs", [])]
    return {out["path"]: out["md5"] for out in outs if "md5" in out}


def recorded_hash(path: str, recorded: Mapping[str, str]) -> str | None:
    """The hash of a file or folder, None where none is known; of a folder that several stages fill, that of theirs."""
    if path in recorded:
        return recorded[path]
    inside = sorted(f"{name} {md5}" for name, md5 in recorded.items() if name.startswith(f"{path}/"))
    return hashlib.md5("\n".join(inside).encode()).hexdigest() if inside else None
