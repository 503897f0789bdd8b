"""The pretrained profile on the CPU: a checkpoint gets LoRA, optionally on 4-bit weights, is saved and loads again."""

import pytest
import torch

from medscope.environment.dialogue import opening
from medscope.environment.environment import show
from medscope.agents.policy import load_policy, tiny_policy
from medscope.agents.rollout import TokenSpan, Rollout, encode_prompt
from medscope.training.update import completion_logps, policy_loss


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return tiny_policy(seed=0).save(tmp_path_factory.mktemp("base") / "checkpoint")


def rollout(policy, store, operation) -> Rollout:
    blocks = show(store, operation.path, [0.0, 8.0], 784)
    made = Rollout(None, encode_prompt(policy, opening("What follows the incision?", blocks), tools=True))
    made.pieces.append(TokenSpan([*policy.encode("<think>find staining</think>"), policy.turn_end], assistant=True))
    return made


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
        logps, _, owner = completion_logps(policy, [rollout(policy, store, operation)], group=1)
        before = before if before is not None else logps.sum().item()
        policy_loss(logps, torch.ones(1)[owner]).backward()
        optimiser.step()
        optimiser.zero_grad()
    policy.model.eval()  # as the policy that is loaded again: 4-bit layers have another kernel for training
    with torch.no_grad():
        after, _, _ = completion_logps(policy, [rollout(policy, store, operation)], group=1)
    assert after.sum().item() > before + 0.1, "a positive advantage must make the completion likelier"

    folder = policy.save(tmp_path / "lora")
    assert {file.suffix for file in folder.glob("adapter_model.*")} == {".safetensors"}
    again = load_policy(folder, load_in_4bit=load_in_4bit)
    with torch.no_grad():
        reloaded, _, _ = completion_logps(again, [rollout(again, store, operation)], group=1)
    torch.testing.assert_close(reloaded, after, atol=1e-4, rtol=1e-4)
