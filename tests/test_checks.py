"""Parameters that a stage would ignore or cannot use are refused before it starts."""

from typing import get_args

import pytest

from medscope.agents.vllm_engine import make_engine
from medscope.environment.decoders import DECODERS
from medscope.evaluation.judge import make_judge
from medscope.pipeline.checks import CHOICES, LEAST, MOST, problems
from medscope.pipeline.parameters import NOTEBOOKS, StageError, declared_parameters, notebook_of, stage_parameters
from medscope.rewards import Form
from medscope.suite.retelling import TELLINGS
from medscope.training.ga_grpo import Modulation


def test_the_choices_are_those_of_the_code():
    assert set(CHOICES["decoder"]) == set(DECODERS)
    assert CHOICES["modulation"] == get_args(Modulation) and CHOICES["reward_form"] == get_args(Form)
    assert CHOICES["trajectories"] == tuple(TELLINGS)
    with pytest.raises(ValueError, match=f"choose {' or '.join(CHOICES['engine'])}"):
        make_engine("guess", None, None, 1, 0.5, 0)
    with pytest.raises(RuntimeError, match=f"choose {' or '.join(CHOICES['judge'])}"):
        make_judge("guess")


def test_every_check_is_of_a_parameter_that_some_notebook_has():
    declared = {name for stage in NOTEBOOKS for name in declared_parameters(notebook_of(stage))}
    assert {*CHOICES, *LEAST, *MOST} <= declared


@pytest.mark.parametrize("stage", NOTEBOOKS)
def test_the_notebooks_own_values_are_good(stage):
    assert problems(stage, declared_parameters(notebook_of(stage))) == []


BLIND = ["checkpoint=''", "audit_tasks=0", "free_text_tasks=0"]


@pytest.mark.parametrize(
    "stage, words, said",
    [
        ("warm_up", ["lora_rank=8"], "the tiny model is trained whole"),
        ("warm_up", ["dtype=bfloat16"], "the tiny model is trained whole"),
        ("warm_up", ["load_in_4bit=true"], "the tiny model is trained whole"),
        ("warm_up", ["caption_steps=0"], "caption_steps is 0; it is at least 1"),
        ("sft", ["trajectories=guess"], "choose one of tools, text_cot, answer_only, random_window"),
        ("ga_grpo", ["modulation=foo"], "modulation is 'foo'; choose one of none, binary, continuous"),
        ("ga_grpo", ["reward_form=foo"], "choose one of paper, paper_text, monotone"),
        ("ga_grpo", ["temperature=-1"], "temperature is -1.0; it is at least 0"),
        ("ga_grpo", ["temperature=0"], "all rollouts of a group would be alike"),
        ("evaluate", ["model=endpoint"], "checkpoint and model are both given"),
        ("evaluate", ["endpoint={calls: tags}"], "endpoint has settings, but model names none"),
        ("evaluate", ["model=endpoint", "oracle=true", *BLIND], "not those of an endpoint"),
        ("evaluate", ["model=endpoint", "processes=2", *BLIND], "an endpoint is asked by one process"),
        ("evaluate", ["temperature=1", "processes=2", *BLIND[1:]], "sampled answers are drawn in one process"),
        ("evaluate", ["in_flight=0"], "in_flight is 0; it is at least 1"),
        ("evaluate", ["oracle=true", "tools=false", *BLIND[1:]], "which are not executed"),
        ("evaluate", ["oracle=true", "audit_tasks=4", "free_text_tasks=0"], "audit and free text are greedy"),
        ("evaluate", ["temperature=1", "audit_tasks=0", "free_text_tasks=4"], "audit and free text are greedy"),
        *(
            ("evaluate", [*BLIND, word], "the blind baseline")
            for word in ("oracle=true", "tools=false", "audit_tasks=3")
        ),
    ],
)
def test_what_a_stage_cannot_use_is_refused_with_the_reason(stage, words, said):
    own = {"evaluate": ["system=try"] if "checkpoint=''" in words else ["system=try", "checkpoint=sft"]}
    with pytest.raises(StageError) as error:
        stage_parameters(stage, [*own.get(stage, []), *words])
    assert said in str(error.value)


@pytest.mark.parametrize("words", [BLIND, ["checkpoint=sft", "temperature=1"], ["checkpoint=sft", "oracle=true"]])
def test_good_systems_are_let_through(words):
    assert stage_parameters("evaluate", ["system=try", *words])["system"] == "try"
