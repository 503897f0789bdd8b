"""The page of the leaderboard: a table per eval set and protocol, without scripts, downloads or a date."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from medscope.evaluation.benchmark import Scores
from medscope.reporting.markdown import FROM_LOOKS

COLUMNS = {
    "accuracy": "accuracy", "evidence_miou": "evidence mIoU", "tg_r50": "R@.5", "tg_r70": "R@.7",
    "tg_miou": "grounding mIoU", "vqa_acc": "VQA accuracy", "evidence_recall": "evidence recall",
    "evidence_precision": "evidence precision", "format": "format", "calls": "calls",
}  # fmt: skip
POLICY = "default-src 'none'; style-src 'unsafe-inline'"
STYLE = """
:root { color-scheme: light dark; --ink: #222; --paper: #fff; --soft: #eef0f2; --line: #dcdfe3; --mark: #2f6fab }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e6e6; --paper: #17191c; --soft: #262a2f; --line: #3a3f45; --mark: #7fb4e6 } }
@media print { :root { --ink: #000; --paper: #fff; --soft: #f3f3f3; --mark: #245 } section { break-inside: avoid } }
body { margin: 0; background: var(--paper); color: var(--ink); font: 15px/1.5 system-ui, sans-serif }
main { max-width: 84rem; margin: 0 auto; padding: 1.5rem }
h2 { margin-top: 2.5rem; border-top: 1px solid var(--line); padding-top: 1rem } h3 { margin-bottom: .2rem }
p { max-width: 52rem } a { color: var(--mark) } .wide { overflow-x: auto }
.badge { font-size: .75rem; font-weight: 400; padding: .1rem .5rem; border-radius: 1rem; background: var(--soft) }
table { border-collapse: collapse; font-size: .8rem; font-variant-numeric: tabular-nums; margin: .4rem 0 1.2rem }
th, td { padding: .25rem .35rem; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line) }
th { white-space: normal; vertical-align: bottom }
td.system, th.system { text-align: left; white-space: normal; overflow-wrap: anywhere; min-width: 7.5rem }
small { opacity: .75; display: block } .settings { font-size: .8rem; max-width: none; overflow-wrap: anywhere }
svg { width: 70px; height: 16px; vertical-align: middle } .track { stroke: var(--line) }
.interval { stroke: var(--mark) } .value { fill: var(--mark) }
@media print { .wide { overflow: visible } table { font-size: .6rem } th, td { padding: .15rem .25rem } }
"""
INTRODUCTION = """<p>A table holds the systems that were asked <em>the same tasks by the same protocol</em>, ordered by
accuracy. Below a value stands its 95 % interval, resampled over videos. Systems whose intervals overlap are not told
apart. A dash stands for what an eval set does not ask, and for what is 0 by definition because a system never looks.
Numbers of different tables do not compare.</p>
<p>A task in <em>quarantine</em> has no answer to score: the replies of a model behind an endpoint could not be read. It
is no wrong answer and counts in no mean. The column counts them; a system that leaves out more than 5 % has no rank.
</p>"""


@dataclass(frozen=True)
class Row:
    """One system on one eval set. `tasks` counts those in quarantine, too; the scores do not."""

    system: str
    scores: Scores
    rank: int | None = None  # None: `note` says why
    note: str = ""
    quarantined: int = 0
    tasks: int = 0
    about: str = ""  # which model, at which cost


@dataclass(frozen=True)
class Group:
    """Systems that answered the same tasks of an eval set by the same protocol, best first. `key` is their hash."""

    eval_set: str
    domain: str
    key: str
    settings: Mapping[str, Any]
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class LeftOut:
    """A file that is not on the page, and why."""

    path: str
    reason: str


def write_page(path: Path, groups: Sequence[Group], left_out: Sequence[LeftOut]) -> None:
    """Write the page whole or not at all; the same arguments give the same bytes."""
    sets = list(dict.fromkeys(group.eval_set for group in groups))
    contents = "".join(f'<li><a href="#set{n}">{escape(name)}</a></li>' for n, name in enumerate(sets))
    sections = [_eval_set(n, [g for g in groups if g.eval_set == name]) for n, name in enumerate(sets)]
    if left_out:
        items = "".join(f"<li>{escape(file.path)}: {escape(file.reason)}</li>" for file in left_out)
        sections.append(f'<h2 id="left_out">Left out</h2><ul>{items}</ul>')
        contents += '<li><a href="#left_out">left out</a></li>'
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_text(
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        f'<meta name="viewport" content="width=device-width"><title>MedScope leaderboard</title>'
        f"<style>{STYLE}</style></head>\n<body><main>\n<h1>Leaderboard</h1>\n{INTRODUCTION}\n<ul>{contents}</ul>\n"
        + "\n".join(sections)
        + "\n</main></body></html>\n",
        encoding="utf-8",
    )
    part.replace(path)


def _eval_set(number: int, groups: Sequence[Group]) -> str:
    """Heading, and a table for every protocol; settings in which the protocols differ are bold."""
    names = dict.fromkeys(name for group in groups for name in group.settings)
    differ = {name for name in names if len({str(group.settings.get(name)) for group in groups}) > 1}
    name, domains = groups[0].eval_set, sorted({group.domain for group in groups})
    badges = " ".join(f'<span class="badge">{escape(domain)} domain</span>' for domain in domains)
    note = f"<p>{len(groups)} protocols, each with a ranking of its own.</p>" if len(groups) > 1 else ""
    tables = "".join(_table(group, differ) for group in groups)
    return f'<h2 id="set{number}">{escape(name)} {badges}</h2>{note}{tables}'


def _table(group: Group, differ: set[str]) -> str:
    columns = [name for name in COLUMNS if any(row.scores[name] is not None for row in group.rows)]
    quarantine = any(row.quarantined for row in group.rows)
    head = "".join(f"<th>{escape(COLUMNS[name])}</th>" for name in columns) + "<th>quarantine</th>" * quarantine
    rows = "".join(_row(row, columns, quarantine) for row in group.rows)
    return (
        f"<section><h3>protocol {escape(group.key)}</h3>{_settings(group.settings, differ)}"
        f'<div class="wide"><table><thead><tr><th></th><th class="system">system</th><th></th>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div></section>"
    )


def _settings(settings: Mapping[str, Any], differ: set[str]) -> str:
    texts = []
    for name, value in sorted(settings.items()):
        text = f"{escape(name.replace('_', ' '))} {escape(str(value))}"
        texts.append(f"<b>{text}</b>" if name in differ else text)
    return f'<p class="settings">{" · ".join(texts)}</p>'


def _row(row: Row, columns: Sequence[str], quarantine: bool) -> str:
    rank = "–" if row.rank is None else str(row.rank)
    notes = "".join(f"<small>{escape(note)}</small>" for note in (row.note, row.about) if note)
    cells = "".join(f"<td>{_cell(row.scores, name)}</td>" for name in columns)
    cells += f"<td>{row.quarantined} of {row.tasks}</td>" * quarantine
    system = f'<td class="system">{escape(row.system)}{notes}</td>'
    return f"<tr><td>{rank}</td>{system}<td>{_whiskers(row.scores)}</td>{cells}</tr>"


def _cell(scores: Mapping[str, Any], name: str) -> str:
    value, interval = scores[name], scores[f"{name}_ci"]
    if value is None or (name in FROM_LOOKS and scores["calls"] == 0):
        return "–"
    return f"{value:.3f}<small>[{interval[0]:.3f}, {interval[1]:.3f}]</small>"


def _whiskers(scores: Mapping[str, Any]) -> str:
    """The accuracy and its interval between 0 and 1."""
    value, (low, high) = scores["accuracy"], scores["accuracy_ci"]
    return (
        f'<svg viewBox="-4 0 108 16" role="img" aria-label="accuracy {value:.3f}">'
        f'<line class="track" x1="0" x2="100" y1="8" y2="8"/>'
        f'<line class="interval" stroke-width="3" x1="{100 * low:.1f}" x2="{100 * high:.1f}" y1="8" y2="8"/>'
        f'<circle class="value" cx="{100 * value:.1f}" cy="8" r="4"/></svg>'
    )
