"""Stage III, GA-GRPO: for every question a group of rollouts, rewarded by what they looked at, one on-policy update.

    A_k = R_k - mean_j R_j            (no division by the standard deviation, no KL, no reference model)
    A_k is modulated by the evidence fidelity f_k of rollouts that used a tool
    loss = - sum_k sum_t (ratio_t x A_k) / number of the model's own tokens

On `transformers.Trainer` for optimiser, checkpoints, resume and logging. Simplified: one update per batch of rollouts,
so the ratio is 1 in value and its gradient is that of log pi. The vision tower is frozen, its features are cached.
Another engine than our own samples from slightly other probabilities: every token's loss is then weighted by
min(pi / pi of the engine, 2) (truncated importance sampling).
"""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from datasets import Dataset
from transformers import TrainingArguments, set_seed

from medscope.environment.dialogue import parse_answer
from medscope.environment.environment import ClinicalVideoEnvironment
from medscope.evaluation.judge import Judge, exact
from medscope.metrics import evidence_window, temporal_iou
from medscope.agents.policy import Policy
from medscope.training.processes import process_count, share
from medscope.training.progress import show_as_text
from medscope.records import Task, Recording
from medscope.training.resume import Resumable
from medscope.rewards import Reward, RewardSettings, reward
from medscope.agents.rollout import Rollout, generate
from medscope.pipeline.stage import report_to
from medscope.environment.tools import ToolBudget
from medscope.training.update import completion_logps, importance, policy_loss
from medscope.environment.video import FrameStore
from medscope.agents.vllm_engine import Engine

Modulation = Literal["none", "binary", "continuous"]


def modulated_advantages(
    rewards: torch.Tensor, fidelity: torch.Tensor, used_tool: torch.Tensor, mode: Modulation = "binary"
) -> torch.Tensor:
    """Advantages of one group: mean-centred rewards [G], scaled by the evidence fidelity [G] where a tool was used [G].

    `binary`: good evidence (f > 0) scales A >= 0 by 1.2 and A < 0 by .8, bad evidence the other way round.
    `continuous`: s = clip(f, -1, 1) scales A >= 0 by max(.1, 1 + .2 s) and A < 0 by max(.1, 1 - .2 s).
    """
    advantages = rewards - rewards.mean()
    if mode == "none":
        return advantages
    if mode == "binary":
        strength = torch.where(fidelity > 0, 1.0, -1.0)
    elif mode == "continuous":
        strength = fidelity.clamp(-1, 1)
    else:
        raise ValueError(f"modulation {mode!r} is unknown; choose none, binary or continuous")
    sign = torch.where(advantages >= 0, 1.0, -1.0)
    scale = (1 + 0.2 * sign * strength).clamp(min=0.1)
    return torch.where(used_tool.bool(), advantages * scale, advantages)


class GAGRPOTrainer(Resumable):
    """A `transformers.Trainer` whose batch is a handful of questions and whose loss makes the rollouts itself."""

    def __init__(
        self,
        policy: Policy,
        arguments: TrainingArguments,
        questions: Sequence[Task],
        recordings: dict[str, Recording],
        store: FrameStore,
        budget: ToolBudget,
        group: int,
        temperature: float,
        modulation: Modulation,
        settings: RewardSettings,
        judge: Judge = exact,
        engine: Engine = generate,
    ):
        self.policy, self.questions, self.recordings, self.judge = policy, questions, recordings, judge
        self.engine = engine
        self.group, self.temperature, self.modulation, self.settings = group, temperature, modulation, settings
        most = arguments.per_device_train_batch_size * group
        self.environments = [ClinicalVideoEnvironment(store, budget) for _ in range(most)]
        self.recent: dict[str, list[float]] = defaultdict(list)
        super().__init__(
            model=policy.model,
            args=arguments,
            train_dataset=Dataset.from_dict({"number": list(range(len(questions)))}),
            data_collator=lambda rows: {"questions": [questions[row["number"]] for row in rows]},
            processing_class=policy.processor,
        )
        self.model_accepts_loss_kwargs = False

    def sample(self, questions: list[Task]) -> list[Rollout]:
        """A group of rollouts for every question, at the training temperature."""
        environments = self.environments[: len(questions) * self.group]
        for i, environment in enumerate(environments):
            environment.reset(path=self.recordings[questions[i // self.group].video].path)
        texts = [question.text for question in questions]
        return self.engine(self.policy, environments, texts, self.group, temperature=self.temperature)

    def rewards(self, questions: list[Task], rollouts: list[Rollout]) -> list[Reward]:
        """The reward of every rollout from its turns, the judge and its environment's record."""
        asked = [questions[i // self.group] for i in range(len(rollouts))]
        answers = [parse_answer(rollout.turns[-1]) for rollout in rollouts]
        verdicts = self.judge([(q.text, answer, q.answer) for q, answer in zip(asked, answers, strict=True)])
        return [
            reward(r.turns, verdict, r.environment._window, r.environment._moment, q.evidence, self.settings)
            for q, r, verdict in zip(asked, rollouts, verdicts, strict=True)
        ]

    def compute_loss(self, model: torch.nn.Module, inputs: dict[str, Any], **_: Any) -> torch.Tensor:
        """Roll out, reward, modulate, and the loss of the one on-policy update."""
        questions = inputs["questions"]
        rollouts = self.sample(questions)
        rewards = self.rewards(questions, rollouts)
        totals = torch.tensor([r.total for r in rewards]).split(self.group)
        fidelity = torch.tensor([r.evidence for r in rewards]).split(self.group)
        used = torch.tensor([any(c.executed for c in r.environment._calls) for r in rollouts]).split(self.group)
        groups = zip(totals, fidelity, used, strict=True)
        advantages = torch.cat([modulated_advantages(*group, mode=self.modulation) for group in groups])
        logps, entropy, owner = completion_logps(
            self.policy, rollouts, self.group, self.temperature, self.policy.suppressed_tokens
        )
        self._remember(questions, rollouts, rewards, advantages, float(entropy.mean()))
        weighted = advantages.to(logps.device)[owner]
        if self.engine is not generate:
            weighted = weighted * self._importance(logps, rollouts, owner)
        loss = policy_loss(logps, weighted)
        if process_count() > 1:  # the mean over the tokens of all processes, whose gradients are averaged
            mine = torch.tensor(float(len(logps)), device=logps.device)
            loss = loss * mine / self.accelerator.reduce(mine, "mean")
        return loss

    def _importance(self, logps: torch.Tensor, rollouts: list[Rollout], owner: torch.Tensor) -> torch.Tensor:
        """The weight of every token [tokens] that the engine sampled; keeps how far the two are apart for the log."""
        sampled = torch.tensor([logp for i in owner.unique_consecutive().tolist() for logp in rollouts[i].logps])
        sampled = sampled.to(logps)
        self.recent["sampling_logp_diff"].append(float((logps.detach() - sampled).abs().mean()))
        return importance(logps, sampled)

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Average the gradients of the processes: the loss calls the model's parts, which DDP does not notice."""
        loss = super().training_step(*args, **kwargs)
        if process_count() > 1 and self.accelerator.sync_gradients:
            for parameter in self.model.parameters():
                if parameter.grad is not None:
                    parameter.grad = self.accelerator.reduce(parameter.grad, "mean")
        return loss

    def _remember(
        self,
        questions: list[Task],
        rollouts: list[Rollout],
        rewards: list[Reward],
        advantages: torch.Tensor,
        entropy: float,
    ) -> None:
        """Keep the step's means for the next `log`."""
        calls = [call for rollout in rollouts for call in rollout.environment._calls]
        ious = [
            temporal_iou(r.environment._window, evidence_window(questions[i // self.group].evidence))
            if r.environment._window
            else 0.0
            for i, r in enumerate(rollouts)
        ]
        step = {
            "reward": [r.total for r in rewards],
            "reward_accuracy": [r.accuracy for r in rewards],
            "reward_format": [r.format for r in rewards],
            "reward_crop": [r.crop for r in rewards],
            "reward_frame": [r.frame for r in rewards],
            "iou": ious,
            "tool_call_rate": [float(bool(r.environment._calls)) for r in rollouts],
            "tool_calls": [float(len(r.environment._calls)) for r in rollouts],
            "tool_failure_rate": [float(not call.executed) for call in calls] or [0.0],
            "completion_tokens": [float(sum(r.assistant_mask)) for r in rollouts],
            "advantage_size": advantages.abs().tolist(),
            "entropy": [entropy],
        }
        for name, values in step.items():
            self.recent[name].append(float(np.mean(values)))

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Add the means since the last log (of all processes), so that every reward term has its curve."""
        means = {name: float(np.mean(values)) for name, values in self.recent.items()}
        if process_count() > 1 and means:
            together = torch.tensor(list(means.values()), device=self.args.device)
            means = dict(zip(means, self.accelerator.reduce(together, "mean").tolist(), strict=True))
        self.recent.clear()
        super().log({**logs, **means}, *args, **kwargs)


def train(
    policy: Policy,
    questions: Sequence[Task],
    recordings: dict[str, Recording],
    store: FrameStore,
    budget: ToolBudget,
    scratch: str | Path,
    settings: RewardSettings,
    steps: int,
    questions_per_step: int,
    group: int,
    learning_rate: float,
    modulation: Modulation = "binary",
    temperature: float = 1.0,
    gradient_accumulation: int = 1,
    save_steps: int = 100,
    seed: int = 0,
    bf16: bool = False,
    gradient_checkpointing: bool = False,
    judge: Judge = exact,
    engine: Engine = generate,
) -> list[dict[str, float]]:
    """Train in place, resuming from `scratch` after a kill; returns the log of every step.

    `questions_per_step` is that of all processes together.
    """
    for parameter in policy.base.model.visual.parameters():
        parameter.requires_grad_(False)
    policy.cache_features = True
    arguments = TrainingArguments(
        output_dir=str(scratch),
        max_steps=steps,
        per_device_train_batch_size=share("questions_per_step", questions_per_step),
        gradient_accumulation_steps=gradient_accumulation,
        learning_rate=learning_rate,
        lr_scheduler_type="linear",  # to 0: late updates average the noise of the rollouts out
        warmup_steps=10,  # Adam's first steps are all of full size
        adam_beta2=0.95,
        weight_decay=0.0,
        max_grad_norm=1.0,
        bf16=bf16,
        activation_checkpointing=gradient_checkpointing,
        activation_checkpointing_kwargs={"use_reentrant": False},
        use_cpu=not torch.cuda.is_available(),
        logging_steps=1,
        save_steps=save_steps,
        save_total_limit=1,
        remove_unused_columns=False,
        dataloader_drop_last=True,
        dataloader_pin_memory=False,
        report_to=report_to(),
        seed=seed,
        data_seed=seed,
    )
    trainer = GAGRPOTrainer(
        policy, arguments, questions, recordings, store, budget, group, temperature, modulation, settings, judge, engine
    )
    if process := trainer.args.process_index:
        set_seed(seed + process)  # rollouts of its own
    show_as_text(trainer)
    history = trainer.train_or_continue()
    policy.cache_features = False
    return history
