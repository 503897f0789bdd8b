"""What every benchmark writes: its rows with machine and versions as JSON, and a table to read."""

import json
import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

RESULTS = Path(__file__).parent / "results"


def machine() -> dict[str, str]:
    """Where the numbers were measured."""
    info = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    cpu = next((line.split(":")[1].strip() for line in info.splitlines() if "model name" in line), platform.machine())
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    packages = ("torch", "transformers", "trl", "decord", "av", "opencv-python-headless", "torchcodec")
    return {"cpu": cpu, "cores": str(len(os.sched_getaffinity(0))), "gpu": gpu, **{p: _version(p) for p in packages}}


def _version(package: str) -> str:
    try:
        return version(package)
    except ModuleNotFoundError:
        return "not installed"


def write_results(name: str, rows: list[dict[str, Any]], where: dict[str, str]) -> None:
    """results/<name>.json and results/<name>.md."""
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps({"machine": where, "rows": rows}, indent=1) + "\n")
    columns = list(dict.fromkeys(key for row in rows for key in row))
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(str(row.get(column, "–")) for column in columns) + " |" for row in rows]
    lines += ["", ", ".join(f"{key} {value}" for key, value in where.items())]
    (RESULTS / f"{name}.md").write_text("\n".join(lines) + "\n")
