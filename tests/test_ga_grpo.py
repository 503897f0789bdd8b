"""GA-GRPO's update: equal to the plain path and to stock TRL on the same recorded rollouts."""

import pytest
import torch
from datasets import Dataset
from trl import GRPOConfig, GRPOTrainer

from medscope.training import update
from medscope.environment.dialogue import call_text
from medscope.environment.environment import ClinicalVideoEnvironment
from medscope.training.ga_grpo import modulated_advantages
from medscope.agents.policy import tiny_policy
from medscope.agents.rollout import generate
from medscope.training.update import completion_logps, packed_mask, policy_loss

GROUP = 4


@pytest.fixture
def policy():
    """A policy of its own for every test: gradients are taken from it."""
    return tiny_policy(seed=0)


@pytest.fixture
def recordings(operation, clip):
    return [operation, clip]


@pytest.fixture
def rollouts(policy, recordings, store, tiny_budget):
    """Recorded rollouts: a forced call per rollout, so that frames and masked responses are in them."""
    torch.manual_seed(0)
    environments = [ClinicalVideoEnvironment(store, tiny_budget) for _ in range(GROUP * len(recordings))]
    for i, environment in enumerate(environments):
        environment.reset(path=recordings[i // GROUP].path)
    forced = [
        "<think>look</think>" + call_text("crop_video", {"start_time": 0.0, "end_time": 2.0 + i % GROUP})
        for i in range(len(environments))
    ]
    questions = ["When does the incision take place?"] * len(recordings)
    return generate(policy, environments, questions, GROUP, temperature=1.0, max_turn_tokens=12, forced_turns=forced)


@pytest.fixture
def advantages(rollouts):
    rewards = torch.arange(float(len(rollouts))) % 3
    none = torch.zeros(GROUP)
    return torch.cat([modulated_advantages(group, none, none, mode="none") for group in rewards.split(GROUP)])


def gradient(policy) -> torch.Tensor:
    return torch.cat([p.grad.flatten() for p in policy.model.parameters() if p.grad is not None])


def plain_logps(policy, rollout) -> torch.Tensor:
    """One whole forward for one rollout, nothing shared: log-probabilities of its completion."""
    ids = torch.tensor([rollout.prompt.ids + rollout.completion])
    logits = policy.model(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        mm_token_type_ids=(ids == policy.image_token).int(),
        **policy.pixels(rollout.prompt.images + rollout.images),
    ).logits[0, len(rollout.prompt.ids) - 1 : -1]
    return torch.log_softmax(logits, dim=-1).gather(-1, torch.tensor(rollout.completion)[:, None])[:, 0]


@pytest.mark.parametrize("checkpointed", [False, True], ids=["continued", "packed"])
def test_shared_prompt_gives_the_loss_and_gradient_of_the_plain_path(
    policy, rollouts, advantages, checkpointed, monkeypatch
):
    monkeypatch.delattr(update, "_continued" if checkpointed else "_packed")  # the way that must not be taken
    policy.model.train()
    if checkpointed:
        policy.model.activation_checkpointing_enable({"use_reentrant": False})
    logps, _, owner = completion_logps(policy, rollouts, GROUP)
    shared = policy_loss(logps, advantages[owner])
    shared.backward()
    shared_gradient = gradient(policy)
    policy.model.zero_grad()
    policy.model.activation_checkpointing_disable()

    assistant = [torch.tensor(r.assistant_mask, dtype=torch.float) for r in rollouts]
    total = torch.zeros(())
    for rollout, kept, advantage in zip(rollouts, assistant, advantages, strict=True):
        own = plain_logps(policy, rollout)
        total = total - (torch.exp(own - own.detach()) * advantage * kept).sum()
    plain = total / sum(kept.sum() for kept in assistant)
    plain.backward()

    assert shared.item() == pytest.approx(plain.item(), abs=1e-5)
    assert shared_gradient.norm().item() == pytest.approx(gradient(policy).norm().item(), rel=1e-5)
    torch.testing.assert_close(shared_gradient, gradient(policy), atol=1e-5, rtol=1e-3)


def test_in_a_packed_group_a_completion_sees_the_prompt_and_itself():
    assert packed_mask([2, 1, 2]).int().tolist() == [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [1, 1, 1, 0, 0],
        [1, 1, 0, 1, 0],
        [1, 1, 0, 1, 1],
    ]


def test_loss_and_gradient_equal_stock_trl_without_modulation(policy, rollouts, advantages, tmp_path):
    logps, _, owner = completion_logps(policy, rollouts, GROUP)
    ours = policy_loss(logps, advantages[owner])
    ours.backward()
    our_gradient = gradient(policy)
    policy.model.zero_grad()

    trainer = GRPOTrainer(
        model=policy.model,
        reward_funcs=lambda completions, **_: [0.0] * len(completions),
        args=GRPOConfig(
            str(tmp_path),
            beta=0.0,
            scale_rewards="none",
            loss_type="bnpo",
            report_to=[],
            per_device_train_batch_size=4,
            num_generations=4,
            bf16=False,
            use_cpu=True,
        ),
        train_dataset=Dataset.from_dict({"prompt": [[{"role": "user", "content": "?"}]]}),
        processing_class=policy.processor,
    )
    trainer.current_gradient_accumulation_steps = 1  # set by Trainer.train, which is not run here
    theirs = trainer._compute_loss(policy.model, trl_inputs(policy, rollouts, advantages))
    theirs.backward()
    assert ours.item() == pytest.approx(theirs.item(), abs=1e-5)
    torch.testing.assert_close(our_gradient, gradient(policy), atol=1e-5, rtol=1e-3)


def trl_inputs(policy, rollouts, advantages) -> dict:
    """The rollouts in the form in which stock TRL 1.16 hands them to its loss: prompts left, completions right."""
    width = max(len(r.prompt.ids) for r in rollouts)
    length = max(len(r.completion) for r in rollouts)
    pad = policy.tokenizer.pad_token_id
    prompts = torch.tensor([[pad] * (width - len(r.prompt.ids)) + r.prompt.ids for r in rollouts])
    completions = torch.tensor([r.completion + [pad] * (length - len(r.completion)) for r in rollouts])
    prompt_mask = torch.tensor([[0] * (width - len(r.prompt.ids)) + [1] * len(r.prompt.ids) for r in rollouts])
    completion_mask = torch.tensor([[1] * len(r.completion) + [0] * (length - len(r.completion)) for r in rollouts])
    tool_mask = torch.tensor([[int(m) for m in r.assistant_mask] + [0] * (length - len(r.completion)) for r in rollouts])
    images = [image for r in rollouts for image in r.prompt.images + r.images]
    ids = torch.cat([prompts, completions], dim=1)
    return {
        "prompt_ids": prompts,
        "prompt_mask": prompt_mask,
        "completion_ids": completions,
        "completion_mask": completion_mask,
        "tool_mask": tool_mask,
        "advantages": advantages,
        "mm_token_type_ids": (ids == policy.image_token).int(),
        "num_images": [len(r.prompt.images + r.images) for r in rollouts],
        "num_items_in_batch": tool_mask.sum(),
        **policy.pixels(images),
    }
