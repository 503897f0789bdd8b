"""What notebooks 01 to 04 run, in one process or in several: make the suite; read a checkpoint, train, save one.

`on_processes(parameters["processes"], train_sft, parameters, scratch)` calls one of these in every process. Each reads
everything from disk. `parameters` are those of `begin`, `scratch` is the folder of resume checkpoints, computed once in
the notebook's process. A training that has finished is not repeated: its last checkpoint is loaded and saved again.
Returned is the trainer's log.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from medscope.agents.lengths import fitting_tasks
from medscope.agents.policy import Policy, load_policy, tiny_policy
from medscope.agents.vllm_engine import VLLMEngine, make_engine
from medscope.environment import FrameStore, ToolBudget
from medscope.evaluation.judge import make_judge
from medscope.pipeline.layout import Layout
from medscope.pipeline.parameters import prepare_process, tool_budget
from medscope.ranks import is_first_process, share
from medscope.rewards import RewardSettings
from medscope.sources.source import Source
from medscope.suite.build import build_suite
from medscope.suite.retelling import retell
from medscope.suite.suite import Suite
from medscope.training import ga_grpo
from medscope.training.alignment import align
from medscope.training.examples import ExampleBuilder, clip_records, trajectory_records, warm_up_records
from medscope.training.order import estimated_tokens
from medscope.training.rejection import best_of
from medscope.training.sft import fine_tune
from medscope.training.sharded import whole_state

Log = list[dict[str, float]]


def _tuning(p: dict[str, Any]) -> dict[str, Any]:
    """What all trainers are told by parameters of the same meaning."""
    names = ("learning_rate", "gradient_accumulation", "save_steps", "seed", "gradient_checkpointing")
    return {**{name: p[name] for name in names}, "bf16": p["dtype"] == "bfloat16"}


def _lengths(policy: Policy, p: dict[str, Any], records: Sequence[Any], suite: Suite) -> list[int] | None:
    """About the tokens of every record's example, where batches are to be grouped by them."""
    if not p["group_by_length"]:
        return None
    durations = _durations(suite)
    return [estimated_tokens(policy, record, durations, tool_budget(p)) for record in records]


def _durations(suite: Suite) -> dict[str, float]:
    """Seconds of every video, by name."""
    return {recording.video: recording.duration for recording in suite.recordings}


def _save(policy: Policy, folder: Path) -> None:
    """Write the checkpoint in the first process; all must call it, for each may hold a part of the weights."""
    weights = whole_state(policy.model)
    if is_first_process():
        policy.save(folder, weights)


def make_suite(
    folder: Path, source: Source, decoder: str, budget: ToolBudget, settings: dict[str, Any]
) -> Counter[str]:
    """`build_suite` with these settings, each process with a store of frames of its own."""
    prepare_process()
    return build_suite(folder, source, FrameStore(decoder), budget, **settings)


def train_warm_up(parameters: dict[str, Any], scratch: Path) -> dict[str, Log]:
    """Stage I: a tiny or pretrained model, taught from words to frames, part by part, becomes checkpoint `warm_up`.

    Returns the log of every part; an empty one of a part without steps.
    """
    prepare_process()
    p, place = parameters, Layout(parameters["folder"])
    suite = Suite(place.suite)
    tiny = p["model"] == "tiny"
    policy = tiny_policy(p["seed"]) if tiny else load_policy(p["model"], p["lora_rank"], p["load_in_4bit"], p["dtype"])
    if is_first_process():
        print(f"{sum(weights.numel() for weights in policy.model.parameters()):,} parameters")
    build = ExampleBuilder(policy, FrameStore(p["decoder"]), tool_budget(p), _durations(suite))
    logs: dict[str, Log] = {}
    for part, steps, batch_size in (
        ("recall", p["recall_steps"], 4 * p["batch_size"]),
        ("places", p["place_steps"], 4 * p["batch_size"]),
        ("captions", p["caption_steps"], 2 * p["batch_size"]),
        ("alignment", p["alignment_steps"], 2 * p["batch_size"]),
        ("frames", p["steps"], p["batch_size"]),
    ):
        training, held_out = warm_up_records(suite, part)
        logs[part] = []
        if part == "frames" and p["freeze_vision"]:
            policy.freeze_vision()
        if part == "alignment" and training and steps:
            tuning = {name: p[name] for name in ("save_steps", "seed", "optimizer")}
            tuning["learning_rate"] = p["alignment_learning_rate"]
            logs[part] = align(policy, training, held_out, build.store, scratch / part, steps, batch_size, **tuning)
        elif training and steps:
            training, held_out = build.fitting(training), build.fitting(held_out)
            tuning = {**_tuning(p), "optimizer": p["optimizer"], "lengths": _lengths(policy, p, training, suite)}
            logs[part] = fine_tune(policy, training, held_out, build, scratch / part, steps, batch_size, **tuning)
    _save(policy, place.new_checkpoint("warm_up"))
    return logs


def _started(p: dict[str, Any], place: Layout) -> Policy:
    """Checkpoint `start`."""
    return load_policy(place.checkpoint(p["start"]), load_in_4bit=p["load_in_4bit"], dtype=p["dtype"])


def train_sft(parameters: dict[str, Any], scratch: Path) -> Log:
    """Stage II: checkpoint `start`, fine-tuned on the trajectories and some captioned clips, becomes `variant`.

    With `best_of` the trajectories are the first solved rollouts of that checkpoint on the RL tasks.
    """
    prepare_process()
    p, place = parameters, Layout(parameters["folder"])
    suite = Suite(place.suite)
    durations = _durations(suite)
    trajectories = suite.trajectories  # which stay on disk; a baseline's are told anew, in memory
    if p["trajectories"] != "tools":
        trajectories = retell(trajectories, p["trajectories"], durations, p["seed"])
    policy = _started(p, place)
    if p["freeze_vision"]:
        policy.freeze_vision()
    if p["best_of"]:
        store = FrameStore(p["decoder"])
        tasks = fitting_tasks(policy, suite.select("rl", challenging=True), store, tool_budget(p))
        trajectories = best_of(policy, tasks, store, tool_budget(p), scratch / "best_of", p["best_of"], seed=p["seed"])
    build = ExampleBuilder(policy, FrameStore(p["decoder"]), tool_budget(p), durations)
    training, held_out = map(build.fitting, trajectory_records(trajectories))
    clips = build.fitting(clip_records(suite, p["captioned_clips"]))
    if is_first_process():
        print(f"{len(training)} trajectories, {len(held_out)} held out, {len(clips)} captioned clips")
    training = training + clips
    tuning = {**_tuning(p), "optimizer": p["optimizer"], "lengths": _lengths(policy, p, training, suite)}
    tuning["loader_workers"] = p["loader_workers"]
    history = fine_tune(policy, training, held_out, build, scratch, p["steps"], p["batch_size"], **tuning)
    _save(policy, place.new_checkpoint(p["variant"]))
    return history


def train_grpo(parameters: dict[str, Any], scratch: Path) -> Log:
    """Stage III: checkpoint `start`, trained by GA-GRPO on challenging tasks of the RL videos, becomes `variant`."""
    prepare_process()
    p, place = parameters, Layout(parameters["folder"])
    policy = _started(p, place)
    budget, judge, store = tool_budget(p), make_judge(p["judge"]), FrameStore(p["decoder"])
    tasks = fitting_tasks(policy, Suite(place.suite).select("rl", challenging=True), store, budget)
    if is_first_process():
        print(f"{len(tasks)} tasks on {len({task.video for task in tasks})} videos of their own")
    rollouts = share("questions_per_step", p["questions_per_step"]) * p["num_generations"]
    engine = make_engine(p["engine"], policy, budget, rollouts, p["vllm_memory"], p["seed"])
    history = ga_grpo.train(
        policy,
        tasks,
        store,
        budget,
        scratch,
        reward_settings(p),
        p["steps"],
        p["questions_per_step"],
        p["num_generations"],
        modulation=p["modulation"],
        temperature=p["temperature"],
        judge=judge,
        engine=engine,
        dynamic_sampling=p["dynamic_sampling"],
        **_tuning(p),
    )
    if isinstance(engine, VLLMEngine):
        engine.close()
    _save(policy, place.new_checkpoint(p["variant"]))
    return history


def reward_settings(parameters: dict[str, Any]) -> RewardSettings:
    """The reward's constants among a stage's parameters; `reward_form` is its `form`."""
    names = {field.name for field in fields(RewardSettings)} - {"form"}
    given = {name: value for name, value in parameters.items() if name in names}
    return RewardSettings(**given, form=parameters["reward_form"])
