"""GA-GRPO's update: equal to the plain path and to stock TRL; its dynamic sampling, log, and gap to sampling."""

import math

import pytest
import torch
from datasets import Dataset
from training_tasks import window_tasks
from transformers import TrainingArguments
from trl import GRPOConfig, GRPOTrainer

from medscope.agents.policy import Policy, tiny_policy
from medscope.agents.rollout import generate
from medscope.environment import ClinicalVideoEnvironment
from medscope.environment.grammar import call_text
from medscope.records import ToolCall
from medscope.rewards import Reward, RewardSettings
from medscope.training import update
from medscope.training.experience import Experience
from medscope.training.ga_grpo import RESAMPLINGS, GAGRPOTrainer, modulated_advantages
from medscope.training.update import completion_logps, policy_loss

GROUP = 4


@pytest.fixture
def policy():
    """A policy of its own for every test: gradients are taken from it."""
    return tiny_policy(seed=0)


@pytest.fixture
def rollouts(policy, operation, clip, store, tiny_budget):
    """Recorded rollouts: a forced call per rollout, so that frames and masked responses are in them."""
    torch.manual_seed(0)
    tasks = [window_tasks(recording.path, 1)[0] for recording in (operation, clip)]
    environments = [ClinicalVideoEnvironment(store, tiny_budget) for _ in range(GROUP * len(tasks))]
    forced = [
        ["<think>look</think>" + call_text("crop_video", {"start_time": 0.0, "end_time": 2.0 + i % GROUP})]
        for i in range(len(environments))
    ]
    return generate(policy, tasks, environments, GROUP, temperature=1.0, max_turn_tokens=12, forced_turns=forced)


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


@pytest.mark.parametrize(
    "checkpointed, activation_bytes, at_once",
    [(False, 1 << 30, [2 * GROUP]), (False, 1 << 19, range(2, 2 * GROUP)), (True, 1 << 30, [1])],
    ids=["continued", "continued in parts", "packed"],
)
def test_shared_prompt_gives_the_loss_and_gradient_of_the_plain_path(
    policy, rollouts, advantages, checkpointed, activation_bytes, at_once, monkeypatch
):
    monkeypatch.delattr(update, "_continued" if checkpointed else "_packed")  # the way that must not be taken
    policy.model.train()
    if checkpointed:
        policy.model.activation_checkpointing_enable({"use_reentrant": False})
    rows = []
    seen = policy.base.model.language_model.norm.register_forward_hook(lambda _, __, out: rows.append(len(out)))
    bounded = Policy(policy.model, policy.processor, activation_bytes=activation_bytes)
    logps, _, owner = completion_logps(bounded, rollouts, GROUP)
    seen.remove()
    assert max(rows) in at_once
    shared = policy_loss(logps, advantages[owner], len(logps))
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


def test_the_vision_tower_sees_every_frame_of_a_group_once(policy, rollouts):
    policy.forget_features()
    policy.model.train()
    policy.model.activation_checkpointing_enable({"use_reentrant": False})
    seen = []
    policy.base.model.visual.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(len(kwargs.get("grid_thw", args[-1]))), with_kwargs=True
    )
    group = rollouts[:GROUP]
    completion_logps(policy, group, GROUP)
    frames = {image.info["frame"] for rollout in group for image in rollout.prompt.images + rollout.images}
    assert sum(seen) == len(frames) < len(group) * len(group[0].prompt.images)


@pytest.fixture
def trainer(policy, operation, store, tiny_budget, tmp_path):
    """`trainer()`: one with the policy as it is now; its tasks are on the operation."""

    def made():
        arguments = TrainingArguments(str(tmp_path), per_device_train_batch_size=1, report_to=[], use_cpu=True)
        tasks = window_tasks(operation.path, 2)
        return GAGRPOTrainer(policy, arguments, tasks, store, tiny_budget, GROUP, 1.0, "none", RewardSettings())

    return made


def test_the_data_set_of_a_trainer_is_its_tasks(trainer, operation):
    tasks = [task for batch in trainer().get_train_dataloader() for task in batch["tasks"]]
    assert sorted(task.id for task in tasks) == ["video:0", "video:1"]
    assert all(task.path == operation.path for task in tasks)


@pytest.fixture
def dynamic(trainer, rollouts, monkeypatch):
    """`dynamic(totals)`: a trainer whose rollouts of a task earn what the list says next; the tasks that it sampled."""

    def made(*totals):
        made, sampled, coming = trainer(), [], iter(totals)
        made.dynamic_sampling = True

        def rolled_out(tasks):
            sampled.append([task.id for task in tasks])
            rewards = [Reward(0.0, 1.0, 0.0, 0.0, total) for _ in tasks for total in next(coming)]
            tasks = [task for task in tasks for _ in range(GROUP)]
            return Experience(tasks, rollouts[: len(tasks)], rewards, torch.tensor([r.total for r in rewards]), GROUP)

        monkeypatch.setattr(made, "rolled_out", rolled_out)
        return made, sampled

    return made


def test_dynamic_sampling_replaces_dead_groups_and_no_other(dynamic):
    alive, dead, other = [0.0, 1, 0, 0], [1.0] * GROUP, [2.0, 0, 0, 0]
    trainer, sampled = dynamic(alive, dead, dead, other)
    torch.manual_seed(3)
    experience = trainer.collect(list(trainer.train_dataset))
    assert [r.total for r in experience.rewards] == [*alive, *other]
    assert [len(some) for some in sampled] == [2, 1, 1] and trainer.recent["resampled"] == [1.0]
    again, drawn = dynamic(alive, dead, dead, other)
    torch.manual_seed(3)
    again.collect(list(again.train_dataset))
    assert drawn == sampled, "the random state decides the questions"


def test_dynamic_sampling_ends_and_is_off_by_default(dynamic):
    trainer, sampled = dynamic(*[[1.0] * GROUP] * 8)
    experience = trainer.collect(list(trainer.train_dataset))
    assert len(sampled) == 1 + RESAMPLINGS and experience.means()["dead_groups"] == 1
    trainer, sampled = dynamic(*[[1.0] * GROUP] * 2)
    trainer.dynamic_sampling = False
    trainer.collect(list(trainer.train_dataset))
    assert len(sampled) == 1 and trainer.recent["resampled"] == [0.0]


def test_the_log_of_a_step_tells_dead_groups_signs_calls_and_recovery(rollouts):
    refused = ToolCall("crop_video", {}, message="no number")
    for rollout in rollouts[4:]:
        rollout.trace.calls = []
    rollouts[5].trace.calls = [refused] * 2
    rollouts[6].trace.calls = [refused] * 7
    rewards = [
        Reward(0.0, float(n != 6), crop, 0.0, total)
        for n, (crop, total) in enumerate([(1.0, 2.0), (-1.0, 3.0), (1.0, 0.0), (-1.0, 0.0), *[(0.0, 1.0)] * 4])
    ]
    advantages = torch.tensor([1.0, 2.0, -1.0, -2.0, 0, 0, 0, 0])
    means = Experience([r.task for r in rollouts], rollouts, rewards, advantages, GROUP).means()
    assert means["dead_groups"] == 0.5 and means["sign_agreement"] == 0.5  # the first and the last of the four
    assert means["refused"] == 2 / 8 and means["recovered"] == 1 / 8
    assert [means[f"calls_{n}"] for n in range(6)] == [2 / 8, 4 / 8, 1 / 8, 0, 0, 1 / 8]


@pytest.mark.parametrize("dtype, weight", [(torch.float32, 1), (torch.bfloat16, 2)])
def test_the_gap_to_sampling_is_logged_always_and_corrected_in_low_precision(policy, trainer, rollouts, dtype, weight):
    policy.base.to(dtype)
    trainer = trainer()
    rewards, advantages = trainer.rewards(rollouts), torch.arange(float(len(rollouts)))
    experience = Experience([rollout.task for rollout in rollouts], rollouts, rewards, advantages, GROUP)
    with torch.no_grad():
        logps, _, owner = completion_logps(policy, rollouts, GROUP, 1.0, policy.suppressed_tokens)
    for gap in (0.0, math.log(4)):  # the sampler gave every token a quarter of the policy's probability
        sampled = (logps - gap).tolist()
        for number, rollout in enumerate(rollouts):
            rollout.logps = [logp for logp, i in zip(sampled, owner.tolist(), strict=True) if i == number]
        loss = trainer.update_loss(experience, len(logps)).item()
        assert trainer.recent["sampling_logp_diff"][-1] == pytest.approx(gap, abs=1e-3)
        assert trainer.recent["sampling_logp_diff_max"][-1] == pytest.approx(gap, abs=1e-3)
        expected = -advantages[owner].mean().item() * (weight if gap else 1)
        assert loss == pytest.approx(expected, rel=1e-3)  # min(4, 2) where the weights are in 16 bits


def test_loss_and_gradient_equal_stock_trl_without_modulation(policy, rollouts, advantages, tmp_path):
    logps, _, owner = completion_logps(policy, rollouts, GROUP)
    ours = policy_loss(logps, advantages[owner], len(logps))
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
    tool_mask = torch.tensor(
        [[int(m) for m in r.assistant_mask] + [0] * (length - len(r.completion)) for r in rollouts]
    )
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
