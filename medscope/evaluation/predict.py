"""Let a policy answer tasks: one loop over batches of `generate`, one judge, one `Prediction` per task.

Systems differ only in arguments: `no_tools` offers none, `oracle` writes the looks, the audit swaps environments.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from tqdm import tqdm

from medscope.agents.policy import Policy
from medscope.agents.rollout import Rollout, generate
from medscope.environment import ClinicalVideoEnvironment, FrameStore, ToolBudget
from medscope.environment.grammar import parse_answer
from medscope.environment.tools import skim_seconds
from medscope.environment.video import PATCH_FACTOR
from medscope.evaluation.judge import Judge, exact
from medscope.evaluation.predictions import Prediction
from medscope.ranks import is_first_process, merged, own_part, process_count
from medscope.records import Task

MAX_ROWS = 64  # tasks in a batch
BATCH_TOKENS = 65_536  # of the prompts in a batch, padded to the longest
TEXT_TOKENS, LABEL_TOKENS = 600, 10  # upper estimates: system prompt, tools and question; the second behind a frame


def predict(
    policy: Policy,
    tasks: Sequence[Task],
    store: FrameStore,
    budget: ToolBudget,
    system: str,
    tools: bool = True,
    oracle_turns: Sequence[Sequence[str]] | None = None,
    temperature: float = 0.0,
    judge: Judge = exact,
    environment: Callable[[Task], ClinicalVideoEnvironment] | None = None,
) -> list[Prediction]:
    """Answer every task once, greedily (`temperature` 0) or sampled with torch's global generator.

    `oracle_turns` are written as the first turns of each task in place of the model's own. `environment` makes the
    environment of a task (default: a plain one). The policy's feature cache is used and left as it was found, even
    where the judge (`JudgeError`) or a video (`VideoError`) fails. Of several processes each answers batches of its
    own, and all return every prediction in the order of the tasks; sampled answers are refused there (ValueError).
    """
    if temperature and process_count() > 1:
        raise ValueError(
            f"temperature={temperature:g} on {process_count()} processes: answers are drawn from one generator, task "
            "after task; sample in one process, or answer greedily (temperature 0)"
        )
    make = environment or (lambda _: ClinicalVideoEnvironment(store, budget))
    made: list[list[Prediction]] = []
    cached = policy.cache_features
    policy.cache_features = True
    part = -(-len(tasks) // process_count())
    try:
        with tqdm(total=part, desc=system, unit="task", disable=not is_first_process()) as progress:
            for numbers in own_part(batches(tasks, store, budget)):
                batch = [tasks[number] for number in numbers]
                turns = None if oracle_turns is None else [oracle_turns[number] for number in numbers]
                environments = [make(task) for task in batch]
                rollouts = generate(
                    policy, batch, environments, tools=tools, temperature=temperature, forced_turns=turns
                )
                made.append(judged(policy, batch, rollouts, system, judge))
                progress.update(len(batch))
    finally:
        policy.cache_features = cached
        policy.forget_features()
    return [prediction for some in merged(made) for prediction in some]


def judged(
    policy: Policy, tasks: Sequence[Task], rollouts: Sequence[Rollout], system: str, judge: Judge
) -> list[Prediction]:
    """Rollouts with the judge's verdicts as predictions."""
    answers = [parse_answer(rollout.turns[-1]) for rollout in rollouts]
    verdicts = judge([(task.question, answer, task.reference) for task, answer in zip(tasks, answers, strict=True)])
    return [
        Prediction(
            task=task,
            system=system,
            turns=tuple(rollout.turns),
            calls=tuple(rollout.trace.calls),
            accuracy=verdict,
            confidence=confidence(policy, rollout),
            tokens=sum(rollout.assistant_mask),
            tool_frames=len(rollout.images),
        )
        for task, rollout, verdict in zip(tasks, rollouts, verdicts, strict=True)
    ]


def batches(tasks: Sequence[Task], store: FrameStore, budget: ToolBudget) -> Iterator[range]:
    """Runs of tasks by their numbers: at most 64, whose prompts, padded to the longest, hold at most 65 536 tokens."""
    first = longest = 0
    for number, task in enumerate(tasks):
        tokens = prompt_tokens(store.video(task.path).duration, budget)
        padded = (number - first + 1) * max(longest, tokens)
        if number > first and (number - first == MAX_ROWS or padded > BATCH_TOKENS):
            yield range(first, number)
            first, longest = number, 0
        longest = max(longest, tokens)
    if tasks:
        yield range(first, len(tasks))


def prompt_tokens(duration: float, budget: ToolBudget) -> int:
    """An upper estimate of a prompt's tokens: the skim of a video of `duration` seconds, and the text around it."""
    frames = len(skim_seconds(duration, budget.skim_frames))
    return frames * (budget.skim_pixels // PATCH_FACTOR**2 + LABEL_TOKENS) + TEXT_TOKENS


def confidence(policy: Policy, rollout: Rollout) -> float:
    """The model's probability of the tokens behind `<answer>` in its last turn, 0 to 1; 0 without an answer.

    The first token that completes the tag is found by bisection: a turn is decoded log(n) times, not n times.
    """
    ids = rollout.spans[-1].ids
    start = bisect_left(range(len(ids)), True, key=lambda n: "<answer>" in policy.tokenizer.decode(ids[: n + 1]))
    return float(np.exp(sum(rollout.logps[-len(ids) :][start + 1 :]))) if start < len(ids) else 0.0
