"""What stands beside our numbers: settings, published rows, cost; and the tables of the terminal and the README."""

import json
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from medscope.environment.tools import ToolBudget

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
# SVU-31K, MedScope's row only, as published.
PUBLISHED_TEXT = {
    "MedScope-7B": {
        "full CI/DO/CU/TU": "4.76/4.77/4.77/4.75", "fine CI/DO/CU/TU": "4.00/4.36/4.15/4.08",
        "temporal BLEU-4/CIDEr/METEOR/ROUGE-L": "11.30/4.56/16.89/34.83",
        "perception BLEU-4/CIDEr/METEOR/ROUGE-L": "18.90/10.93/21.62/41.54",
    }
}  # fmt: skip
PUBLISHED = {name: dict(zip(PUBLISHED_COLUMNS, row.split(), strict=True)) for name, row in PUBLISHED_ROWS.items()}
COLUMNS = ("tg_r30", "tg_r50", "tg_r70", "tg_miou", "vqa_miou", "vqa_acc", "evidence_miou", "evidence_hit", "accuracy")


def protocol(budget: ToolBudget, decoder: str, questions: dict[str, Sequence[Any]], judge: str) -> dict[str, Any]:
    """What a reader needs to reproduce a table: questions, budget, judge, decoder, versions."""
    counts = {f"questions {split}": len(asked) for split, asked in questions.items()}
    packages = {name: version(name) for name in ("torch", "transformers", "trl", "decord", "av")}
    used = {
        "judge": judge if judge == "exact" else os.environ["MEDSCOPE_JUDGE_MODEL"],
        "decoding": "greedy",
        "decoder": decoder,
        **packages,
    }
    names = ("skim_frames", "skim_pixels", "crop_frames", "crop_pixels", "frame_pixels", "max_calls", "max_turn_tokens")
    return {**counts, **{name: getattr(budget, name) for name in names}, **used}


def stage_cost() -> dict[str, dict[str, Any]]:
    """Minutes of the last finished run of every stage in this MLflow experiment; empty outside of an MLflow run."""
    import mlflow

    if "MLFLOW_RUN_ID" not in os.environ:
        return {}
    experiment = mlflow.get_run(os.environ["MLFLOW_RUN_ID"]).info.experiment_id
    rows: dict[str, dict[str, Any]] = {}
    finished = "attributes.status = 'FINISHED'"
    for run in mlflow.search_runs([experiment], finished, order_by=["end_time"], output_format="list"):
        minutes = (run.info.end_time - run.info.start_time) / 60_000
        rows[run.info.run_name] = {"minutes": f"{minutes:.1f}", "commit": run.data.tags["git_commit"][:9]}
    return rows


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


TEXT_COLUMNS = ("exact", "BLEU-4", "CIDEr", "ROUGE-L")


def describe_markdown(table: dict[str, dict[str, dict[str, Any]]]) -> str:
    """The free-text tasks as Markdown: a row per split and task, a column per system."""
    systems = list(dict.fromkeys(name.split()[1] for rows in table.values() for name in rows))
    lines = ["| split | task | " + " | ".join(systems) + " |", "|---|---|" + "---|" * len(systems)]
    for split, rows in table.items():
        for task in dict.fromkeys(name.split()[0] for name in rows):
            found = (rows.get(f"{task} {system}") for system in systems)
            cells = (" / ".join(f"{scores[c]:.2f}" if c == "exact" else f"{scores[c]:.1f}" for c in TEXT_COLUMNS)
                     if scores else "–" for scores in found)  # fmt: skip
            lines.append(f"| {split} | {task} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def differences_markdown(rows: dict[str, dict[str, dict[str, Any]]], head: str, value: str, interval: str) -> str:
    """Paired differences as Markdown: a row each, a column per metric; bold where the interval excludes 0."""
    metrics = list(dict.fromkeys(metric for row in rows.values() for metric in row))
    lines = [f"| {head} | " + " | ".join(metrics) + " |", "|---|" + "---|" * len(metrics)]
    for name, row in rows.items():
        cells = []
        for metric in metrics:
            difference, (low, high) = row[metric][value], row[metric][interval]
            mark = "**" * (low > 0 or high < 0)
            cells.append(f"{mark}{difference:+.3f}{mark} [{low:+.3f}, {high:+.3f}]")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _read(file: Path) -> Any:
    return json.loads(file.read_text()) if file.exists() else None


def readme_section(metrics: Path) -> str:
    """The results for the README, every number from a JSON file below `metrics`."""
    table = json.loads((metrics / "evaluate.json").read_text())
    gains = json.loads((metrics / "gains.json").read_text())
    settings = _read(metrics / "protocol.json") or {}
    lines = [markdown(table, README_COLUMNS), "", " · ".join(f"{name} {value}" for name, value in settings.items())]
    lines += ["", "RL minus SFT on the same questions, 95 % intervals over videos:", ""]
    for split, gain in gains.items():
        lines.append(f"- {split}, seed 0: " + ", ".join(f"{name} {value}" for name, value in gain.items()))
    for split, rows in (_read(metrics / "seeds.json") or {}).items():
        found = (f"{n} {g['mean']:+.3f} [{g['ci'][0]:+.3f}, {g['ci'][1]:+.3f}]" for n, g in rows["gain"].items())
        lines.append(f"- {split}, mean of {len(rows) - 2} seeds of RL: " + ", ".join(found))
    if baselines := _read(metrics / "baselines.json"):
        parts = {part: splits["cataract"] for part, splits in baselines["added"].items()}
        lines += ["", "What each part adds, trained alike (`make baselines`), same questions, cataract, seed 0:", ""]
        lines.append(differences_markdown(parts, "part", "mean", "ci"))
        lines += ["", "(One training each: these intervals resample videos, they do not know how trainings vary.)"]
    if study := _read(metrics / "ablation_study.json"):
        rows = {name: row for name, row in study["splits"]["cataract"].items() if name != "full"}
        seeds = f"{len(study['seeds'])} seeds of {study['steps']} updates"
        lines += ["", f"Ablations minus `full` (`make ablation-study`), {seeds}, same questions, cataract:", ""]
        lines.append(differences_markdown(rows, "variant", "minus_full", "minus_full_ci"))
    return "\n".join(lines)


def results_page(metrics: Path) -> str:
    """The longer tables, for docs/results.md: every baseline on every split, all differences, the free-text tasks."""
    lines = ["# More results", "", "Written by `make readme` from metrics/. A tiny model on videos drawn by a program."]
    lines += ["", " · ".join(f"{name} {value}" for name, value in _read(metrics / "protocol.json").items())]
    if baselines := _read(metrics / "baselines.json"):
        lines += ["", "## Systems trained alike (`make baselines`)", "", "![baselines](baselines.png)", ""]
        lines.append(markdown(baselines["systems"], README_COLUMNS))
        for split in next(iter(baselines["added"].values())):
            parts = {part: splits[split] for part, splits in baselines["added"].items()}
            lines += ["", f"What each part adds, {split}:", "", differences_markdown(parts, "part", "mean", "ci")]
    if study := _read(metrics / "ablation_study.json"):
        lines += ["", "## Ablations (`make ablation-study`)", "", "![differences](ablation_study.png)"]
        lines += ["", "![rollouts over the updates](ablation_curves.png)"]
        for split, rows in study["splits"].items():
            others = {name: row for name, row in rows.items() if name != "full"}
            lines += ["", f"Minus `full`, {split}, {len(study['seeds'])} seeds of {study['steps']} updates:", ""]
            lines.append(differences_markdown(others, "variant", "minus_full", "minus_full_ci"))
    lines += ["", "## Descriptions and reasoning in free text", "", f"{' / '.join(TEXT_COLUMNS)}, seed 0:", ""]
    lines.append(describe_markdown(_read(metrics / "descriptions.json")))
    return "\n".join(lines) + "\n"


def write_readme(readme: Path, metrics: Path) -> None:
    """Replace what stands between the two marks."""
    before, _, rest = readme.read_text().partition(README_MARKS[0])
    _, mark, after = rest.partition(README_MARKS[1])
    if not mark:
        raise SystemExit(f"{readme} lacks the lines {README_MARKS[0]} and {README_MARKS[1]}")
    readme.write_text(f"{before}{README_MARKS[0]}\n{readme_section(metrics)}\n{README_MARKS[1]}{after}")


def main() -> None:
    """Command line: `python -m medscope.reporting.report metrics/evaluate.json report.html`, or `.. --readme`."""
    if sys.argv[1:] == ["--readme"]:
        Path("docs/results.md").write_text(results_page(Path("metrics")))
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
