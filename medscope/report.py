"""The last lines of `make repro`: our table on the terminal, the published rows beside it, the path of the report."""

import json
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from medscope.tools import Limits

# Table 2 of the paper (arXiv 2602.13332), per cent, 7B parameters on real videos: never in one column with ours.
PUBLISHED_COLUMNS = (
    "OphVL TG R@.3/.5/.7/mIoU", "OphVL GVQA mIoU/Acc", "MedVideoCap GVQA", "SurgVidLM TG (OOD)", "SurgVidLM GVQA (OOD)",
)  # fmt: skip
PUBLISHED_ROWS = {
    "Qwen2.5-VL-7B": "43.45/41.16/21.94/30.18  32.91/4.37  56.87/25.86  27.61/21.94/15.31/19.15  11.98/3.73",
    "LongVT-7B-RFT": "48.73/32.32/23.52/39.56  42.17/14.16  55.34/31.22  51.13/37.66/16.73/39.74  25.72/17.02",
    "MedScope-7B-SFT": "67.19/54.43/43.72/49.28  53.28/25.03  52.7/32.2  52.04/38.75/22.97/41.63  32.13/35.2",
    "MedScope-7B-RL": "81.92/68.87/54.35/64.42  65.58/35.10  61.20/39.80  55.60/40.10/22.35/44.30  34.10/37.90",
}
PUBLISHED = {name: dict(zip(PUBLISHED_COLUMNS, row.split(), strict=True)) for name, row in PUBLISHED_ROWS.items()}
COLUMNS = ("tg_r30", "tg_r50", "tg_r70", "tg_miou", "vqa_miou", "vqa_acc", "evidence_miou", "evidence_hit", "accuracy")


def protocol(
    limits: Limits, decoder: str, questions: dict[str, Sequence[Any]], judge: str
) -> dict[str, dict[str, Any]]:
    """What a reader needs to reproduce the table: questions, limits, judge, decoder, versions."""
    counts = {f"questions {split}": len(asked) for split, asked in questions.items()}
    packages = {name: version(name) for name in ("torch", "transformers", "trl", "decord", "av")}
    used = {
        "judge": judge if judge == "exact" else os.environ["MEDSCOPE_JUDGE_MODEL"],
        "decoding": "greedy",
        "decoder": decoder,
        **packages,
    }
    names = ("skim_frames", "skim_pixels", "crop_frames", "crop_pixels", "frame_pixels", "max_calls", "max_turn_tokens")
    return {"value": {**counts, **{name: getattr(limits, name) for name in names}, **used}}


def markdown(table: dict[str, dict[str, dict[str, Any]]], columns: Sequence[str] = COLUMNS) -> str:
    """The benchmark as Markdown: a row per split and system (the least accurate first), values with 95 % intervals."""
    lines = ["| split | system | " + " | ".join(columns) + " |", "|---|---|" + "---|" * len(columns)]
    splits = list(next(iter(table.values())))
    for split in splits:
        for system in sorted(table, key=lambda name: table[name][splits[0]]["accuracy"]):
            cells = []
            for name in columns:
                scores = table[system][split]
                value, interval = scores.get(name), scores.get(f"{name}_ci")
                cells.append("–" if value is None else f"{value:.2f} [{interval[0]:.2f}, {interval[1]:.2f}]")
            lines.append(f"| {split} | {system} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


README_COLUMNS = ("tg_r50", "tg_r70", "tg_miou", "vqa_acc", "evidence_miou", "accuracy")
README_MARKS = ("<!-- results: written by `make readme` -->", "<!-- end of results -->")


def readme_section(metrics: Path) -> str:
    """The results for the README, every number from a JSON file below `metrics`."""
    table = json.loads((metrics / "evaluate.json").read_text())
    gains = json.loads((metrics / "gains.json").read_text())
    lines = [markdown(table, README_COLUMNS), "", "RL minus SFT on the same questions, 95 % intervals over videos:", ""]
    for split, gain in gains.items():
        lines.append(f"- {split}, seed 0: " + ", ".join(f"{name} {value}" for name, value in gain.items()))
    if (metrics / "seeds.json").exists():
        for split, rows in json.loads((metrics / "seeds.json").read_text()).items():
            found = (f"{n} {g['mean']:+.3f} [{g['ci'][0]:+.3f}, {g['ci'][1]:+.3f}]" for n, g in rows["gain"].items())
            lines.append(f"- {split}, mean of {len(rows) - 2} seeds of RL: " + ", ".join(found))
    return "\n".join(lines)


def write_readme(readme: Path, metrics: Path) -> None:
    """Replace what stands between the two marks."""
    before, _, rest = readme.read_text().partition(README_MARKS[0])
    _, mark, after = rest.partition(README_MARKS[1])
    if not mark:
        raise SystemExit(f"{readme} lacks the lines {README_MARKS[0]} and {README_MARKS[1]}")
    readme.write_text(f"{before}{README_MARKS[0]}\n{readme_section(metrics)}\n{README_MARKS[1]}{after}")


def main() -> None:
    """Command line: `python -m medscope.report metrics/evaluate.json report.html`, or `.. --readme`."""
    if sys.argv[1:] == ["--readme"]:
        return write_readme(Path("README.md"), Path("metrics"))
    metrics, report = Path(sys.argv[1]), Path(sys.argv[2])
    if not metrics.exists():
        raise SystemExit(f"{metrics} does not exist; run `make repro` first")
    print("\nOurs: tiny model on rendered videos, greedy, 95 % intervals\n")
    print(markdown(json.loads(metrics.read_text())))
    print("\nPublished (7B, real videos, from the paper; not comparable with ours)\n")
    for name, row in PUBLISHED.items():
        print(f"{name}: " + "; ".join(f"{column} {value}" for column, value in row.items()))
    print(f"\nReport: {report.resolve()}")


if __name__ == "__main__":
    main()
