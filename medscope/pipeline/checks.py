"""Values and combinations that a stage cannot use: refused before anything is loaded, with the reason and the fix.

A parameter is never accepted and ignored. `check` is called by the launcher and by `begin` of every notebook.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from medscope.remote import is_endpoint

# Words that a parameter of this name may hold, in every stage that has it. Those of the code; a test compares them.
CHOICES: dict[str, tuple[str, ...]] = {
    "decoder": ("decord", "pyav"),
    "dtype": ("float32", "bfloat16"),
    "judge": ("exact", "llm"),
    "engine": ("medscope", "vllm"),
    "teacher": ("scripted", "endpoint"),
    "modulation": ("none", "binary", "continuous"),
    "reward_form": ("paper", "paper_text", "monotone"),
    "optimizer": ("adamw", "muon"),
    "trajectories": ("tools", "text_cot", "answer_only", "random_window"),
}
# Least values by name. -1 stands for all where a stage says so.
LEAST: dict[str, float] = {
    **dict.fromkeys(("skim_frames", "skim_pixels", "crop_frames", "crop_pixels", "frame_pixels", "max_calls"), 1),
    **dict.fromkeys(("in_flight", "context_tokens"), 1),
    **dict.fromkeys(("max_turn_tokens", "steps", "caption_steps", "batch_size", "questions_per_step"), 1),
    **dict.fromkeys(("num_generations", "gradient_accumulation", "processes", "save_steps", "workers"), 1),
    **dict.fromkeys(("temperature", "learning_rate", "lora_rank", "eta", "vllm_memory", "boundary_slack"), 0),
    **dict.fromkeys(("direct_share", "captioned", "recalled", "captioned_clips", "seed", "best_of"), 0),
    **dict.fromkeys(("recall_steps", "place_steps", "alignment_steps", "captioned_frames_per_video"), 0),
    **dict.fromkeys(("loader_workers",), 0),
    **dict.fromkeys(("tasks_per_set", "audit_tasks", "free_text_tasks"), -1),
}
MOST: dict[str, float] = dict.fromkeys(("vllm_memory", "boundary_slack", "direct_share"), 1)


def problems(stage: str, p: Mapping[str, Any]) -> list[str]:
    """What is wrong with the parameters of a stage, a sentence each; none for good ones."""
    return [*(_values(p) if stage != "studies" else ()), *_combinations(stage, p)]  # a table only notes what was run


def _values(p: Mapping[str, Any]) -> Iterator[str]:
    for name, value in p.items():
        if name in CHOICES and value not in CHOICES[name]:
            yield f"{name} is {value!r}; choose one of {', '.join(CHOICES[name])}"
        if name in LEAST and value < LEAST[name]:
            yield f"{name} is {value!r}; it is at least {LEAST[name]:g}"
        if name in MOST and value > MOST[name]:
            yield f"{name} is {value!r}; it is at most {MOST[name]:g}"


def _combinations(stage: str, p: Mapping[str, Any]) -> Iterator[str]:
    low = p.get("lora_rank") or p.get("dtype") != "float32" or p.get("load_in_4bit")
    if stage == "warm_up" and p.get("model") == "tiny" and low:
        yield "the tiny model is trained whole in float32; lora_rank, dtype and load_in_4bit are for a checkpoint"
    if p.get("source") in ("folder", "dicom") and p.get("teacher") == "scripted":
        yield f"source {p['source']} has no annotations, which the scripted teacher needs; set teacher to endpoint"
    if p.get("teacher_settings") and p.get("teacher") != "endpoint":
        yield "teacher_settings are those of an endpoint; set teacher to endpoint"
    if stage == "sft" and p.get("best_of") and p.get("trajectories") != "tools":
        yield "best_of makes the trajectories itself: leave trajectories at tools"
    if stage == "sft" and p.get("best_of") and p.get("processes", 1) > 1:
        yield "best_of samples in one process: set processes to 1"
    if stage == "ga_grpo" and p.get("temperature") == 0:
        yield "temperature is 0: all rollouts of a group would be alike; sample at a temperature above 0"
    if stage != "evaluate":
        return
    chance_or_written = p.get("oracle") or p.get("temperature")
    replayed_or_free = p.get("audit_tasks") or p.get("free_text_tasks")
    if p.get("checkpoint") and p.get("model"):
        yield "checkpoint and model are both given; a system is one of them: set checkpoint to '' to ask a model"
    if p.get("endpoint") and not is_endpoint(p.get("model", "")):
        yield "endpoint has settings, but model names none: set model to `endpoint` or to the URL of one"
    if is_endpoint(p.get("model", "")) and p.get("oracle"):
        yield "oracle writes the looks of a local policy, not those of an endpoint"
    blind = p.get("checkpoint") == "" and not p.get("model")
    if blind and (chance_or_written or replayed_or_free or not p.get("tools")):
        yield (
            "the blind baseline (checkpoint '' and no model) sees no video: leave oracle false, tools true, and "
            "temperature, audit_tasks and free_text_tasks 0"
        )
    if p.get("processes", 1) > 1 and p.get("temperature"):
        yield "sampled answers are drawn in one process: set evaluate.processes to 1, or temperature to 0"
    if p.get("processes", 1) > 1 and is_endpoint(p.get("model", "")):
        yield "an endpoint is asked by one process, in_flight tasks at once: set evaluate.processes to 1"
    if p.get("oracle") and not p.get("tools"):
        yield "oracle writes tool calls, which are not executed without tools"
    if chance_or_written and replayed_or_free:
        yield (
            "audit and free text are greedy and start from the question: with oracle or a temperature above 0, "
            "audit_tasks and free_text_tasks are 0"
        )
