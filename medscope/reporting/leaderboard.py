"""Predictions of any runs in one page: `python -m medscope.reporting.leaderboard FOLDER... --out page.html`.

A folder is that of a run (with predictions/ in it) or one of predictions. Every `X.jsonl` with its `X.protocol.json`
beside it is a system. No model is loaded: the scores are computed from the predictions, so that the same files give the
same page, byte for byte. Systems are ranked only among those that were asked the same tasks by the same protocol.
"""

import argparse
import hashlib
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter
from tqdm import tqdm

from medscope.evaluation.benchmark import score
from medscope.evaluation.predictions import Prediction, by_set
from medscope.evaluation.protocol import OF_THE_SYSTEM
from medscope.evaluation.quarantine import MOST_LEFT_OUT, Quarantined, read_quarantine
from medscope.files import read_jsonl
from medscope.records import Task
from medscope.reporting.leaderboard_page import Group, LeftOut, Row, write_page

PROTOCOL = ".protocol.json"
COMPANIONS = (".audit", ".free_text", ".quarantined")  # files that belong to a system and are not ranked
CEILING = "oracle"  # the system whose looks are those of the teacher
ORDER = ("accuracy", "evidence_miou")  # best first


def main(arguments: Sequence[str] | None = None) -> int:
    """0: the page is written. 1: there was nothing to rank, or a folder could not be read."""
    parser = argparse.ArgumentParser("python -m medscope.reporting.leaderboard", description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER", help="of a run, or of predictions")
    parser.add_argument("--out", type=Path, required=True, metavar="PAGE", help="the HTML page to write")
    options = parser.parse_args(arguments)
    try:
        groups, left_out = gather(options.folders)
        for file in left_out:
            print(f"left out: {file.path}: {file.reason}", file=sys.stderr)
        if not groups:
            folders = ", ".join(map(str, options.folders))
            raise ValueError(
                f"no predictions with a {PROTOCOL} beside them in {folders}; `dvc repro evaluate` makes them"
            )
        write_page(options.out, groups, left_out)
    except (ValueError, OSError) as error:
        print(f"leaderboard: {error}", file=sys.stderr)
        return 1
    systems = {row.system for group in groups for row in group.rows}
    print(f"{options.out}: {len(systems)} systems, {len({group.eval_set for group in groups})} eval sets")
    return 0


def gather(folders: Sequence[Path]) -> tuple[list[Group], list[LeftOut]]:
    """The systems of the folders in groups, in domain first, and the files that are left out.

    Raises NotADirectoryError for a folder that is none. A bad file is left out with its reason and hides no other.
    """
    found, left_out = _files(folders)
    groups: dict[str, list[tuple[Group, Row]]] = {}
    for system, file in tqdm(found, desc="leaderboard", unit="system", disable=not found):
        try:
            for group, row in _scored(system, file):
                groups.setdefault(group.key, []).append((group, row))
        except (ValueError, OSError) as error:
            left_out.append(LeftOut(str(file), " ".join(str(error).split())[:300]))
    ranked = [_ranked(members) for members in groups.values()]
    order = sorted(ranked, key=lambda g: (g.domain != "in", g.eval_set, -len(g.rows), g.key))
    return order, sorted(left_out, key=lambda file: file.path)


def _files(folders: Sequence[Path]) -> tuple[list[tuple[str, Path]], list[LeftOut]]:
    """Name and file of every system; files of predictions without a protocol."""
    found: dict[Path, tuple[str, Path]] = {}
    left_out = {}
    for folder in folders:
        if not folder.is_dir():
            raise NotADirectoryError(f"{folder} is no folder; name that of a run, or one of predictions")
        base = folder / "predictions" if (folder / "predictions").is_dir() else folder
        for file in sorted(base.rglob("*.jsonl")):
            name = file.relative_to(base).as_posix().removesuffix(".jsonl")
            system = name if len(folders) == 1 else f"{folder.as_posix()}: {name}"
            if _protocol_of(file).is_file():
                found.setdefault(file.resolve(), (system, file))
            elif not any(_protocol_of(owner).is_file() for owner in _owners(file)):
                left_out[file.resolve()] = LeftOut(str(file), f"there is no {_protocol_of(file).name} beside it")
    return list(found.values()), list(left_out.values())


def _protocol_of(file: Path) -> Path:
    return file.with_name(file.name.removesuffix(".jsonl") + PROTOCOL)


def _owners(file: Path) -> list[Path]:
    """The predictions that `sft.audit.jsonl` belongs to."""
    stem = file.name.removesuffix(".jsonl")
    return [file.with_name(f"{stem.removesuffix(c)}.jsonl") for c in COMPANIONS if stem.endswith(c)]


def _scored(system: str, file: Path) -> Iterable[tuple[Group, Row]]:
    """The system on each of its eval sets. Raises ValueError where predictions and protocol do not agree."""
    protocol = _read_protocol(_protocol_of(file))
    sets, left_out = by_set(read_jsonl(file, Prediction)), _by_set(read_quarantine(file))
    counted = {name: (len(sets.get(name, ())), len(left_out.get(name, ()))) for name in (*sets, *left_out)}
    told = {told["name"]: (told["tasks"], told.get("quarantined", 0)) for told in protocol["eval_sets"]}
    if told != counted:
        raise ValueError(
            f"it holds {_counts(counted)}, but its protocol tells of {_counts(told)}: evaluate the system again"
        )
    settings = {name: value for name, value in protocol.items() if name not in OF_THE_SYSTEM}
    members = []
    for name, some in sets.items():
        tasks = [record.task for record in (*some, *left_out.get(name, ()))]
        if len({task.id for task in tasks}) < len(tasks):
            raise ValueError(f"a task of {name} is answered twice: evaluate the system again")
        asked = {**settings, "tasks": len(tasks), "tasks hash": _tasks_hash(tasks)}
        domain, quarantined = tasks[0].domain, len(tasks) - len(some)
        row = Row(system, score(some), quarantined=quarantined, tasks=len(tasks), about=about(protocol))
        members.append((Group(name, domain, digest([name, domain, asked]), asked, ()), row))
    return members


def _by_set(left_out: Iterable[Quarantined]) -> dict[str, list[Quarantined]]:
    sets: dict[str, list[Quarantined]] = {}
    for quarantined in left_out:
        sets.setdefault(quarantined.task.collection, []).append(quarantined)
    return sets


def _counts(sets: Mapping[str, tuple[int, int]]) -> str:
    texts = [f"{name} {tasks}" + (f" and {out} in quarantine" if out else "") for name, (tasks, out) in sets.items()]
    return ", ".join(texts) or "nothing"


def about(protocol: Mapping[str, Any]) -> str:
    """Which model an endpoint served and what its answers have cost, over all eval sets; "" for a local policy."""
    system, usage = protocol.get("system") or {}, protocol.get("usage") or {}
    facts = [str(system[name]) for name in ("model", "endpoint") if system.get(name)]
    if usage:
        facts.append(f"{usage['prompt_tokens']:,} + {usage['completion_tokens']:,} tokens")
        facts.append("price unknown" if usage.get("dollars") is None else f"${usage['dollars']:.2f}")
    return ", ".join(facts)


def _read_protocol(file: Path) -> dict[str, Any]:
    try:
        protocol = json.loads(file.read_text(encoding="utf-8"))
        [(told["name"], told["tasks"]) for told in protocol["eval_sets"]]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{file.name} is no protocol of predictions ({type(error).__name__}: {error})") from None
    return protocol


def _tasks_hash(tasks: Iterable[Task]) -> str:
    """Of what was asked and what counts as right, in any order; not of where the video lies on this machine."""
    kept = [
        {k: v for k, v in TypeAdapter(Task).dump_python(task, mode="json").items() if k != "path"} for task in tasks
    ]
    return digest(sorted(kept, key=lambda task: task["id"]))


def digest(value: Any) -> str:
    """A short hash of a JSON value that does not depend on the order of keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]


def _ranked(members: Sequence[tuple[Group, Row]]) -> Group:
    """One group of all its members, equal scores on one rank; without a rank those that left out too much, the ceiling.

    The means of a system that left out many tasks are those of other, perhaps easier ones.
    """
    group = members[0][0]
    rows = sorted((row for _, row in members), key=lambda row: (*(-row.scores[name] for name in ORDER), row.system))
    others = [row for row in rows if not _is_ceiling(row.system)]
    racing = [row for row in others if row.quarantined <= MOST_LEFT_OUT * row.tasks]
    values = [[row.scores[name] for name in ORDER] for row in racing]
    ranked = [replace(row, rank=1 + values.index(value)) for row, value in zip(racing, values, strict=True)]
    partial = [replace(row, note="not ranked: too many in quarantine") for row in others if row not in racing]
    ceilings = [replace(row, note="ceiling: is given the true look") for row in rows if _is_ceiling(row.system)]
    return Group(group.eval_set, group.domain, group.key, group.settings, (*ranked, *partial, *ceilings))


def _is_ceiling(system: str) -> bool:
    return system.replace(": ", "/").rsplit("/", 1)[-1] == CEILING


if __name__ == "__main__":
    sys.exit(main())
