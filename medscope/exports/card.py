"""The dataset card: what it is, how it was made, how much was kept, whose the videos are, and what it is not for."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import yaml

from medscope.suite.suite import Suite

SPLITS = ("warm_up", "sft", "rl", "eval")
WARNING = "**Not for clinical use.** Research data: no diagnosis, treatment or teaching may rest on it."
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
_WHAT = {
    "tasks": "a question, its typed reference answer, and the window or timestamp (s) that is its evidence",
    "trajectories": "the turns of a teacher that called the tools, with the calls that were executed or refused",
    "captions": "what is seen in a window, and a summary of every recording",
    "recordings": "the annotated intervals of every recording",
    "warm_up_examples": "a dialogue without tools: frames at given seconds, or captions in their place, and one turn",
}
_TEXT = """\
# {title}

{warning}

Questions on clinical videos whose answers carry their evidence in time, and trajectories of a teacher that looked for
it with two tools (`crop_video`, `get_frame`). All times are seconds from the first frame of the video.

```python
from datasets import load_dataset

tasks = load_dataset("{folder}", "tasks", split="rl")
```

## What is in it

{contents}

The splits `warm_up`, `sft`, `rl` and `eval` share no patient or procedure (`group` of `recordings`). `eval` is the
benchmark: do not train on it. The videos are not in this folder: `video` names them.

## How it was made

Recordings are annotated intervals of videos. Every interval was captioned. Questions were made from intervals, with the
interval as evidence. A teacher answered those of `sft` in the tool environment; a trajectory was kept only if its
format, its answer and the window that it looked at were right.

## How much was kept

{funnel}

## Whose the videos are

{licences}

The licence of a collection holds for what was derived from it. Whoever uses a collection must have the right to.

## Limits

{warning} Questions and answers inherit the errors of the annotations. Labels and captions are as their sources state
them; look for names and numbers of persons in them before you give this folder away.
"""


def card(
    suite: Suite,
    counts: Mapping[str, Mapping[str, int]],
    licences: Mapping[str, str],
    rejected: Mapping[str, int] | None,
    title: str = "ClinVideoSuite",
) -> str:
    """README.md of the folder. Its first lines tell `datasets` which files belong to which record and split."""
    total = sum(counts.get("tasks", {}).values())
    head = {
        "pretty_name": title,
        "license": "other",
        "license_name": "by-collection",
        "task_categories": ["visual-question-answering", "video-text-to-text"],
        "tags": ["medical", "video", "temporal-grounding", "not-for-clinical-use"],
        "size_categories": [next((name for most, name in _SIZES if total < most), "n>1M")],
        "configs": [
            {
                "config_name": name,
                "data_files": [{"split": split, "path": f"data/{name}/{split}-*.parquet"} for split in splits],
                **({"default": True} if name == "tasks" else {}),
            }
            for name, splits in counts.items()
        ],
    }
    splits = [split for split in SPLITS if any(split in found for found in counts.values())]
    contents = [
        [f"`{name}`", _WHAT[name], *(str(found.get(split, 0)) for split in splits)] for name, found in counts.items()
    ]
    owners = [
        [name, str(sum(r.collection == name for r in suite.recordings)), suite.domain(name), licences[name]]
        for name in licences
    ]
    body = _TEXT.format(
        title=title,
        warning=WARNING,
        folder="PATH/OF/THIS/FOLDER",
        contents=_table(["name", "a row is", *splits], contents),
        funnel=_funnel(suite, rejected),
        licences=_table(["collection", "videos", "domain", "licence"], owners),
    )
    return f"---\n{yaml.safe_dump(head, sort_keys=False, allow_unicode=True)}---\n{body}"


def _funnel(suite: Suite, rejected: Mapping[str, int] | None) -> str:
    """Counts from videos to kept trajectories, and why trajectories were thrown away."""
    tasks = Counter("free text" if task.free_text else "closed" for task in suite.tasks)
    steps = [
        ["videos", len(suite.recordings)],
        ["annotated intervals", sum(len(recording.intervals) for recording in suite.recordings)],
        ["captions", len(suite.captions)],
        ["questions", len(suite.tasks)],
        ["of these closed", tasks["closed"]],
        ["of these challenging", sum(task.challenging and not task.free_text for task in suite.tasks)],
        ["of these with free text as answer", tasks["free text"]],
        ["kept trajectories", len(suite.trajectories)],
    ]
    table = _table(["step", "count"], [[name, str(count)] for name, count in steps])
    if rejected is None:
        return f"{table}\n\nHow many trajectories were rejected was not stated when this folder was made."
    reasons = [[reason, str(count)] for reason, count in sorted(rejected.items())]
    return f"{table}\n\nTrajectories were rejected for:\n\n{_table(['reason', 'trajectories'], reasons)}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table. Pipes, line breaks and markup in a cell stay plain text."""
    lines = [list(head), ["---"] * len(head), *([_plain(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _plain(cell: str) -> str:
    return " ".join(cell.split()).replace("|", "\\|").replace("<", "&lt;").replace("[", "\\[")
