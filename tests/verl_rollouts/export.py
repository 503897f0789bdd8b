"""Export the tasks of rollouts.jsonl for verl: `python tests/verl_rollouts/export.py DIR`. Run by `make verl-test`."""

import json
import sys
from dataclasses import replace
from pathlib import Path

from pydantic import TypeAdapter

from medscope.environment import ToolBudget
from medscope.exports.verl.rows import export_verl
from medscope.files import write_jsonl
from medscope.pipeline.parameters import ROOT
from medscope.records import Recording, Task
from medscope.suite.suite import Suite


def main(out: Path) -> None:
    lines = (ROOT / "tests" / "verl_rollouts" / "rollouts.jsonl").read_text("utf-8").splitlines()
    tasks = [TypeAdapter(Task).validate_python(json.loads(line)["task"]) for line in lines]
    tasks = [replace(task, path=str(ROOT / task.path)) for task in tasks]
    recording = Recording(tasks[0].video, tasks[0].path, 105.0, (), tasks[0].collection, split="rl")
    write_jsonl(out / "suite" / "recordings.jsonl", [recording])
    budget = ToolBudget(**json.loads((ROOT / "models" / "tiny" / "budget.json").read_text("utf-8")))
    export_verl(Suite(out / "suite"), out, budget, tasks)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
