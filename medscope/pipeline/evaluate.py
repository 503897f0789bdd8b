"""What notebook 06 runs, in one process or in several: one system answers the eval sets, is audited, and describes.

`on_processes(parameters["processes"], answer_suite, parameters)` calls it in every process; each reads suite and
checkpoint from disk and answers batches of its own, and the first returns and writes everything. `parameters` are those
of `begin`. Every file is written when its part is done.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from transformers import set_seed

from medscope.agents.policy import load_policy
from medscope.environment import FrameStore, ToolBudget
from medscope.evaluation.blind import predict_blind, teaching_tasks
from medscope.evaluation.descriptions import free_text_groups, rated
from medscope.evaluation.judge import Judge, make_judge
from medscope.evaluation.predict import predict
from medscope.evaluation.predict_endpoint import EndpointSystem
from medscope.evaluation.predictions import Prediction
from medscope.evaluation.quarantine import Quarantined, quarantine_of
from medscope.evaluation.replay import replay
from medscope.files import write_jsonl
from medscope.models import EndpointSettings, open_remote
from medscope.pipeline.layout import Layout
from medscope.pipeline.parameters import prepare_process, tool_budget
from medscope.ranks import is_first_process, process_count
from medscope.remote import is_endpoint
from medscope.suite.oracle import oracle_turns
from medscope.suite.suite import Suite


@dataclass
class Answered:
    """What a system did. `quarantined`, `asked` and `cost` are those of a model behind an endpoint."""

    predictions: list[Prediction] = field(default_factory=list)
    replays: list[Prediction] = field(default_factory=list)  # of right answers, with other frames
    described: list[Prediction] = field(default_factory=list)  # tasks with free text as answer
    quarantined: list[Quarantined] = field(default_factory=list)
    asked: dict[str, Any] = field(default_factory=dict)
    cost: dict[str, Any] | None = None


def answer_suite(parameters: dict[str, Any]) -> Answered:
    """The eval sets of the suite, answered by the system that the parameters describe; written below `predictions/`.

    Raises ValueError where several processes would ask an endpoint: each would pay for all.
    """
    prepare_process()
    p, place, budget = parameters, Layout(parameters["folder"]), tool_budget(parameters)
    suite, store, judge = Suite(place.suite), FrameStore(p["decoder"]), make_judge(p["judge"])
    set_seed(p["seed"])
    remote = _remote(p, store, budget, judge)
    answer = remote.predict if remote else _local(p, place, store, budget, judge)
    made = Answered()
    for name, tasks in suite.eval_sets(_most(p["tasks_per_set"])).items():
        if is_first_process():
            print(name, len(tasks), "tasks")
        if answer is None and is_first_process():
            durations = {recording.video: recording.duration for recording in suite.recordings}
            made.predictions += predict_blind(teaching_tasks(suite.tasks), tasks, durations, p["system"], judge)
        if answer is None:
            continue
        how = {}
        if remote is None:
            how["temperature"] = p["temperature"]
            if p["oracle"]:
                how["oracle_turns"] = [oracle_turns(t, suite.recording(t.video), store, budget) for t in tasks]
        made.predictions += answer(tasks, system=p["system"], tools=p["tools"], **how)
    _write(place, p["system"], made.predictions)
    if remote:
        made.quarantined = list(remote.quarantined)
        write_jsonl(quarantine_of(place.new_predictions(p["system"])), made.quarantined)
    if answer and p["audit_tasks"]:
        made.replays = replay(answer, made.predictions, suite.recordings, store, budget, _most(p["audit_tasks"]))
    _write(place, p["system"] + ".audit", made.replays)
    if answer and p["free_text_tasks"]:
        free_text = suite.select("eval", free_text=True)
        for tasks in free_text_groups(free_text, _most(p["free_text_tasks"]), p["tools"]):
            made.described += answer(tasks, system=p["system"], tools=p["tools"])
        if made.described and p["judge"] == "llm" and is_first_process():  # ratings are paid
            made.described = rated(made.described, judge.endpoint)
    _write(place, p["system"] + ".free_text", made.described)
    if remote:
        made.asked, made.cost = remote.described, remote.cost
    return made


def _write(place: Layout, name: str, predictions: list[Prediction]) -> None:
    if is_first_process():
        write_jsonl(place.new_predictions(name), predictions)


def _most(number: int) -> int | None:
    """A parameter that limits something; below 0 nothing is limited."""
    return None if number < 0 else number


def _remote(p: dict[str, Any], store: FrameStore, budget: ToolBudget, judge: Judge) -> EndpointSystem | None:
    if not is_endpoint(p["model"]):
        return None
    if process_count() > 1:
        raise ValueError(f"processes={process_count()}: an endpoint is asked by one process; set in_flight instead")
    settings = EndpointSettings(**p["endpoint"])
    how = {"calls": settings.calls, "request": settings.request}
    how |= {"temperature": p["temperature"], "in_flight": p["in_flight"]}
    remote = open_remote(p["model"], settings, trip=sys.maxsize)  # the run stops by itself
    return EndpointSystem(remote, store, budget, **how, judge=judge)


def _local(
    p: dict[str, Any], place: Layout, store: FrameStore, budget: ToolBudget, judge: Judge
) -> Callable[..., list[Prediction]] | None:
    """How a policy answers; None for the blind system, which has none."""
    weights = p["model"] or (place.checkpoint(p["checkpoint"]) if p["checkpoint"] else None)
    if not weights:
        return None
    policy = load_policy(weights, load_in_4bit=p["load_in_4bit"], dtype=p["dtype"])
    return partial(predict, policy, store=store, budget=budget, judge=judge)
