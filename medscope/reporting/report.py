"""The results outside of the notebooks: the terminal, the README and docs/results.md; and what stands beside numbers.

`python -m medscope.reporting.report --readme` (`make readme`) writes the tables of metrics/ between the marks of
README.md and docs/results.md. `python -m medscope.reporting.report metrics/evaluate.json report.html` prints the table
that ends `make repro`.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medscope.evaluation.benchmark import Table, valid_sets
from medscope.reporting.markdown import (
    TEXT_COLUMNS,
    arms_table,
    contrasts_table,
    free_text_table,
    markdown_table,
    rows_table,
    scores_table,
)
from medscope.reporting.published import PUBLISHED

MARKS = ("<!-- results: written by `make readme` -->", "<!-- end of results -->")
README_COLUMNS = ("tg_r70", "tg_miou", "vqa_acc", "evidence_miou", "accuracy")
PAGE_COLUMNS = (
    "tg_r50", "tg_r70", "tg_miou", "vqa_acc", "evidence_miou", "evidence_recall", "evidence_precision", "accuracy",
    "format", "calls", "two_looks", "calls_over_minimum", "recovery", "revision",
)  # fmt: skip
SYSTEMS = ("blind", "no_tools", "sft", "rl", "oracle")  # the rows of the README; the page has them all
RECORDED = ("evaluate", "gains", "exact_skim", "audit", "descriptions", "kinds", "hacking")
PICTURES = {  # docs/ -> outputs/, of notebooks 07 and 08; {name}: the first in-domain eval set
    "trajectory.png": "report/{name}_success_0.png",
    "baselines.png": "studies/baselines/table/contrasts.png",
    "ablation_study.png": "studies/figure5/table/contrasts.png",
    "ablation_curves.png": "studies/figure5/table/curves.png",
}
STUDY = (
    "Means over seeds, in brackets the least and the most of a seed. Contrasts: difference, 95 % interval over seeds "
    "and videos, p value corrected for the {tests} tests of the study; bold below .05, `none` where no effect beyond "
    "{delta:g} is left."
)
EXACT_SKIM = (
    "How far an exact reading of the skim reaches without a look: windows of the first label that a question names, "
    "all other answers as `blind` gives them (`medscope.evaluation.ceilings`):"
)
HACKING = "Mean reward that predictions would gain if calls were replaced, by form of R_crop (where it applies):"


def stage_cost() -> dict[str, dict[str, Any]]:
    """Minutes of the last finished run of every stage in this MLflow experiment; empty outside of an MLflow run."""
    import mlflow

    if "MLFLOW_RUN_ID" not in os.environ:
        return {}
    experiment = mlflow.get_run(os.environ["MLFLOW_RUN_ID"]).info.experiment_id
    rows: dict[str, dict[str, Any]] = {}
    finished = "tags.ended = 'FINISHED'"  # set by the launcher; trainers end a run too early
    for run in mlflow.search_runs([experiment], finished, order_by=["end_time"], output_format="list"):
        minutes = (run.info.end_time - run.info.start_time) / 60_000
        rows[run.info.run_name] = {"minutes": f"{minutes:.1f}", "commit": run.data.tags.get("git_commit", "")[:9]}
    return rows


def in_order(table: Table) -> dict[str, Mapping[str, Mapping[str, Any]]]:
    """The systems of a table: those of the benchmark from the weakest idea to the oracle, then the others."""
    known = [system for system in SYSTEMS if system in table]
    return {system: table[system] for system in (*known, *(name for name in table if name not in SYSTEMS))}


def sets_in_order(table: Table, protocol: Mapping[str, Any]) -> list[str]:
    """The names of the eval sets, in the order of metrics/protocol.json: in domain first."""
    present = list(next(iter(table.values())))
    ordered = [s["name"] for domain in ("in", "out") for s in _eval_sets(protocol) if s["domain"] == domain]
    return [name for name in ordered if name in present] + [name for name in present if name not in ordered]


def readme_section(metrics: Path) -> str:
    """The README's one table: the five systems on the first in-domain eval set."""
    table = in_order(_needed(metrics / "evaluate.json"))
    five = {system: table[system] for system in SYSTEMS if system in table} or table
    return scores_table(five, README_COLUMNS, [first_set(metrics)])


def first_set(metrics: Path) -> str:
    """The first in-domain eval set of metrics/protocol.json; without that file the first set of the benchmark."""
    return sets_in_order(_needed(metrics / "evaluate.json"), _read(metrics / "protocol.json") or {})[0]


def results_section(metrics: Path) -> str:
    """Every table of metrics/ for docs/results.md, and the commits that recorded them. Missing studies are left out."""
    table, protocol = in_order(_needed(metrics / "evaluate.json")), _read(metrics / "protocol.json") or {}
    names = sets_in_order(table, protocol)
    parts = ["## All systems on all eval sets", scores_table(table, PAGE_COLUMNS, names), _line(protocol)]
    parts += [f"No claim on {name}: {reason}." for name, reason in valid_sets(table).items() if reason]
    if skim := _read(metrics / "exact_skim.json"):
        parts += [EXACT_SKIM, scores_table({"exact skim": skim}, PAGE_COLUMNS, names)]
    if gains := _read(metrics / "gains.json"):
        parts += ["RL minus SFT on the same tasks, seed 0:", rows_table(gains, "eval set")]
    if audit := _read(metrics / "audit.json"):
        parts += ["## Evidence audit", "Right answers replayed with other frames behind the tools:"]
        parts.append(rows_table(audit, "system, eval set"))
    if hacking := _read(metrics / "hacking.json"):
        parts += ["## What the reward could be made to pay", HACKING]
        parts += [f"{name}:\n\n{rows_table(rows, 'replaced calls')}" for name, rows in hacking.items()]
    studies = {file.stem: _read(file) for file in sorted((metrics / "studies").glob("*.json"))}
    for name, study in studies.items():
        parts += _study(name, study, protocol)
    if described := _read(metrics / "descriptions.json"):
        parts += ["## Descriptions and reasoning in free text", f"{' / '.join(TEXT_COLUMNS)}, seed 0:"]
        parts.append(free_text_table(described))
    files = (*RECORDED, *(f"studies/{name}" for name in studies))
    recorded = [[f"`{name}.json`", recorded_in(metrics / f"{name}.json")] for name in files]
    parts += ["## Which commit recorded which numbers", markdown_table(["file of metrics/", "commit"], recorded)]
    return "\n\n".join(parts)


def _study(name: str, study: Mapping[str, Any], protocol: Mapping[str, Any]) -> list[str]:
    """One study: its arms on every eval set, and its contrasts where claims hold."""
    parts = [f"## Study `{name}`", STUDY.format(tests=study["tests"], delta=study["delta"])]
    for found in sets_in_order({"study": study["arms"]}, protocol):
        columns = list(dict.fromkeys(c for scores in study["arms"][found].values() for c in scores))
        known = [column for column in PAGE_COLUMNS if column in columns]
        parts += [f"{found}, arms:", arms_table(study["arms"][found], known or columns)]
        if reason := study["withheld"].get(found):
            parts.append(f"No claim on {found}: {reason}.")
        elif rows := study["contrasts"].get(found):
            parts += [f"{found}, contrasts:", contrasts_table(rows)]
    return parts


def recorded_in(file: Path) -> str:
    """The commit that last changed a file, with its date; that the file has changed since, or is in no commit.

    A result that is made again to the same bytes keeps the commit that recorded it first.
    """
    if not file.exists():
        return "not made"
    log = _git(file, "log", "-1", "--format=%h, %cs")
    if log is None:
        return "unknown (no git repository)"
    if not log:
        return "in no commit yet"
    return log + (", changed since in the working tree" if _git(file, "status", "--porcelain") else "")


def _git(file: Path, *words: str) -> str | None:
    """What git says about a file; None where there is no git, or no repository."""
    command = ["git", "-C", str(file.parent), *words, "--", file.name]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _eval_sets(protocol: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Name, domain and tasks of the eval sets; those of the first system where systems were asked different tasks."""
    told = protocol.get("eval_sets", [])
    return next(iter(told.values())) if isinstance(told, dict) else told


def told(protocol: Mapping[str, Any]) -> dict[str, str]:
    """The settings of metrics/protocol.json as text: tasks by eval set, what differs by system as `system: value`."""
    return {
        name: "; ".join(f"{system}: {one}" for system, one in value.items())
        if isinstance(value, Mapping)
        else str(value)
        for name, value in protocol.items()
        if name != "eval_sets"
    } | _tasks(protocol)


def _tasks(protocol: Mapping[str, Any]) -> dict[str, str]:
    return {f"tasks {s['name']}": f"{s['tasks']} ({s['domain']} domain)" for s in _eval_sets(protocol)}


def _line(protocol: Mapping[str, Any]) -> str:
    """How the numbers were made, in one line; a setting in which systems differ is left to the report."""
    settings = {name: value for name, value in protocol.items() if not isinstance(value, list | dict)}
    return " · ".join(f"{name} {value}" for name, value in (settings | _tasks(protocol)).items())


def _read(file: Path) -> Any:
    return json.loads(file.read_text()) if file.exists() else None


def _needed(file: Path) -> Any:
    if not file.exists():
        raise SystemExit(f"{file} does not exist; run `make repro` first")
    return _read(file)


def write_between_marks(page: Path, section: str) -> None:
    """Replace what stands between the two marks of a page. SystemExit where it lacks them: nothing is written."""
    before, first, rest = page.read_text().partition(MARKS[0])
    _, second, after = rest.partition(MARKS[1])
    if not (first and second):
        raise SystemExit(f"{page} lacks the lines {MARKS[0]} and {MARKS[1]}, between which the results are written")
    page.write_text(f"{before}{MARKS[0]}\n{section}\n{MARKS[1]}{after}")


def write_readme(root: Path) -> None:
    """Write the tables of README.md and docs/results.md below `root`; copy the pictures of outputs/ to docs/."""
    sections = {"README.md": readme_section(root / "metrics"), "docs/results.md": results_section(root / "metrics")}
    for page, section in sections.items():
        write_between_marks(root / page, section)
    for picture, source in PICTURES.items():
        made = root / "outputs" / source.format(name=first_set(root / "metrics"))
        if made.exists():
            shutil.copyfile(made, root / "docs" / picture)
        else:
            print(f"docs/{picture} is kept as it is: {made} does not exist")


def main(words: Sequence[str] | None = None) -> None:
    """Command line: see the module."""
    words = list(sys.argv[1:] if words is None else words)
    if words == ["--readme"]:
        return write_readme(Path())
    if len(words) != 2:
        raise SystemExit("give --readme, or the files metrics/evaluate.json and report.html")
    table, report = in_order(_needed(Path(words[0]))), Path(words[1])
    protocol = _read(Path(words[0]).with_name("protocol.json")) or {}
    print("\nOurs: greedy, 95 % intervals over videos\n")
    print(scores_table(table, PAGE_COLUMNS, sets_in_order(table, protocol)))
    print("\nPublished (7B, real videos, from the paper; not comparable with ours)\n")
    for name, row in PUBLISHED.items():
        print(f"{name}: " + "; ".join(f"{column} {value}" for column, value in row.items()))
    print(f"\nReport: {report.resolve()}")


if __name__ == "__main__":
    main()
