"""verl's synchronous v1 trainer with evidence-modulated advantages.

An advantage estimator of verl sees rewards and masks, not what a rollout looked at. So the trainer lets verl compute
GRPO's mean-centred advantages, and scales each by the fidelity that `compute_score` has stored with its dialogue.
"""

from typing import Any

import torch
import transfer_queue
from omegaconf import DictConfig, open_dict
from tensordict import TensorDict
from transfer_queue import KVBatchMeta
from verl.trainer.ppo.v1 import PPOTrainerSync, register_trainer

from medscope.modulation import Modulation, modulate

TRAINER = "medscope_sync"  # its name in verl's configuration, and of its own section: `modulation`


@register_trainer(TRAINER)
class EvidenceTrainer(PPOTrainerSync):
    """`trainer.v1.medscope_sync.modulation`: none, binary or continuous (see `medscope.modulation`)."""

    def __init__(self, config: DictConfig):
        check_algorithm(config)
        self.modulation: Modulation = config.trainer.v1[TRAINER].modulation
        with open_dict(config):
            config.trainer.v1.trainer_mode = "sync"  # by this name verl chooses buffer, loader and checkpoints
        super().__init__(config)

    def _compute_advantage(self, batch: KVBatchMeta, metrics: dict[str, Any]) -> KVBatchMeta:
        batch = super()._compute_advantage(batch, metrics)
        data = transfer_queue.kv_batch_get(
            keys=batch.keys, partition_id=batch.partition_id, select_fields=["advantages", "extra_fields"]
        )
        terms = [fields["reward_extra_info"] for fields in data.pop("extra_fields").tolist()]
        rows = [
            modulate(
                row,
                torch.full_like(row, one["evidence"]),
                torch.full_like(row, one["used_tool"]),
                self.modulation,
            )
            for row, one in zip(data["advantages"].unbind(), terms, strict=True)
        ]
        real = [one for one, tag in zip(terms, batch.tags, strict=True) if not tag.get("is_padding", False)]
        for name in ("acc", "format", "crop", "frame", "evidence", "used_tool"):
            metrics[f"medscope/{name}/mean"] = sum(one[name] for one in real) / len(real)
        nested = torch.nested.as_nested_tensor(rows, layout=torch.jagged)
        fields = TensorDict({"advantages": nested, "returns": nested.clone()}, batch_size=len(batch))
        return transfer_queue.kv_batch_put(keys=batch.keys, partition_id=batch.partition_id, fields=fields)


def check_algorithm(config: DictConfig) -> None:
    """Raise ValueError unless verl's part is ours: advantages R - mean of the group, no KL, one update per batch."""
    wanted = {
        "algorithm.adv_estimator": (config.algorithm.adv_estimator, "grpo"),
        "algorithm.norm_adv_by_std_in_grpo": (config.algorithm.norm_adv_by_std_in_grpo, False),
        "algorithm.use_kl_in_reward": (config.algorithm.use_kl_in_reward, False),
        "actor_rollout_ref.actor.use_kl_loss": (config.actor_rollout_ref.actor.use_kl_loss, False),
        "actor_rollout_ref.actor.ppo_epochs": (config.actor_rollout_ref.actor.ppo_epochs, 1),
        "actor_rollout_ref.actor.ppo_mini_batch_size": (
            config.actor_rollout_ref.actor.ppo_mini_batch_size,
            config.data.train_batch_size,
        ),
    }
    for name, (value, needed) in wanted.items():
        if value != needed:
            raise ValueError(f"{name} is {value!r}; GA-GRPO needs {needed!r}")
    if config.actor_rollout_ref.rollout.n < 2:
        raise ValueError(f"rollout.n is {config.actor_rollout_ref.rollout.n}; a group needs at least 2 rollouts")
    modulation = config.trainer.v1.get(TRAINER, {}).get("modulation")
    if modulation not in ("none", "binary", "continuous"):
        raise ValueError(f"trainer.v1.{TRAINER}.modulation is {modulation!r}; choose none, binary or continuous")
