"""The benchmark of a suite as tasks of lmms-eval: a folder for `--include_path` with two tasks and their data."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from string import Template

from pydantic import TypeAdapter

from medscope.evaluation.judge import text_of
from medscope.exports.lmms_eval.scores import metrics_of
from medscope.files import write_jsonl
from medscope.records import Task, Window
from medscope.suite.suite import Suite

NAMES = ("medscope_grounding", "medscope_vqa")
ANSWER = " Answer between <answer> and </answer>."
TASK = Template("""# Written by `python -m medscope.exports lmms_eval`; the functions are those of medscope.
task: $name
dataset_path: json
dataset_kwargs:
  data_files:
    test: $data
test_split: test
output_type: generate_until
generation_kwargs:
  max_new_tokens: 1024
  temperature: 0
doc_to_visual: !function medscope.exports.lmms_eval.scores.video
doc_to_text: !function medscope.exports.lmms_eval.scores.question
doc_to_target: target
process_results: !function medscope.exports.lmms_eval.scores.scores
lmms_eval_specific_kwargs:
  default: {pre_prompt: "", post_prompt: "$answer"}
  medscope: {pre_prompt: "", post_prompt: ""}
metric_list:
$metrics
metadata:
  version: 1
""")
METRIC = """  - metric: {name}
    aggregation: !function medscope.exports.lmms_eval.scores.mean
    higher_is_better: {higher}
"""


def export_lmms_eval(suite: Suite, folder: Path) -> dict[str, int]:
    """Write both tasks; returns how many documents each has. Paths of videos are absolute. ValueError without any."""
    tasks = [task for some in suite.eval_sets().values() for task in some]
    parts = dict(zip(NAMES, ([], []), strict=True))
    for task in tasks:
        parts[NAMES[not isinstance(task.reference, Window)]].append(task)
    if not tasks:
        raise ValueError(f"{suite.folder} has no challenging task of split eval")
    for name, some in parts.items():
        if some:
            _write(folder, name, some)
    return {name: len(some) for name, some in parts.items()}


def _write(folder: Path, name: str, tasks: Sequence[Task]) -> None:
    metrics = "".join(METRIC.format(name=metric, higher="true") for metric in metrics_of(tasks[0]))
    metrics += METRIC.format(name="quarantined", higher="false")
    data = folder.resolve() / f"{name}.jsonl"
    write_jsonl(data, (_row(task) for task in tasks))
    said = TASK.substitute(name=name, data=data, answer=ANSWER, metrics=metrics.rstrip())
    (folder / f"{name}.yaml").write_text(said)


def _row(task: Task) -> dict[str, str]:
    record = TypeAdapter(Task).dump_json(replace(task, path=str(Path(task.path).resolve())))
    return {"task": record.decode(), "target": text_of(task.reference)}
