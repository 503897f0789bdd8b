"""Rollouts by vLLM inside the training process (colocate), for LoRA policies where vLLM is installed.

Prompts, tools and budget are those of `rollout`. The policy's own tower encodes every frame once; vLLM gets features,
holds the language model in a second copy, and shares the prompt of a group and the turns of a dialogue by its prefix
cache. An adapter that has changed is handed over as safetensors.

vLLM samples with a generator of its own, seeded when the engine starts. It is not part of a training checkpoint: after
a resume the first rollouts are drawn anew, so that an interrupted training is not repeated to the bit.
"""

import gc
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from peft import PeftModel

from medscope.agents.features import visual_tokens
from medscope.agents.lengths import context_limit, longest_dialogue
from medscope.agents.policy import Policy
from medscope.agents.rollout import Rollout, environment_step, generate, open_rollouts
from medscope.environment.environment import ClinicalVideoEnvironment
from medscope.environment.tools import ToolBudget
from medscope.environment.video import PATCH_FACTOR
from medscope.records import Task

Engine = Callable[..., list[Rollout]]  # called as training calls `generate`
BANNED = -100.0  # added to the logits of tokens that are never sampled: the lowest bias that vLLM knows
PATCH = PATCH_FACTOR // 2  # pixels: vLLM counts the patches, of which 2 x 2 make a token
RANKS = (8, 16, 32, 64, 128, 256, 320, 512)  # for which vLLM has room


def make_engine(name: str, policy: Policy, budget: ToolBudget, rollouts: int, memory: float, seed: int) -> Engine:
    """`medscope` (our own, exact) or `vllm`, which generates at most so many `rollouts` at once.

    `memory` is vLLM's share of the GPU, from 0 to 1. Raises ValueError for an unknown name or a policy that vLLM
    cannot hold, ImportError where it is not installed.
    """
    if name == "medscope":
        return generate
    if name == "vllm":
        return VLLMEngine(policy, budget, rollouts, memory, seed)
    raise ValueError(f"engine {name!r} is unknown; choose medscope or vllm")


def one_placeholder_each(ids: Sequence[int], widths: Sequence[int], image_token: int) -> list[int]:
    """`ids` with a single image token for every frame, whose visual tokens `widths` counts: vLLM widens them itself."""
    kept, frames, index = [], iter(widths), 0
    while index < len(ids):
        kept.append(ids[index])
        index += next(frames) if ids[index] == image_token else 1
    return kept


class VLLMEngine:
    """`logps` of its rollouts are vLLM's own: the trainer corrects for the difference."""

    def __init__(self, policy: Policy, budget: ToolBudget, rollouts: int, memory: float, seed: int):
        if not isinstance(policy.model, PeftModel) or getattr(policy.base, "is_loaded_in_4bit", False):
            raise ValueError("engine vllm needs LoRA on unquantised weights: lora_rank > 0 and load_in_4bit false")
        if torch.cuda.is_available() and policy.base.dtype != torch.bfloat16:
            raise ValueError(f"engine vllm on a GPU needs dtype bfloat16, not {policy.base.dtype}")
        if find_spec("vllm") is None:
            raise ImportError("engine is vllm, but vLLM is not installed: see the README, or choose engine medscope")
        os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"  # in this process: no second CUDA context
        from vllm import LLM

        # Join the trainer's group first, or vLLM makes one in which every process is alone.
        processes = PartialState(cpu=not torch.cuda.is_available(), timeout=timedelta(minutes=30))
        lora = policy.model.peft_config["default"]
        self.llm = LLM(
            model=lora.base_model_name_or_path,
            dtype=str(policy.base.dtype).removeprefix("torch."),
            enable_lora=True,
            max_lora_rank=min((rank for rank in RANKS if rank >= lora.r), default=lora.r),
            max_loras=1,
            limit_mm_per_prompt={"image": 0, "video": 0},  # its own vision tower is not even loaded,
            enable_mm_embeds=True,  # frames come as features,
            mm_processor_cache_gb=0,  # which a cache would keep in memory beside the policy's own
            logprobs_mode="processed_logprobs",  # of the distribution that was sampled from
            max_model_len=min(longest_dialogue(budget), context_limit(policy, budget)),
            max_num_seqs=rollouts,
            gpu_memory_utilization=memory,
            enforce_eager=not torch.cuda.is_available(),
            distributed_executor_backend="external_launcher" if processes.num_processes > 1 else None,
            seed=seed + processes.process_index,
        )
        self.folder = tempfile.TemporaryDirectory(prefix="medscope_adapter_")
        self.adapter, self.written = None, []

    def __call__(
        self,
        policy: Policy,
        tasks: Sequence[Task],
        environments: Sequence[ClinicalVideoEnvironment],
        num_generations: int = 1,
        temperature: float = 0.0,
        max_turn_tokens: int | None = None,
    ) -> list[Rollout]:
        """As `generate` with tools, turn by turn: every open rollout says one, then the calls are executed."""
        from vllm import SamplingParams

        max_turn_tokens = max_turn_tokens or environments[0].budget.max_turn_tokens
        sampling = SamplingParams(
            temperature=temperature,
            max_tokens=max_turn_tokens,
            stop_token_ids=[policy.turn_end],
            logit_bias=dict.fromkeys(policy.suppressed_tokens, BANNED),
            logprobs=0,  # of the sampled token alone
            detokenize=False,
        )
        self._hand_over(policy)
        rollouts = active = open_rollouts(policy, tasks, environments, num_generations, True, max_turn_tokens)
        while active:
            prompts = [self._prompt(policy, rollout) for rollout in active]
            outputs = self.llm.generate(prompts, sampling, lora_request=self.adapter, use_tqdm=False)
            for rollout, output in zip(active, outputs, strict=True):
                if output.prompt_token_ids != rollout.prompt.ids + rollout.completion:
                    raise RuntimeError("vLLM lays the frames of a dialogue out in another way than the policy")
                sampled = output.outputs[0]
                rollout.spans[-1].ids += sampled.token_ids
                rollout.logps += [
                    found[token].logprob for token, found in zip(sampled.token_ids, sampled.logprobs, strict=True)
                ]
            active = [r for r in active if environment_step(policy, r, max_turn_tokens) is not None]
        return rollouts

    def _prompt(self, policy: Policy, rollout: Rollout) -> dict[str, Any]:
        """The dialogue so far in vLLM's form; what it has seen before it finds in its caches by token and frame."""
        images = rollout.prompt.images + rollout.images
        ids = rollout.prompt.ids + rollout.completion
        with torch.no_grad():
            features = torch.cat(policy.features(images)).cpu()
        grid = torch.tensor([(1, image.height // PATCH, image.width // PATCH) for image in images])
        return {
            "prompt_token_ids": one_placeholder_each(ids, list(map(visual_tokens, images)), policy.image_token),
            "multi_modal_data": {"image": {"image_embeds": features, "image_grid_thw": grid}},
            "multi_modal_uuids": {"image": [repr(image.info["frame"]) for image in images]},
        }

    def _hand_over(self, policy: Policy) -> None:
        """Give vLLM the adapter if it has changed, under a new name: what was cached for the older one is not used."""
        from vllm.lora.request import LoRARequest

        trained = [weights for weights in policy.model.parameters() if weights.requires_grad]
        written = torch.stack([weights.detach().double().sum() for weights in trained]).tolist()
        if written == self.written:
            return
        if self.adapter:
            shutil.rmtree(self.adapter.lora_path)
        self.written, version = written, self.adapter.lora_int_id + 1 if self.adapter else 1
        self.adapter = LoRARequest(f"adapter {version}", version, str(Path(self.folder.name) / str(version)))
        policy.model.save_pretrained(self.adapter.lora_path, safe_serialization=True, save_embedding_layers=False)

    def close(self) -> None:
        """Give the memory back. It takes the processes' group along: nothing can be shared afterwards."""
        del self.llm
        self.folder.cleanup()
        gc.collect()
        torch.cuda.empty_cache()
