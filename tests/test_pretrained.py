"""The pretrained profile on the CPU: a checkpoint gets LoRA, optionally on 4-bit weights, is saved and loads again."""

import bitsandbytes
import numpy as np
import pytest
import torch
from flat import LANGUAGE

from medscope.agents.encoding import encode_prompt, encode_turn
from medscope.agents.policy import load_policy, tiny_policy
from medscope.agents.rollout import Rollout, generate
from medscope.environment import ClinicalVideoEnvironment
from medscope.environment.environment import show_frames
from medscope.environment.prompts import opening
from medscope.suite.tasks import closed_tasks
from medscope.training.update import completion_logps, policy_loss


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return tiny_policy(seed=0).save(tmp_path_factory.mktemp("base") / "checkpoint")


def rollout(policy, store, operation) -> Rollout:
    prompt = encode_prompt(policy, opening("What follows?", show_frames(store, operation.path, [0.0, 8.0], 784)), True)
    return Rollout(None, None, prompt, spans=[encode_turn(policy, "<think>find staining</think>")])


@pytest.mark.slow
@pytest.mark.parametrize(
    "load_in_4bit, checkpointed",
    [(False, False), (True, False), (True, True)],
    ids=["lora", "4 bit", "4 bit, gradient checkpointing"],
)
def test_lora_learns_is_saved_and_loads_again(checkpoint, store, operation, tmp_path, load_in_4bit, checkpointed):
    torch.manual_seed(0)
    policy = load_policy(checkpoint, lora_rank=4, load_in_4bit=load_in_4bit)
    policy.model.train()
    if checkpointed:
        policy.base.activation_checkpointing_enable({"use_reentrant": False})
    trained = {name for name, p in policy.model.named_parameters() if p.requires_grad}
    assert trained and all("lora_" in name and "visual" not in name for name in trained)
    optimiser = torch.optim.AdamW([p for p in policy.model.parameters() if p.requires_grad], lr=1e-2)
    before = None
    for _ in range(4):
        logps, _, owner = completion_logps(policy, [rollout(policy, store, operation)], num_generations=1)
        before = before if before is not None else logps.sum().item()
        policy_loss(logps, torch.ones(1)[owner], len(logps)).backward()
        optimiser.step()
        optimiser.zero_grad()
    policy.model.eval()  # as the policy that is loaded again: 4-bit layers have another kernel for training
    with torch.no_grad():
        after, _, _ = completion_logps(policy, [rollout(policy, store, operation)], num_generations=1)
    assert after.sum().item() > before + 0.1, "a positive advantage must make the completion likelier"

    folder = policy.save(tmp_path / "lora")
    assert {file.suffix for file in folder.glob("adapter_model.*")} == {".safetensors"}
    again = load_policy(folder, load_in_4bit=load_in_4bit)
    with torch.no_grad():
        reloaded, _, _ = completion_logps(again, [rollout(again, store, operation)], num_generations=1)
    torch.testing.assert_close(reloaded, after, atol=1e-4, rtol=1e-4)


def _as_on_a_gpu(policy) -> None:
    """On a CPU with AVX512-BF16, bitsandbytes packs 4-bit weights at their first use without gradients, for good.

    Packed weights pass no gradient back, so that training after sampling stops with an error; a GPU never packs them.
    """
    for layer in policy.model.modules():
        if isinstance(layer, bitsandbytes.nn.Linear4bit):
            layer.support_avx512bf16_for_cpu = False


@pytest.mark.slow
@pytest.mark.parametrize(
    "load_in_4bit, checkpointed",
    [(False, False), (True, False), (False, True), (True, True)],
    ids=["bfloat16", "4 bit, bfloat16", "bfloat16, packed", "4 bit, bfloat16, packed"],
)
def test_in_low_precision_sampling_and_update_agree(
    store, operation, tiny_budget, tmp_path, load_in_4bit, checkpointed
):
    """Sharpened weights, queries and keys three times as large, so that scores rounded to bfloat16 would show.

    Packed, with LoRA and in training mode, as presets do it.
    """
    sharp = tiny_policy()
    with torch.no_grad():
        for name, weights in sharp.base.model.language_model.named_parameters():
            if name.endswith(("q_proj.weight", "k_proj.weight")):
                weights.mul_(3)
    saved, rank = sharp.save(tmp_path / "sharp"), 4 if checkpointed else 0
    policy = load_policy(saved, lora_rank=rank, load_in_4bit=load_in_4bit, dtype="bfloat16")
    if checkpointed:
        _as_on_a_gpu(policy)
    task = closed_tasks(operation, LANGUAGE, np.random.default_rng(0))[0]
    environments = [ClinicalVideoEnvironment(store, tiny_budget) for _ in range(8)]
    torch.manual_seed(0)
    rollouts = generate(policy, [task], environments, 8, temperature=0.7, max_turn_tokens=32)
    policy.model.train(checkpointed)
    if checkpointed:
        policy.freeze_vision()
        policy.base.activation_checkpointing_enable({"use_reentrant": False})
    with torch.set_grad_enabled(checkpointed):
        logps, _, owner = completion_logps(policy, rollouts, 8, 0.7, policy.suppressed_tokens)
    sampled = torch.tensor([logp for i in owner.unique_consecutive().tolist() for logp in rollouts[i].logps])
    assert policy.base.is_activation_checkpointing == checkpointed
    assert (logps.detach().float() - sampled).abs().mean() <= (0.02 if load_in_4bit else 0.01)
