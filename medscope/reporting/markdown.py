"""The numbers of metrics/ as Markdown tables, for the terminal, the README and docs/results.md."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

COLUMNS = (
    "tg_r30", "tg_r50", "tg_r70", "tg_miou", "vqa_miou", "vqa_acc", "evidence_miou", "evidence_recall",
    "evidence_precision", "accuracy", "format", "calls", "two_looks", "calls_over_minimum", "recovery", "revision",
)  # fmt: skip
FROM_LOOKS = ("vqa_miou", "evidence_miou", "evidence_recall", "evidence_precision")  # 0 by definition without a look
TEXT_COLUMNS = ("exact", "BLEU-4", "CIDEr", "ROUGE-L")
Scores = Mapping[str, Any]  # metric -> value, metric_ci -> [low, high]; None where the eval set does not ask for it


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table. A pipe or a line break in a cell stays in its cell."""
    lines = [list(head), ["---"] * len(head), *rows]
    escaped = ([cell.replace("|", "\\|").replace("\n", " ") for cell in line] for line in lines)
    return "\n".join(f"| {' | '.join(line)} |" for line in escaped)


def scores_table(table: Mapping[str, Mapping[str, Scores]], columns: Sequence[str], names: Sequence[str]) -> str:
    """The eval sets `names` of a benchmark: a row per set and system, values with 95 % intervals.

    A dash stands for what the set does not ask, and for what is 0 by definition because the system has no tools.
    """
    present = [c for c in columns if any(c in scores for sets in table.values() for scores in sets.values())]
    rows = [
        [name, system, *(_score(sets[name], column) for column in present)]
        for name in names
        for system, sets in table.items()
        if name in sets
    ]
    return markdown_table(["eval set", "system", *present], rows)


def _score(scores: Scores, column: str) -> str:
    value, interval = scores.get(column), scores.get(f"{column}_ci")
    if value is None or (column in FROM_LOOKS and scores.get("calls") == 0):
        return "–"
    return f"{value:.2f} [{interval[0]:.2f}, {interval[1]:.2f}]" if interval else f"{value:.2f}"


def arms_table(arms: Mapping[str, Mapping[str, Scores]], columns: Sequence[str]) -> str:
    """The arms of a study on one eval set: means over seeds, and in brackets the least and the most of a seed."""
    present = [c for c in columns if any(scores.get(c, {}).get("mean") is not None for scores in arms.values())]
    rows = [[arm, *(_arm(scores.get(column, {})) for column in present)] for arm, scores in arms.items()]
    return markdown_table(["arm", *present], rows)


def _arm(cell: Scores) -> str:
    if cell.get("mean") is None:
        return "–"
    seeds = [value for value in cell["per_seed"] if value is not None]
    return f"{cell['mean']:.3f}" + (f" [{min(seeds):.3f}, {max(seeds):.3f}]" if len(seeds) > 1 else "")


def contrasts_table(rows: Mapping[str, Mapping[str, Scores]]) -> str:
    """The contrasts of a study on one eval set, a column per metric: difference, 95 % interval, corrected p value.

    Bold where that is below .05; `none` where every effect larger than the study's delta is excluded.
    """
    metrics = list(dict.fromkeys(metric for row in rows.values() for metric in row))
    lines = [[name, *(contrast_text(row[m]) if m in row else "–" for m in metrics)] for name, row in rows.items()]
    return markdown_table(["contrast", *metrics], lines)


def contrast_text(cell: Scores) -> str:
    """One contrast: `**+0.052** [+0.031, +0.073] p .002`, or `+0.001 [-0.008, +0.010] none`."""
    if cell["ci"] is None:
        return f"{cell['mean']:+.3f}"
    low, high = cell["ci"]
    mark = "**" * (cell["p_holm"] < 0.05)
    said = "none" if cell["equivalent"] else f"p {cell['p_holm']:.3f}".replace("p 0.", "p .")
    return f"{mark}{cell['mean']:+.3f}{mark} [{low:+.3f}, {high:+.3f}] {said}"


def free_text_table(table: Mapping[str, Mapping[str, Scores]]) -> str:
    """The free-text tasks, {eval set: {`kind system`: scores}}: a row per eval set and kind, a column per system."""
    systems = list(dict.fromkeys(name.split()[1] for rows in table.values() for name in rows))
    lines = []
    for eval_set, rows in table.items():
        for kind in dict.fromkeys(name.split()[0] for name in rows):
            found = [rows.get(f"{kind} {system}") for system in systems]
            lines.append([eval_set, kind, *(_text_scores(scores) if scores else "–" for scores in found)])
    return markdown_table(["eval set", "kind", *systems], lines)


def _text_scores(scores: Scores) -> str:
    return " / ".join(f"{scores[c]:.2f}" if c == "exact" else f"{scores[c]:.1f}" for c in TEXT_COLUMNS)


def rows_table(rows: Mapping[str, Scores], head: str) -> str:
    """A dict of rows; floats with three digits, intervals behind them, a dash for None."""
    names = list(dict.fromkeys(n for row in rows.values() for n in row if not n.endswith("_ci")))
    return markdown_table([head, *names], [[label, *(_plain(row, n) for n in names)] for label, row in rows.items()])


def _plain(row: Scores, name: str) -> str:
    value, interval = row.get(name), row.get(f"{name}_ci")
    text = "–" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)
    return text + (f" [{interval[0]:.2f}, {interval[1]:.2f}]" if interval else "")
