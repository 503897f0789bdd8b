"""Rollouts by vLLM against our own engine. What needs vLLM itself is skipped where it is not installed."""

import numpy as np
import pytest
import torch
from flat import LANGUAGE

from medscope.agents.encoding import encode_blocks, encode_prompt
from medscope.agents.lengths import longest_completion, longest_dialogue
from medscope.agents.policy import load_policy
from medscope.agents.rollout import generate
from medscope.agents.vllm_engine import make_engine, one_placeholder_each
from medscope.environment import ClinicalVideoEnvironment, FrameStore
from medscope.environment.environment import skim
from medscope.environment.prompts import opening
from medscope.rewards import RewardSettings
from medscope.suite.tasks import closed_tasks
from medscope.training import ga_grpo
from medscope.training.processes import on_processes
from medscope.training.update import completion_logps, importance

GROUP = 4


def test_every_frame_gets_one_placeholder_even_beside_another():
    assert one_placeholder_each([5, 9, 9, 9, 9, 9, 6, 9], [4, 1, 1], image_token=9) == [5, 9, 9, 6, 9]


def test_no_dialogue_is_longer_than_the_longest(policy, environment, tiny_budget):
    prompt = encode_prompt(policy, opening("When does it happen?", skim(environment)), tools=True)
    responses = [environment.crop_video(10 * i, 10 * i + 60) for i in range(tiny_budget.max_calls)]
    completion = sum(len(encode_blocks(policy, response).ids) for response in responses)
    completion += (tiny_budget.max_calls + 2) * tiny_budget.max_turn_tokens
    assert completion < longest_completion(tiny_budget)
    assert len(prompt.ids) + completion < longest_dialogue(tiny_budget)


def test_a_token_that_the_engine_made_rare_weighs_more_but_at_most_twice():
    logps = torch.log(torch.tensor([0.3, 0.3, 0.3])).requires_grad_()
    weights = importance(logps, torch.log(torch.tensor([0.3, 0.6, 0.01])))
    assert weights.tolist() == pytest.approx([1.0, 0.5, 2.0]) and not weights.requires_grad


def test_unknown_engines_and_policies_that_vllm_cannot_speak_for_are_refused(policy, tiny_budget):
    with pytest.raises(ValueError, match="engine 'tgi' is unknown; choose medscope or vllm"):
        make_engine("tgi", policy, tiny_budget, 8, 0.3, 0)
    with pytest.raises(ValueError, match="needs LoRA on unquantised weights"):
        make_engine("vllm", policy, tiny_budget, 8, 0.3, 0)


@pytest.fixture(scope="module")
def adapted(caller, tmp_path_factory):
    """A policy that calls tools: on disk as vLLM wants to find it, behind LoRA that does something."""
    pytest.importorskip("vllm")
    if torch.cuda.is_available():
        pytest.skip("vLLM's LoRA on a GPU is bfloat16 only, in which nothing is equal to 1e-3")
    from transformers import Qwen2VLVideoProcessor

    base = caller.save(tmp_path_factory.mktemp("base") / "tiny")
    Qwen2VLVideoProcessor().save_pretrained(base)  # every Qwen2.5-VL checkpoint has one
    policy = load_policy(base, lora_rank=8)
    policy.cache_features = True
    disturb(policy, seed=0)
    return policy


def disturb(policy, seed):
    torch.manual_seed(seed)
    for name, weights in policy.model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weights, std=0.01)


@pytest.fixture(scope="module")
def engine(adapted, tiny_budget):
    made = make_engine("vllm", adapted, tiny_budget, 16, 0.3, 0)
    yield made
    made.close()


def tasks_on(*recordings):
    return [closed_tasks(recording, LANGUAGE, np.random.default_rng(0))[0] for recording in recordings]


def rolled(engine, policy, tasks, store, budget, **how):
    environments = [ClinicalVideoEnvironment(store, budget) for _ in range(GROUP * len(tasks))]
    return engine(policy, tasks, environments, GROUP, max_turn_tokens=60, **how)


def test_vllm_says_what_our_own_engine_says_and_follows_the_adapter(
    engine, adapted, operation, clip, store, tiny_budget
):
    logps = []
    for seed in (0, 1):
        disturb(adapted, seed)
        ours = rolled(generate, adapted, tasks_on(operation, clip), store, tiny_budget)
        theirs = rolled(engine, adapted, tasks_on(operation, clip), store, tiny_budget)
        assert any(rollout.trace.calls for rollout in ours), "the test wants calls"
        for rollout, other in zip(ours, theirs, strict=True):
            assert other.completion == rollout.completion and other.assistant_mask == rollout.assistant_mask
            assert other.turns == rollout.turns and other.trace.calls == rollout.trace.calls
            np.testing.assert_allclose(other.logps, rollout.logps, atol=1e-3)
        logps.append(ours[0].logps)
    assert logps[0] != logps[1], "the test wants two adapters"


def test_what_vllm_samples_has_the_probability_that_the_policy_gives_it(
    engine, adapted, operation, clip, store, tiny_budget
):
    rollouts = rolled(engine, adapted, tasks_on(operation, clip), store, tiny_budget, temperature=0.7)
    assert len({tuple(rollout.completion) for rollout in rollouts}) > 2, "the test wants different rollouts"
    with torch.no_grad():
        logps, _, owner = completion_logps(adapted, rollouts, GROUP, 0.7, adapted.suppressed_tokens)
    for i, rollout in enumerate(rollouts):
        np.testing.assert_allclose(rollout.logps, logps[owner == i], atol=1e-3)
        spoken = {token for span in rollout.spans if span.assistant for token in span.ids}
        assert not spoken & set(adapted.suppressed_tokens)


def test_ga_grpo_trains_on_what_vllm_says(engine, adapted, operation, store, tiny_budget, tmp_path):
    """The first update has a learning rate of 0, so the third rollouts are the first by another adapter."""
    disturb(adapted, seed=3)
    log = ga_grpo.train(
        adapted, closed_tasks(operation, LANGUAGE, np.random.default_rng(0))[:6], store, tiny_budget, tmp_path,
        RewardSettings(), steps=3, questions_per_step=2, num_generations=GROUP, learning_rate=1e-1, engine=engine,
    )  # fmt: skip
    handed_over = engine.adapter.lora_int_id
    assert all(row["sampling_logp_diff"] < 1e-3 for row in log if "reward" in row)
    assert len({row["grad_norm"] for row in log if "reward" in row} - {0.0}) > 1, "the test wants updates"
    before = engine.written
    engine._hand_over(adapted)
    assert engine.adapter.lora_int_id == handed_over + 1 and engine.written != before, "the third update, too"
    engine._hand_over(adapted)
    assert engine.adapter.lora_int_id == handed_over + 1, "nothing has changed"


def trained_with_vllm(base, recording, budget, scratch):
    """The log of one GA-GRPO step on four of eight questions."""
    policy, tasks = load_policy(base, lora_rank=8), closed_tasks(recording, LANGUAGE, np.random.default_rng(0))[:8]
    engine = make_engine("vllm", policy, budget, 4 * GROUP, 0.3, 0)
    return ga_grpo.train(
        policy, tasks, FrameStore(), budget, scratch, RewardSettings(), steps=1, questions_per_step=4,
        num_generations=GROUP, learning_rate=1e-3, engine=engine,
    )  # fmt: skip


@pytest.mark.slow
def test_two_processes_share_a_batch_with_a_vllm_each(adapted, operation, tiny_budget, tmp_path):
    base = adapted.model.peft_config["default"].base_model_name_or_path
    first, _ = on_processes(2, trained_with_vllm, base, operation, tiny_budget, tmp_path)
    assert first["epoch"] == 0.5 and first["sampling_logp_diff"] < 1e-3
