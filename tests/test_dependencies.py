"""dvc.yaml: every stage depends on all that decides its result, is given what its notebook declares, and can be run."""

import subprocess
import sys

import pytest
import yaml
from closure import PIPELINES, closure, covered, import_graph, listed

from medscope.pipeline.parameters import (
    ROOT,
    WORLD,
    notebook_of,
    read_parameters,
    stage_parameters,
)
from medscope.pipeline.provenance import stage_inputs
from medscope.pipeline.stage import parse, run_name

STAGES = {
    f"{pipeline.parent.name}/{name}": stage.get("do", stage)
    for pipeline in PIPELINES
    for name, stage in yaml.safe_load(pipeline.read_text())["stages"].items()
}
ITEMS = {  # one member of every matrix
    "${key}": {
        "evaluate": "sft",
        "sft_baseline": "text_cot",
        "grpo_baseline": "plain_grpo",
        "baseline_evaluation": "text_cot",
    },
    "${item.variant}": "no_evidence",
    "${item.seed}": "1",
    "${study_tables.ablation_study.steps}": "60",
}  # fmt: skip


@pytest.fixture(scope="module")
def graph():
    return import_graph()


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_depends_on_the_import_closure_of_its_notebook(name, graph):
    dependencies = STAGES[name]["deps"]
    notebook = next(ROOT / path for path in dependencies if path.startswith("notebooks/"))
    needed, given = closure(notebook, graph), listed(dependencies)
    missing = sorted(file for file in needed if not covered(file, given))
    assert not missing, f"{name} lacks {missing}; run `make deps`"
    idle = [path for path in given if not any(covered(file, [path]) for file in needed)]
    assert not idle, f"{name} lists {idle}, which it does not import; run `make deps`"


def test_an_edit_of_the_reward_trains_only_ga_grpo_again(graph):
    assert "medscope/rewards.py" in closure(notebook_of("ga_grpo"), graph)
    for stage in ("synthesize_data", "warm_up", "sft"):
        assert "medscope/rewards.py" not in closure(notebook_of(stage), graph)


def command(name: str) -> str:
    words = STAGES[name]["cmd"]
    for template, value in ITEMS.items():
        words = words.replace(template, value if isinstance(value, str) else value.get(name.split("/")[1], ""))
    assert "${" not in words
    return words.removeprefix("python -m medscope.pipeline.stage ")


@pytest.mark.parametrize("name", STAGES)
def test_a_command_is_understood_and_dvc_watches_all_that_it_is_given(name):
    _, arguments = parse(command(name).split())
    parameters = stage_parameters(arguments.stage, arguments.overrides, arguments.overlays)
    watched, sections = STAGES[name]["params"], read_parameters()
    assert parameters.stage in watched
    for overlay in arguments.overlays:
        plain = overlay.rpartition(".")[0] if "${" in "".join(watched) else overlay
        assert any(path == overlay or path.startswith(f"{plain}.") for path in watched), f"DVC must watch {overlay}"
    own = sections.get(parameters.stage) or {}
    shared = {f"{WORLD}.{key}" for key in sections[WORLD] if key in parameters and key not in own}
    assert {path for path in watched if path.startswith(f"{WORLD}.")} == shared


@pytest.mark.parametrize("name", STAGES)
def test_the_outputs_of_a_stage_lie_where_its_notebook_writes_them(name):
    _, arguments = parse(command(name).split())
    parameters = stage_parameters(arguments.stage, arguments.overrides, arguments.overlays)
    outs = [path for template in STAGES[name]["outs"] for path in [template]]
    for template, value in ITEMS.items():
        chosen = value if isinstance(value, str) else value.get(name.split("/")[1], "")
        outs = [path.replace(template, chosen) for path in outs]
    assert f"outputs/{run_name(parameters)}" in outs
    if "variant" in parameters:
        assert f"checkpoints/{parameters['variant']}" in outs
    if parameters.stage == "evaluate":
        assert f"predictions/{parameters['system']}.jsonl" in outs
        reads = [path for path in STAGES[name]["deps"] if path.startswith("checkpoints/")]
        assert len(reads) == bool(parameters["checkpoint"])


def test_dvc_reads_both_files_and_every_member_has_a_name():
    """All stages are parsed and resolved by DVC itself, so that a wrong template shows here and not after an hour."""
    words = [sys.executable, "-m", "dvc", "stage", "list", "--name-only", *map(str, PIPELINES)]
    found = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    names = set(found.stdout.split())
    assert {"evaluate@rl", "blind", "ablation@full-0", "ablation_evaluation@no_modulation-0", "report"} <= names
    assert {f"studies/dvc.yaml:{name}" for name in ("seeds", "baselines", "study_training@full-2")} <= names
    sections = read_parameters()
    trained = {*sections["sft_baselines"], *sections["grpo_baselines"]}
    assert trained == set(sections["baseline_evaluation"]) == set(sections["study_tables"]["baselines"]["names"])
    assert {system for system in sections["report"]["systems"] if system != "blind"} == set(sections["systems"])


def test_the_report_reads_every_system():
    read = set(STAGES[f"{ROOT.name}/report"]["deps"])
    for system in read_parameters()["report"]["systems"]:
        assert {f"predictions/{system}{end}" for end in (".jsonl", ".protocol.json")} <= read


@pytest.mark.parametrize("name", STAGES)
def test_the_inputs_of_a_run_are_found_by_its_parameters(name):
    """The launcher looks up what a run reads by its stage, a study by its name."""
    _, arguments = parse(command(name).split())
    parameters = stage_parameters(arguments.stage, arguments.overrides, arguments.overlays)
    found = stage_inputs(parameters)
    checkpoint = parameters.get("checkpoint") or {"sft": "warm_up", "ga_grpo": "sft"}.get(parameters.stage)
    if parameters.stage != "studies" and checkpoint and parameters.get("system") != "blind":
        assert f"checkpoints/{checkpoint}" in found
    if parameters.stage == "studies":
        assert f"predictions/{'study' if parameters['study'] == 'ablation_study' else parameters['study']}" in found
    assert not any("${" in path for path in found)
