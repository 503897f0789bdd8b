"""dvc.yaml: every stage depends on all that decides its result, is given what its notebook declares, and can be run."""

import subprocess
import sys

import pytest
import yaml
from closure import PIPELINES, closure, covered, import_graph, listed
from dvc.repo import Repo

from medscope.evaluation.studies.study import run_names
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
    "${key}": {"evaluate": "sft"},
    "${item.variant}": {
        "rho_rl": "evidence",
        "rho_evaluation": "evidence",
        "two_by_two_rl": "neither",
        "two_by_two_evaluation": "neither",
        "baselines_sft": "best_of_8",
        "baselines_rl": "plain_grpo",
        "baselines_evaluation": "text_cot",
        "figure5_rl": "monotone",
        "figure5_evaluation": "monotone",
        "": "no_evidence",
    },
    "${item.seed}": "1",
    "${item.checkpoint}": "sft",
    "${item.world}": "rho_80",
    "${item.policy}": "sft",
}  # fmt: skip


def filled(text: str, stage: str) -> str:
    """A template of this stage with the member of `ITEMS` in it."""
    for template, value in ITEMS.items():
        chosen = value if isinstance(value, str) else value.get(stage, value.get("", ""))
        text = text.replace(template, chosen)
    return text


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
    words = filled(STAGES[name]["cmd"], name.split("/")[1])
    assert "${" not in words
    return words.removeprefix("python -m medscope.pipeline.stage ")


@pytest.mark.parametrize("name", STAGES)
def test_a_command_is_understood_and_dvc_watches_all_that_it_is_given(name):
    _, arguments = parse(command(name).split())
    parameters = stage_parameters(arguments.stage, arguments.overrides, arguments.overlays)
    watched, sections = STAGES[name]["params"], read_parameters()
    assert parameters.stage in watched
    for overlay in arguments.overlays:
        assert overlay in [filled(path, name.split("/")[1]) for path in watched], f"DVC must watch {overlay}"
    own = sections.get(parameters.stage) or {}
    shared = {f"{WORLD}.{key}" for key in sections[WORLD] if key in parameters and key not in own}
    assert {path for path in watched if path.startswith(f"{WORLD}.")} == shared


@pytest.mark.parametrize("name", STAGES)
def test_the_outputs_of_a_stage_lie_where_its_notebook_writes_them(name):
    _, arguments = parse(command(name).split())
    parameters = stage_parameters(arguments.stage, arguments.overrides, arguments.overlays)
    kept = [path if isinstance(path, dict) else {path: {}} for path in STAGES[name]["outs"]]
    outs = {filled(path, name.split("/")[1]): how for one in kept for path, how in one.items()}
    place = "" if parameters["folder"] == "." else f"{parameters['folder']}/"
    assert f"{place}outputs/{run_name(parameters)}" in outs
    if "variant" in parameters:
        assert f"{place}checkpoints/{parameters['variant']}" in outs
    read = {filled(path, name.split("/")[1]) for path in STAGES[name]["deps"]}
    if parameters.stage == "evaluate":
        assert f"{place}predictions/{parameters['system']}.jsonl" in outs
        assert outs[f"{place}metrics/scores/{parameters['system']}.csv"] == {"cache": False}, "git keeps it"
    start = parameters.get("checkpoint") or parameters.get("start")
    if start:
        world, _, name = start.rpartition(":")
        near = f"{world}/checkpoints/{name}" if world else f"{place}checkpoints/{name}"
        assert near in read or f"checkpoints/{start}" in read, "the pipeline's, if not its own"


@pytest.mark.slow
def test_dvc_reads_both_files_and_every_member_has_a_name():
    """All stages are parsed and resolved by DVC itself, so that a wrong template shows here and not after an hour."""
    words = [sys.executable, "-m", "dvc", "stage", "list", "--name-only", *map(str, PIPELINES)]
    found = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    names = set(found.stdout.split())
    assert {"evaluate@rl", "blind", "ablation@full-0", "ablation_evaluation@no_modulation-0", "report"} <= names
    some = ("seeds", "avg_at_8", "two_by_two_rl@both-7", "rho_rl@rho_80-evidence-1", "worlds@no_slack")
    assert {f"studies/dvc.yaml:{name}" for name in some} <= names
    sections = read_parameters()
    assert {system for system in sections["report"]["systems"] if system != "blind"} == set(sections["systems"])


@pytest.mark.slow
def test_no_output_lies_within_another():
    """DVC refuses to run any stage then, also those of the other file."""
    with Repo(ROOT) as repo:
        repo.index.check_graph()


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
    if parameters.stage == "studies":
        assert any(path.endswith(f"metrics/scores/studies/{parameters['study']}") for path in found)
    assert not any("${" in path for path in found)


@pytest.mark.parametrize("study", [name for name in read_parameters()["study"] if name != "worlds"])
def test_a_study_reads_what_its_stages_make_and_its_contrasts_add_up_to_nothing(study):
    """Every prediction that an arm names is an output of an evaluation; every arm of a contrast exists."""
    section = read_parameters()["study"][study]
    table = stage_parameters("studies", [], [f"study.{study}.table"])
    assert table["study"] == study
    arms = {arm: run_names(names, table["seeds"]) for arm, names in table["arms"].items()}
    for label, weights in table["contrasts"].items():
        assert set(weights) <= set(arms) and abs(sum(weights.values())) < 1e-9, label
    worlds = [f"{world}_" for world in section.get("worlds", ())] or [""]
    trained = [
        f"{world}{variant}_{seed}"
        for world in worlds
        for variant in section.get("variants", ())
        for seed in table["seeds"]
    ]
    named = {name.rpartition("/")[2] for names in arms.values() for name in names if f"studies/{study}/" in name}
    assert set(trained) <= named, "a training that no arm reads"
    for words in ("two_by_two", "figure5"):
        if study == words:
            assert set(trained) == named, "an arm that nothing trains"
