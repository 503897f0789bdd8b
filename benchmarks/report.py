"""What every benchmark writes: its rows with machine and versions as JSON, a table to read, a plot to look at."""

import json
import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
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


def reset_peak_memory() -> None:
    """Start `peak_memory` anew (Linux)."""
    Path("/proc/self/clear_refs").write_text("5")


def peak_memory() -> float:
    """GiB of main memory that this process held at most since `reset_peak_memory`."""
    status = Path("/proc/self/status").read_text()
    kilobytes = next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))
    return int(kilobytes) / 2**20


def plot_steps(name: str, rows: list[dict[str, Any]]) -> None:
    """results/<name>.png: seconds of a whole step against the size of the group, a panel per prompt length."""
    lengths = sorted({row["frames"] for row in rows})
    figure, axes = plt.subplots(1, len(lengths), figsize=(4 * len(lengths), 3.2), squeeze=False)
    for axis, frames in zip(axes[0], lengths, strict=True):
        for engine, label in (("trl", "stock TRL"), ("ours", "MedScope")):
            points = [
                (r["group"], r[f"{engine}_step_s"]) for r in rows if r["frames"] == frames and f"{engine}_step_s" in r
            ]
            if points:
                axis.plot(*zip(*points, strict=True), marker="o", label=label)
        axis.set(title=f"{frames} frames", xlabel="rollouts per question", ylabel="seconds per step", yscale="log")
        axis.set_xticks(sorted({row["group"] for row in rows}))
        axis.legend()
    figure.tight_layout()
    figure.savefig(RESULTS / f"{name}.png", dpi=120)


def plot_latency(name: str, rows: list[dict[str, Any]]) -> None:
    """results/<name>.png: milliseconds of a first call of each tool, a bar per way of decoding."""
    figure, axes = plt.subplots(1, 2, figsize=(9, 2.8), sharey=True)
    for axis, tool in zip(axes, ("crop_video", "get_frame"), strict=True):
        axis.barh([row["way"] for row in rows], [row[f"{tool}_ms"] for row in rows])
        axis.set(title=tool, xlabel="milliseconds, first call")
    figure.tight_layout()
    figure.savefig(RESULTS / f"{name}.png", dpi=120)
