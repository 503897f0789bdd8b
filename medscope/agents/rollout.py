"""Batched multi-turn rollouts: training, evaluation and `explore` all generate with `generate`.

Pays for the video once (see `context`): the prompt is prefilled once per question and its cache shared by the group,
what follows is cached over tool turns, finished rollouts leave, and nobody waits for one that talks on and on.
"""

from dataclasses import dataclass, field
from typing import Any

import torch
from PIL import Image

from medscope.agents.context import Context, TokenSpan
from medscope.environment.dialogue import TOOLS, execute_call, opening
from medscope.environment.environment import Blocks, ClinicalVideoEnvironment
from medscope.agents.policy import Policy

STRAGGLERS = 2  # a turn ends for the others once at most one rollout in so many still speaks
FRAME_TEXT = "<|vision_start|><|image_pad|><|vision_end|>"
RESPONSE_HEAD, RESPONSE_TAIL = (
    "\n<|im_start|>user\n<tool_response>\n",
    "\n</tool_response><|im_end|>\n<|im_start|>assistant\n",
)


@dataclass
class Rollout:
    """One dialogue: its environment (what was executed) and its pieces (what was said and seen), in order.

    The last piece is the turn that the model is speaking, or its last one.
    """

    environment: ClinicalVideoEnvironment
    prompt: TokenSpan
    tools: bool = True  # whether its calls are executed
    pieces: list[TokenSpan] = field(default_factory=lambda: [TokenSpan([], assistant=True)])
    turns: list[str] = field(default_factory=list)
    logps: list[float] = field(default_factory=list)  # of the sampled tokens, under the sampling distribution

    @property
    def completion(self) -> list[int]:
        return [token for piece in self.pieces for token in piece.ids]

    @property
    def assistant_mask(self) -> list[bool]:
        """True for the model's own tokens, False for tool responses and frames."""
        return [piece.assistant for piece in self.pieces for _ in piece.ids]

    @property
    def images(self) -> list[Image.Image]:
        return [image for piece in self.pieces for image in piece.images]


def encode_blocks(policy: Policy, blocks: Blocks, head: str = "", tail: str = "") -> TokenSpan:
    """Encode content blocks of a chat message between two texts."""
    images = [block["image"] for block in blocks if block["type"] == "image"]
    text = "".join(FRAME_TEXT if block["type"] == "image" else block["text"] for block in blocks)
    return TokenSpan(policy.encode(head + text + tail, images), images)


def encode_prompt(policy: Policy, messages: list[dict[str, Any]], tools: bool) -> TokenSpan:
    """Encode the opening messages with the chat template, up to where the assistant speaks."""
    text = policy.processor.apply_chat_template(
        messages, tools=TOOLS if tools else None, add_generation_prompt=True, tokenize=False
    )
    images = [
        b["image"] for m in messages if isinstance(m["content"], list) for b in m["content"] if b["type"] == "image"
    ]
    return TokenSpan(policy.encode(text, images), images)


def open_rollouts(
    policy: Policy, environments: list[ClinicalVideoEnvironment], questions: list[str], group: int, tools: bool = True
) -> list[Rollout]:
    """`group` dialogues for every question, nothing said yet, in the order of `environments`."""
    if len(environments) != group * len(questions):
        raise ValueError(
            f"{len(questions)} questions x {group} rollouts need as many environments, not {len(environments)}"
        )
    prompts = [
        encode_prompt(policy, opening(question, environments[i * group]._skim(), tools), tools)
        for i, question in enumerate(questions)
    ]
    return [Rollout(environment, prompts[i // group], tools) for i, environment in enumerate(environments)]


def environment_step(policy: Policy, rollout: Rollout) -> TokenSpan | None:
    """Execute the call in the turn that this rollout has ended. The response, or None where the dialogue is over."""
    ids = rollout.pieces[-1].ids
    ended = ids[-1] == policy.turn_end
    rollout.turns.append(policy.tokenizer.decode(ids[:-1] if ended else ids))
    out_of_turns = len(rollout.turns) > rollout.environment._budget.max_calls + 1
    may_call = rollout.tools and ended and not out_of_turns
    response = execute_call(rollout.environment, rollout.turns[-1]) if may_call else None
    if response is None:
        return None
    heard = encode_blocks(policy, response, RESPONSE_HEAD, RESPONSE_TAIL)
    rollout.pieces += [heard, TokenSpan([], assistant=True)]
    return heard


@dataclass
class RolloutBatch:
    """Rollouts that advance together: their context, and what is fed to each of them next."""

    context: Context
    rollouts: list[Rollout]
    fed: list[TokenSpan]

    def select(self, rows: list[int], fed: list[TokenSpan]) -> "RolloutBatch":
        return RolloutBatch(self.context.select(rows), [self.rollouts[row] for row in rows], fed)


def generate(
    policy: Policy,
    environments: list[ClinicalVideoEnvironment],
    questions: list[str],
    group: int = 1,
    tools: bool = True,
    temperature: float = 0.0,
    max_turn_tokens: int | None = None,
    forced_turns: list[str] | None = None,
) -> list[Rollout]:
    """Answer every question `group` times, greedily (`temperature` 0) or sampled with torch's global generator.

    Without `tools` none are offered, and a call made all the same is not executed: it ends the dialogue.
    `environments` holds `group` reset environments per question, in a row. `forced_turns` writes the first turn of
    every rollout instead of the model (the oracle window); a turn is cut after `max_turn_tokens` (default: that of the
    budget). Returns rollouts in the order of `environments`.
    """
    max_turn_tokens = max_turn_tokens or environments[0]._budget.max_turn_tokens
    was_training = policy.model.training
    policy.model.eval()
    with torch.no_grad():
        rollouts = open_rollouts(policy, environments, questions, group, tools)
        context = Context(policy, len(questions))
        context.extend([TokenSpan(first.prompt.ids[:-1], first.prompt.images) for first in rollouts[::group]])
        context = context.fork([i // group for i in range(len(rollouts))])
        batch = RolloutBatch(context, rollouts, [TokenSpan(rollout.prompt.ids[-1:]) for rollout in rollouts])
        batches = [batch] if forced_turns is None else _force(policy, batch, forced_turns)
        while batches:
            batches += _generate_turn(policy, batches.pop(), temperature, max_turn_tokens)
    policy.model.train(was_training)
    return rollouts


def _force(policy: Policy, batch: RolloutBatch, turns: list[str]) -> list[RolloutBatch]:
    """Write a turn for every rollout; the batch that goes on."""
    for rollout, turn in zip(batch.rollouts, turns, strict=True):
        rollout.pieces[-1].ids += [*policy.encode(turn), policy.turn_end]
    said = [rollout.pieces[-1].ids[:-1] for rollout in batch.rollouts]
    batch.context.extend([TokenSpan(piece.ids + ids) for piece, ids in zip(batch.fed, said, strict=True)])
    return _answer(policy, batch, list(range(len(turns))))


def _generate_turn(policy: Policy, batch: RolloutBatch, temperature: float, max_turn_tokens: int) -> list[RolloutBatch]:
    """One turn of every rollout, up to and with `<|im_end|>` (sampled, but not yet fed). Returns who goes on.

    Once few still speak they become a batch of their own, and the others are answered.
    """
    banned = torch.tensor(policy.suppressed_tokens, device=policy.device)
    speaking = list(range(len(batch.rollouts)))
    while len(speaking) * STRAGGLERS > len(batch.rollouts):
        logits = policy.base.lm_head(batch.context.extend(batch.fed)[:, -1]).float()
        logps = torch.log_softmax(logits.index_fill(-1, banned, -torch.inf) / (temperature or 1.0), dim=-1)
        tokens = logps.argmax(-1) if temperature == 0 else torch.multinomial(logps.exp(), 1)[:, 0]
        chosen, said = logps.gather(-1, tokens[:, None])[:, 0].tolist(), tokens.tolist()
        batch.fed = [TokenSpan([]) for _ in batch.rollouts]
        for row in list(speaking):
            turn, token = batch.rollouts[row].pieces[-1], said[row]
            turn.ids.append(token)
            batch.rollouts[row].logps.append(chosen[row])
            if token == policy.turn_end or len(turn.ids) == max_turn_tokens:
                speaking.remove(row)  # its last token is fed with the response
            else:
                batch.fed[row] = TokenSpan([token])
    silent = [row for row in range(len(batch.rollouts)) if row not in speaking]
    stragglers = [batch.select(speaking, [batch.fed[row] for row in speaking])] if speaking else []
    return stragglers + _answer(policy, batch, silent)


def _answer(policy: Policy, batch: RolloutBatch, rows: list[int]) -> list[RolloutBatch]:
    """Execute the calls in the turns that these rows have ended; the batch of those that got a response."""
    going, fed = [], []
    for row in rows:
        heard = environment_step(policy, batch.rollouts[row])
        if heard is not None:
            going.append(row)
            fed.append(TokenSpan([policy.turn_end, *heard.ids], heard.images))
    return [batch.select(going, fed)] if going else []
