"""What notebooks 02 to 04 run, in one process or in several: from a checkpoint to the next one.

A stage reads everything from disk, so that every process of `on_processes` can. `parameters` are those of the notebook
(`plain(globals())`); the log of the trainer comes back.
"""

from types import SimpleNamespace
from typing import Any

from medscope.training import ga_grpo, sft
from medscope.environment.environment import ClinicalVideoEnvironment
from medscope.evaluation.judge import make_judge
from medscope.pipeline.layout import Layout, begin, challenging, tool_budget
from medscope.agents.policy import load_policy, tiny_policy
from medscope.training.processes import is_first_process, share
from medscope.rewards import RewardSettings
from medscope.suite.build import Suite, load_suite
from medscope.suite.retelling import retold_suite
from medscope.environment.video import FrameStore
from medscope.agents.vllm_engine import VLLMEngine, make_engine


def _begin(parameters: dict[str, Any]) -> tuple[SimpleNamespace, Layout, FrameStore, Suite]:
    """The parameters by name, where the run keeps its files, its frames and its suite."""
    begin()
    p = SimpleNamespace(**parameters)
    place = Layout(p.folder)
    return p, place, FrameStore(p.decoder), load_suite(place)


def _tuning(p: SimpleNamespace) -> dict[str, Any]:
    """What all trainers are told by parameters of the same meaning."""
    return {
        "learning_rate": p.learning_rate,
        "gradient_accumulation": p.gradient_accumulation,
        "save_steps": p.save_steps,
        "seed": p.seed,
        "bf16": p.dtype == "bfloat16",
        "gradient_checkpointing": p.gradient_checkpointing,
    }


def warm_up(parameters: dict[str, Any]) -> tuple[list[dict[str, float]], list[dict[str, float]]]:
    """Stage I: a tiny or pretrained model, taught on captions and then on frames, becomes checkpoint `warm_up`."""
    p, place, store, suite = _begin(parameters)
    tiny = p.model == "tiny"
    policy = tiny_policy(p.seed) if tiny else load_policy(p.model, p.lora_rank, p.load_in_4bit, p.dtype)
    print(f"{sum(weights.numel() for weights in policy.model.parameters()):,} parameters")
    logs = []
    for name, steps, batch_size in (
        ("captions", p.caption_steps, 2 * p.batch_size),
        ("frames", p.steps, p.batch_size),
    ):
        training, held_out = sft.warm_up_examples(policy, suite, store, captioned=name == "captions")
        scratch = place.scratch(f"warm_up/{name}", parameters, place.suite)
        logs.append(sft.fine_tune(policy, training, held_out, scratch, steps, batch_size, **_tuning(p)))
    if is_first_process():
        policy.save(place.checkpoint("warm_up"))
    return logs[0], logs[1]


def train_sft(parameters: dict[str, Any]) -> list[dict[str, float]]:
    """Stage II: checkpoint `warm_up`, fine-tuned on the trajectories and some captioned clips, becomes `variant`."""
    p, place, store, suite = _begin(parameters)
    suite = retold_suite(suite, p.trajectories, p.seed)
    policy = load_policy(place.checkpoint("warm_up"), load_in_4bit=p.load_in_4bit, dtype=p.dtype)
    environment = ClinicalVideoEnvironment(store, tool_budget(parameters))
    training, held_out = sft.trajectory_examples(policy, suite, environment)
    clips = sft.clip_examples(policy, suite, store, p.captioned_clips)
    print(f"{len(training)} trajectories, {len(held_out)} held out, {len(clips)} captioned clips")
    scratch = place.scratch(p.variant, parameters, place.checkpoint("warm_up"), place.suite)
    history = sft.fine_tune(policy, training + clips, held_out, scratch, p.steps, p.batch_size, **_tuning(p))
    if is_first_process():
        policy.save(place.checkpoint(p.variant))
    return history


def train_grpo(parameters: dict[str, Any]) -> list[dict[str, float]]:
    """Stage III: checkpoint `sft`, trained by GA-GRPO on the questions of the RL videos, becomes `variant`."""
    p, place, store, suite = _begin(parameters)
    policy = load_policy(place.checkpoint("sft"), load_in_4bit=p.load_in_4bit, dtype=p.dtype)
    questions = [q for family in ("cataract", "clips") for q in challenging(suite, family, split="rl")]
    print(f"{len(questions)} questions on {len({q.video for q in questions})} videos of their own")
    budget = tool_budget(parameters)
    rollouts = share("questions_per_step", p.questions_per_step) * p.group
    engine = make_engine(p.engine, policy, budget, rollouts, p.vllm_memory, p.seed)
    history = ga_grpo.train(
        policy,
        questions,
        suite.recordings_by_video,
        store,
        budget,
        place.scratch(p.variant, parameters, place.checkpoint("sft"), place.suite),
        RewardSettings(p.w_acc, p.w_format, p.w_evidence, eta=p.eta, form=p.reward_form, conditional=p.conditional),
        p.steps,
        p.questions_per_step,
        p.group,
        modulation=p.modulation,
        temperature=p.temperature,
        judge=make_judge(p.judge),
        engine=engine,
        **_tuning(p),
    )
    if isinstance(engine, VLLMEngine):
        engine.close()
    if is_first_process():
        policy.save(place.checkpoint(p.variant))
    return history
