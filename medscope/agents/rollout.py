"""Batched multi-turn rollouts: training, evaluation and `explore` all generate with `generate`.

The video is read once (see `context`): the prompt is prefilled once per task and its cache shared by the group, what
follows is cached over tool turns, finished rollouts leave the batch, and a turn that goes on and on holds nobody up.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from PIL import Image

from medscope.agents.context import Context, prefill
from medscope.agents.encoding import (
    RESPONSE_HEAD,
    RESPONSE_TAIL,
    TokenSpan,
    encode_blocks,
    encode_prompt,
    encode_turn,
)
from medscope.agents.lengths import check_prompt, context_limit, longest_completion
from medscope.agents.policy import Policy
from medscope.agents.protocol import may_call
from medscope.environment.environment import Blocks, ClinicalVideoEnvironment, Trace, refuse_last, skim, step
from medscope.environment.prompts import opening
from medscope.records import Task

STRAGGLERS = 2  # a turn ends for the others once at most one rollout in so many still speaks


@dataclass
class Rollout:
    """One dialogue: its environment, the trace of what was executed, and its spans (what was said and seen) in order.

    The last span is the turn that the model is writing, or its last one. The environment may have been reset for
    another task since; `trace` stays.
    """

    task: Task
    environment: ClinicalVideoEnvironment
    prompt: TokenSpan
    tools: bool = True  # whether its calls are executed
    trace: Trace = field(default_factory=Trace)
    spans: list[TokenSpan] = field(default_factory=lambda: [TokenSpan([], assistant=True)])
    turns: list[str] = field(default_factory=list)
    logps: list[float] = field(default_factory=list)  # of the sampled tokens, under the sampling distribution
    given: Sequence[str] = ()  # its first turns, written instead of the model

    @property
    def completion(self) -> list[int]:
        """Token ids of all spans behind the prompt."""
        return [token for span in self.spans for token in span.ids]

    @property
    def assistant_mask(self) -> list[bool]:
        """Per token of the completion: True for the model's own, False for tool responses and frames."""
        return [span.assistant for span in self.spans for _ in span.ids]

    @property
    def images(self) -> list[Image.Image]:
        """The frames of the completion in order, without those of the prompt."""
        return [image for span in self.spans for image in span.images]


@dataclass
class RolloutBatch:
    """Rollouts that advance together: their context, and what is fed to each of them next."""

    context: Context
    rollouts: list[Rollout]
    fed: list[TokenSpan]

    def select(self, rows: list[int], fed: list[TokenSpan]) -> "RolloutBatch":
        """These rows as a batch of their own, fed with `fed` next."""
        return RolloutBatch(self.context.select(rows), [self.rollouts[row] for row in rows], fed)


def generate(
    policy: Policy,
    tasks: Sequence[Task],
    environments: Sequence[ClinicalVideoEnvironment],
    num_generations: int = 1,
    tools: bool = True,
    temperature: float = 0.0,
    max_turn_tokens: int | None = None,
    forced_turns: Sequence[Sequence[str]] | None = None,
) -> list[Rollout]:
    """Answer every task `num_generations` times, greedily (`temperature` 0) or sampled with torch's global generator.

    `environments` holds `num_generations` environments per task, in a row; each is reset to its task's video. Without
    `tools` none are offered, and a call made all the same is not executed: it ends the dialogue. `forced_turns` are the
    first turns of every rollout, written instead of the model (the looks of an oracle). A turn is cut after
    `max_turn_tokens` (default: the budget's). Returns rollouts in the order of `environments`; the model's mode is as
    before, also after an error.

    Tasks whose dialogues could fill more than `Policy.cache_bytes` are generated one batch after the other. Raises
    ValueError for another number of environments and for a prompt that exceeds the context, VideoError for a video
    that cannot be read.
    """
    max_turn_tokens = max_turn_tokens or environments[0].budget.max_turn_tokens
    rollouts = open_rollouts(policy, tasks, environments, num_generations, tools, max_turn_tokens)
    if forced_turns is not None:
        _give(rollouts, forced_turns)
    was_training = policy.model.training
    policy.model.eval()
    try:
        with torch.no_grad():
            for part in _batches(policy, rollouts, num_generations):
                _generate_batch(policy, rollouts[part], num_generations, temperature, max_turn_tokens)
    finally:
        policy.model.train(was_training)
    return rollouts


def open_rollouts(
    policy: Policy,
    tasks: Sequence[Task],
    environments: Sequence[ClinicalVideoEnvironment],
    num_generations: int,
    tools: bool,
    max_turn_tokens: int,
) -> list[Rollout]:
    """Reset the environments and open `num_generations` dialogues for every task, in the order of `environments`."""
    if len(environments) != num_generations * len(tasks):
        raise ValueError(
            f"{len(tasks)} tasks x {num_generations} generations need as many environments, not {len(environments)}"
        )
    rollouts = []
    for number, environment in enumerate(environments):
        task = tasks[number // num_generations]
        environment.reset(path=task.path)
        if number % num_generations == 0:
            prompt = encode_prompt(policy, opening(task.question, skim(environment), tools), tools)
            check_prompt(policy, environment.budget, task, prompt, max_turn_tokens)
        rollouts.append(Rollout(task, environment, prompt, tools, environment.trace))
    return rollouts


def _give(rollouts: Sequence[Rollout], forced_turns: Sequence[Sequence[str]]) -> None:
    """Hand every rollout its own given turns."""
    for rollout, given in zip(rollouts, forced_turns, strict=True):
        if isinstance(given, str):
            raise ValueError(f"forced_turns holds a list of turns for every rollout; {given[:40]!r} is a single text")
        rollout.given = given


def _batches(policy: Policy, rollouts: Sequence[Rollout], num_generations: int) -> Iterator[slice]:
    """Runs of whole groups whose dialogues fit the policy's cache, however long they become; one group at least."""
    first = tokens = 0
    for start in range(0, len(rollouts), num_generations):
        prompt, budget = len(rollouts[start].prompt.ids), rollouts[start].environment.budget
        longest = min(context_limit(policy, budget) - prompt, longest_completion(budget))
        group = prompt + num_generations * longest
        if tokens and tokens + group > policy.cached_tokens:
            yield slice(first, start)
            first, tokens = start, 0
        tokens += group
    if rollouts:
        yield slice(first, len(rollouts))


def _generate_batch(
    policy: Policy,
    rollouts: list[Rollout],
    num_generations: int,
    temperature: float,
    max_turn_tokens: int,
) -> None:
    """Let these rollouts, whole groups, speak to their end."""
    prompts = [rollout.prompt for rollout in rollouts[::num_generations]]
    context = prefill(policy, [TokenSpan(prompt.ids[:-1], prompt.images) for prompt in prompts])
    context = context.fork([i // num_generations for i in range(len(rollouts))])
    batch = RolloutBatch(context, rollouts, [TokenSpan(rollout.prompt.ids[-1:]) for rollout in rollouts])
    batches = _write_given(policy, batch, max_turn_tokens)
    while batches:
        batches += _generate_turn(policy, batches.pop(), temperature, max_turn_tokens)


def _write_given(policy: Policy, batch: RolloutBatch, max_turn_tokens: int) -> list[RolloutBatch]:
    """Write the turns that rollouts are given; the batches of those that go on by themselves."""
    batches, going = [], [batch]
    while going:
        batch = going.pop()
        left = [row for row, rollout in enumerate(batch.rollouts) if len(rollout.turns) < len(rollout.given)]
        if not left:
            batches.append(batch)
            continue
        if free := [row for row in range(len(batch.rollouts)) if row not in left]:
            batches.append(batch.select(free, [batch.fed[row] for row in free]))
            batch = batch.select(left, [batch.fed[row] for row in left])
        for rollout in batch.rollouts:
            rollout.spans[-1].ids += encode_turn(policy, rollout.given[len(rollout.turns)]).ids
        written = [rollout.spans[-1].ids[:-1] for rollout in batch.rollouts]
        batch.context.extend([TokenSpan(f.ids + w, f.images) for f, w in zip(batch.fed, written, strict=True)])
        going += _respond(policy, batch, list(range(len(left))), max_turn_tokens)
    return batches


def _generate_turn(policy: Policy, batch: RolloutBatch, temperature: float, max_turn_tokens: int) -> list[RolloutBatch]:
    """One turn of every rollout, up to and with `<|im_end|>` (sampled, but not yet fed). Returns who goes on.

    Once few still speak they become a batch of their own, and the others get their responses.
    """
    suppressed = torch.tensor(policy.suppressed_tokens, device=policy.device)
    active = list(range(len(batch.rollouts)))
    while len(active) * STRAGGLERS > len(batch.rollouts):
        logits = policy.base.lm_head(batch.context.extend(batch.fed)[:, -1]).float()
        logps = torch.log_softmax(logits.index_fill(-1, suppressed, -torch.inf) / (temperature or 1.0), dim=-1)
        tokens = logps.argmax(-1) if temperature == 0 else torch.multinomial(logps.exp(), 1)[:, 0]
        token_logps, sampled = logps.gather(-1, tokens[:, None])[:, 0].tolist(), tokens.tolist()
        batch.fed = [TokenSpan([]) for _ in batch.rollouts]
        for row in list(active):
            turn, token = batch.rollouts[row].spans[-1], sampled[row]
            turn.ids.append(token)
            batch.rollouts[row].logps.append(token_logps[row])
            if token == policy.turn_end or len(turn.ids) == max_turn_tokens:
                active.remove(row)  # its last token is fed with the response
            else:
                batch.fed[row] = TokenSpan([token])
    done = [row for row in range(len(batch.rollouts)) if row not in active]
    stragglers = [batch.select(active, [batch.fed[row] for row in active])] if active else []
    return stragglers + _respond(policy, batch, done, max_turn_tokens)


def _respond(policy: Policy, batch: RolloutBatch, rows: list[int], max_turn_tokens: int) -> list[RolloutBatch]:
    """Execute the calls in the turns that these rows have ended; the batch of those that got a response."""
    going, fed = [], []
    for row in rows:
        response = environment_step(policy, batch.rollouts[row], max_turn_tokens)
        if response is not None:
            going.append(row)
            fed.append(TokenSpan([policy.turn_end, *response.ids], response.images))
    return [batch.select(going, fed)] if going else []


def environment_step(policy: Policy, rollout: Rollout, max_turn_tokens: int) -> TokenSpan | None:
    """Execute the call in the turn that this rollout has ended. The response, or None where the dialogue is over."""
    ids, environment = rollout.spans[-1].ids, rollout.environment
    ended = ids[-1] == policy.turn_end
    rollout.turns.append(policy.tokenizer.decode(ids[:-1] if ended else ids))
    if not (rollout.tools and ended and may_call(len(rollout.turns), environment.budget)):
        return None
    blocks = step(environment, rollout.turns[-1])
    response = None if blocks is None else _response_that_fits(policy, rollout, blocks, max_turn_tokens)
    if response is not None:
        rollout.spans += [response, TokenSpan([], assistant=True)]
    return response


def _response_that_fits(policy: Policy, rollout: Rollout, blocks: Blocks, max_turn_tokens: int) -> TokenSpan | None:
    """The encoded response. One that leaves no room for another turn in the context is not shown: its call counts as
    refused and the model is told so. None where not even that fits."""
    used = len(rollout.prompt.ids) + len(rollout.completion) + max_turn_tokens
    room = context_limit(policy, rollout.environment.budget) - used
    response = encode_blocks(policy, blocks, RESPONSE_HEAD, RESPONSE_TAIL)
    if len(response.ids) > room and rollout.trace.calls[-1].executed:
        blocks = refuse_last(
            rollout.environment,
            f"these frames take {len(response.ids)} tokens and the context has room for {max(0, room)}; "
            "crop a shorter window, or answer now",
        )
        response = encode_blocks(policy, blocks, RESPONSE_HEAD, RESPONSE_TAIL)
    return response if len(response.ids) <= room else None
