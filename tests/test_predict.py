"""One loop that lets a policy answer: what it records, how it batches, and what it leaves behind."""

from dataclasses import replace

import numpy as np
import pytest
from flat import LANGUAGE
from predicted import task

from medscope.agents.rollout import generate
from medscope.environment import ClinicalVideoEnvironment, ToolBudget
from medscope.environment.grammar import call_text
from medscope.evaluation.endpoint import JudgeError
from medscope.evaluation.predict import batches, confidence, predict, prompt_tokens
from medscope.records import Window
from medscope.suite.tasks import closed_tasks


@pytest.fixture(scope="session")
def tiny_budget(tiny_budget):
    """Turns that do not end by themselves are cut early."""
    return replace(tiny_budget, max_turn_tokens=64)


@pytest.fixture
def tasks(operation, clip):
    """Two tasks on the operation and one on the clip."""
    asked = [task(n, "yes", Window(1, 3), collection="x") for n in range(3)]
    return [replace(a, video=r.video, path=r.path) for a, r in zip(asked, (operation, operation, clip), strict=True)]


def test_a_prediction_is_what_the_rollout_did(caller, tasks, store, tiny_budget):
    found = predict(caller, tasks, store, tiny_budget, "sft")
    environments = [ClinicalVideoEnvironment(store, tiny_budget) for _ in tasks]
    for prediction, asked, rollout in zip(found, tasks, generate(caller, tasks, environments), strict=True):
        assert prediction.task == asked and prediction.system == "sft"
        assert prediction.turns == tuple(rollout.turns) and prediction.calls == tuple(rollout.trace.calls)
        assert prediction.tokens == sum(rollout.assistant_mask) and prediction.tool_frames == len(rollout.images)
        assert 0 <= prediction.confidence <= 1
    assert any(prediction.looks for prediction in found)


def test_an_oracle_writes_the_first_turns(caller, tasks, store, tiny_budget):
    turns = [[f"<think>{n}</think>" + call_text("crop_video", {"start_time": n, "end_time": n + 2})] for n in range(3)]
    found = predict(caller, tasks, store, tiny_budget, "oracle", oracle_turns=turns)
    assert [[p.turns[0]] for p in found] == turns
    assert [p.calls[0].looked for p in found] == [Window(0, 2), Window(1, 3), Window(2, 4)]


def test_a_system_without_tools_calls_none(caller, tasks, store, tiny_budget):
    assert all(len(p.turns) == 1 and not p.calls for p in predict(caller, tasks, store, tiny_budget, "x", tools=False))


def test_the_policy_is_left_as_it_was_found_even_after_an_outage(caller, tasks, store, tiny_budget):
    def down(_):
        raise JudgeError("down")

    for cached in (False, True):
        caller.cache_features = cached
        with pytest.raises(JudgeError):
            predict(caller, tasks[:1], store, tiny_budget, "sft", judge=down)
        assert caller.cache_features is cached
    caller.cache_features = False


def test_batches_keep_the_order_and_hold_at_most_64_tasks(tasks, store, tiny_budget):
    many = [replace(tasks[n % 3], id=str(n)) for n in range(130)]
    found = list(batches(many, store, tiny_budget))
    assert [len(batch) for batch in found] == [64, 64, 2]  # the tiny profile fills its batches
    assert [number for batch in found for number in batch] == list(range(130))


def test_long_prompts_make_small_batches(tasks, store):
    paper = ToolBudget()
    per_frame = paper.skim_pixels // 28**2 + 10
    assert prompt_tokens(3600, paper) == 512 * per_frame + 600
    assert prompt_tokens(8, paper) == 8 * per_frame + 600
    long, short = tasks[0], tasks[2]  # 145 frames and 8: 11 330 and 1 192 tokens
    found = list(batches([short, short, *[long] * 6], store, paper))
    assert [len(batch) for batch in found] == [5, 3], "padded to the longest prompt: 5 x 11 330 <= 65 536 < 6 x 11 330"


@pytest.fixture
def rollout(caller, clip, store, tiny_budget):
    """Its last turn is written here, with log-probabilities: whether so small a policy answers depends on rounding."""
    taught = closed_tasks(clip, LANGUAGE, np.random.default_rng(0))[:1]
    played = generate(caller, taught, [ClinicalVideoEnvironment(store, tiny_budget)])[0]
    ids = caller.tokenizer("<think>seen</think><answer>yes</answer>", add_special_tokens=False).input_ids
    played.spans[-1].ids = ids
    played.logps = [-5.0, *(-0.01 * n for n in range(len(ids)))]  # -5: of an earlier turn
    return played


def test_the_confidence_is_that_of_the_tokens_behind_the_tag(caller, rollout):
    ids = rollout.spans[-1].ids
    texts = [caller.tokenizer.decode(ids[: n + 1]) for n in range(len(ids))]
    first = next(n for n, text in enumerate(texts) if "<answer>" in text)
    expected = np.exp(sum(-0.01 * n for n in range(first + 1, len(ids))))
    assert confidence(caller, rollout) == pytest.approx(expected) and 0 < expected < 1
    rollout.spans[-1].ids = ids[:first]
    assert confidence(caller, rollout) == 0


def test_the_confidence_of_a_long_turn_is_cheap(caller, rollout, monkeypatch):
    decoded = []
    decode = caller.tokenizer.decode
    monkeypatch.setattr(caller.tokenizer, "decode", lambda ids: decoded.append(len(ids)) or decode(ids))
    rollout.spans[-1].ids = rollout.spans[-1].ids[:1] * 1024
    confidence(caller, rollout)
    assert 0 < len(decoded) <= 11, "one decode per halving, not one per token"
