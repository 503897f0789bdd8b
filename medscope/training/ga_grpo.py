"""Stage III, GA-GRPO: for every task a group of rollouts, rewarded by what they looked at, one on-policy update.

    A_k = R_k - mean_j R_j            (no division by the standard deviation, no KL, no reference model)
    A_k is modulated by the evidence fidelity f_k of rollouts that used a tool
    loss = - sum_k sum_t (ratio_t x A_k) / assistant tokens of the whole batch

Input: a policy, tasks, a frame store, reward settings. Output: the policy trained in place, and the log of every step.
Run by notebook 04, or `python -m medscope.pipeline.stage ga_grpo`. On `transformers.Trainer` for optimiser,
checkpoints, resume and logging.

The whole batch is all micro-batches of gradient accumulation on all processes. All of them are sampled before the first
is updated, so the number of tokens is known and the loss is the same however the batch is cut.

Simplified: one update per batch of rollouts, so the ratio is 1 in value and its gradient is that of log pi. The vision
tower is frozen and its features are cached. Where tokens are sampled from slightly other probabilities than those that
are trained (another engine, weights not in float32), every token's loss is weighted by min(pi / pi_sampling, 2)
(truncated importance sampling). The difference is logged always.
"""

from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import TrainingArguments, set_seed
from trl.models.utils import _ForwardRedirection

from medscope.agents.policy import Policy
from medscope.agents.rollout import Rollout, generate
from medscope.agents.vllm_engine import Engine
from medscope.environment import ClinicalVideoEnvironment, FrameStore, ToolBudget
from medscope.environment.grammar import parse_answer
from medscope.evaluation.judge import Judge, exact
from medscope.modulation import Modulation, modulated_advantages
from medscope.ranks import process_count, share
from medscope.records import Task
from medscope.rewards import Reward, RewardSettings, reward
from medscope.training.arguments import common_arguments
from medscope.training.experience import Experience
from medscope.training.precision import check_precision
from medscope.training.progress import show_as_text
from medscope.training.resume import Resumable
from medscope.training.sharded import whole_weights
from medscope.training.tracking import run_metrics
from medscope.training.update import completion_logps, importance, policy_loss

RESAMPLINGS = 3  # rounds in which dead groups are replaced, at most


class GAGRPOTrainer(Resumable):
    """A `transformers.Trainer` whose data set is the list of tasks and whose loss makes the rollouts itself."""

    loss_is_scaled_for_ga = True  # divided by the tokens of all micro-batches, not by their number

    def __init__(
        self,
        policy: Policy,
        arguments: TrainingArguments,
        tasks: Sequence[Task],
        store: FrameStore,
        budget: ToolBudget,
        num_generations: int,
        temperature: float,
        modulation: Modulation,
        settings: RewardSettings,
        judge: Judge = exact,
        engine: Engine = generate,
        dynamic_sampling: bool = False,
    ):
        self.policy, self.store, self.budget, self.judge, self.engine = policy, store, budget, judge, engine
        self.num_generations, self.temperature = num_generations, temperature
        self.modulation, self.settings = modulation, settings
        self.dynamic_sampling = dynamic_sampling
        quantised = getattr(policy.base, "is_loaded_in_4bit", False)
        self.sampling_is_exact = engine is generate and policy.base.dtype == torch.float32 and not quantised
        self.recent: dict[str, list[float]] = defaultdict(list)  # of every micro-batch since the last log
        self.coming: list[list[Task]] = []  # the micro-batches of the next update
        self.collected: deque[Experience] = deque()
        super().__init__(
            model=policy.model,
            args=arguments,
            train_dataset=tasks,
            data_collator=lambda tasks: {"tasks": tasks},
            processing_class=policy.processor,
            callbacks=run_metrics(),
        )
        self.sampling_is_exact &= self.accelerator.mixed_precision == "no"
        if self.is_fsdp_enabled and not (arguments.activation_checkpointing and engine is generate):
            raise ValueError(
                "weights sharded by FSDP2 need gradient_checkpointing: true and engine: medscope; set both, or start "
                "with torchrun instead of the accelerate file"
            )

    def sample(self, tasks: list[Task]) -> list[Rollout]:
        """`num_generations` rollouts in a row for every task, at the training temperature."""
        count = len(tasks) * self.num_generations
        environments = [ClinicalVideoEnvironment(self.store, self.budget) for _ in range(count)]
        return self.engine(self.policy, tasks, environments, self.num_generations, temperature=self.temperature)

    def rewards(self, rollouts: list[Rollout]) -> list[Reward]:
        """The reward of every rollout from its turns, the judge's verdict and the trace of its environment."""
        answers = [(r.task.question, parse_answer(r.turns[-1]), r.task.reference) for r in rollouts]
        return [
            reward(r.turns, verdict, r.trace.window, r.trace.timestamp, r.task.evidence, self.settings)
            for r, verdict in zip(rollouts, self.judge(answers), strict=True)
        ]

    def collect(self, tasks: list[Task]) -> Experience:
        """Experience of these tasks; with `dynamic_sampling` dead groups give way to other questions, as in DAPO.

        At most `RESAMPLINGS` times; a group that then still is dead stays. The questions are drawn with torch's global
        generator, as the rollouts are, so that a resumed training draws the same.
        """
        experience, drawn = self.rolled_out(tasks), 0
        for _ in range(RESAMPLINGS if self.dynamic_sampling else 0):
            dead = [group for group in experience.groups() if experience.is_dead(group)]
            if not dead:
                break
            numbers = torch.randint(len(self.train_dataset), (len(dead),)).tolist()
            fresh = self.rolled_out([self.train_dataset[number] for number in numbers])
            drawn += len(numbers)
            for group, number in zip(dead, range(len(numbers)), strict=True):
                by = slice(number * self.num_generations, (number + 1) * self.num_generations)
                if not fresh.is_dead(by):
                    experience = experience.replaced(group, fresh, by)
        self.recent["resampled"].append(drawn / len(tasks))
        return experience

    def rolled_out(self, tasks: list[Task]) -> Experience:
        """Roll out, reward, and modulate the advantages of every group."""
        rollouts = self.sample(tasks)
        rewards = self.rewards(rollouts)
        totals = torch.tensor([r.total for r in rewards]).split(self.num_generations)
        fidelity = torch.tensor([r.evidence for r in rewards]).split(self.num_generations)
        used = torch.tensor([bool(r.trace.executed) for r in rollouts]).split(self.num_generations)
        groups = zip(totals, fidelity, used, strict=True)
        advantages = torch.cat([modulated_advantages(*group, mode=self.modulation) for group in groups])
        return Experience([r.task for r in rollouts], rollouts, rewards, advantages, self.num_generations)

    def update_loss(self, experience: Experience, tokens: float) -> torch.Tensor:
        """The part of one micro-batch in the loss of a batch of `tokens` assistant tokens."""
        rollouts = experience.rollouts
        logps, entropy, owner = completion_logps(
            self.policy, rollouts, self.num_generations, self.temperature, self.policy.suppressed_tokens
        )
        sampled = torch.tensor([logp for i in owner.unique_consecutive().tolist() for logp in rollouts[i].logps])
        sampled = sampled.to(logps)
        difference = (logps.detach() - sampled).abs()
        means = experience.means() | {"entropy": float(entropy.mean()), "sampling_logp_diff": float(difference.mean())}
        for name, value in means.items():
            self.recent[name].append(value)
        self.recent["sampling_logp_diff_max"].append(float(difference.max()))
        weighted = experience.advantages.to(logps.device)[owner]
        if not self.sampling_is_exact:
            weighted = weighted * importance(logps, sampled)
        return policy_loss(logps, weighted, tokens)

    def get_batch_samples(
        self, epoch_iterator: Iterator[dict[str, Any]], num_batches: int, device: torch.device
    ) -> tuple[list[dict[str, Any]], None]:
        """Note the micro-batches of the coming update. They are sampled with the first of them, not here: after a
        resume, transformers restores the random state between the two."""
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        self.coming = [batch["tasks"] for batch in batches]
        return batches, None

    def compute_loss(self, model: torch.nn.Module, inputs: dict[str, Any], **_: Any) -> torch.Tensor:
        """The loss of one micro-batch, computed inside the forward of the wrapped model: DDP and FSDP2 then know of it,
        although it calls the model's parts."""
        return _ForwardRedirection()(model, self.accelerator.unwrap_model(model), self._loss_of_next, inputs)

    def _loss_of_next(self, _: dict[str, Any]) -> torch.Tensor:
        """Sample all micro-batches of the update with its first one; the loss of the next one."""
        if not self.collected:
            with whole_weights(self.policy.model):
                self.collected.extend(self.collect(tasks) for tasks in self.coming)
            self.tokens = float(sum(experience.tokens for experience in self.collected))
            if process_count() > 1:  # whose gradients are averaged, not added
                mine = torch.tensor(self.tokens, device=self.args.device)
                self.tokens = float(self.accelerator.reduce(mine, "mean"))
        with whole_weights(self.policy.base.model.visual):  # a frame may be missing in the cache of one process
            return self.update_loss(self.collected.popleft(), self.tokens)

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Add the means (`_max`: the largest) of all processes since the last log, so that every term has its curve."""
        largest = {name for name in self.recent if name.endswith("_max")}
        values = {name: float(np.max(v) if name in largest else np.mean(v)) for name, v in self.recent.items()}
        if process_count() > 1 and values:
            mine = torch.tensor([list(values.values())], device=self.args.device)
            every = self.accelerator.gather(mine)
            means, most = every.mean(0).tolist(), every.amax(0).tolist()
            values = {n: most[i] if n in largest else means[i] for i, n in enumerate(values)}
        self.recent.clear()
        super().log({**logs, **values}, *args, **kwargs)


def train(
    policy: Policy,
    tasks: Sequence[Task],
    store: FrameStore,
    budget: ToolBudget,
    scratch: str | Path,
    settings: RewardSettings,
    steps: int,
    questions_per_step: int,
    num_generations: int,
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
    dynamic_sampling: bool = False,
) -> list[dict[str, float]]:
    """Train in place, resuming from `scratch` after a kill (to rounding); returns the log of every step.

    `questions_per_step` is that of all processes together, per micro-batch. Raises ValueError where it cannot be shared
    by the processes, and where the learning rate is too small for the weights' precision.
    """
    policy.freeze_vision()  # its features are kept for the rollouts and the update
    check_precision(policy, learning_rate)
    arguments = TrainingArguments(
        **common_arguments(scratch, steps, learning_rate, save_steps, seed),
        per_device_train_batch_size=share("questions_per_step", questions_per_step),
        gradient_accumulation_steps=gradient_accumulation,
        lr_scheduler_type="linear",  # to 0: late updates average the noise of the rollouts out
        warmup_steps=10,  # Adam's first steps are all of full size
        adam_beta2=0.95,
        weight_decay=0.0,
        bf16=bf16,
        activation_checkpointing=gradient_checkpointing,
        activation_checkpointing_kwargs={"use_reentrant": False},
        logging_steps=1,
        dataloader_drop_last=True,
    )
    trainer = GAGRPOTrainer(
        policy, arguments, tasks, store, budget, num_generations, temperature, modulation, settings, judge, engine,
        dynamic_sampling,
    )  # fmt: skip
    if process := trainer.args.process_index:
        set_seed(seed + process)  # rollouts of its own
    show_as_text(trainer)
    policy.cache_features = True
    try:
        return trainer.train_or_continue()
    finally:
        policy.cache_features = False
