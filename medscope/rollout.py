"""Batched multi-turn rollouts: training, evaluation and `explore` all generate with `roll_out`.

Pays for the video once (see `context`): the prompt is prefilled once per question and its cache shared by the group,
what follows is cached over tool turns, finished rollouts leave, and nobody waits for one that talks on and on.
"""

from dataclasses import dataclass, field
from typing import Any

import torch
from PIL import Image

from medscope.context import Context, Piece
from medscope.dialogue import TOOLS, execute_call, opening
from medscope.environment import Blocks, ClinicalVideoEnvironment
from medscope.policy import Policy

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
    prompt: Piece
    tools: bool = True  # whether its calls are executed
    pieces: list[Piece] = field(default_factory=lambda: [Piece([], spoken=True)])
    turns: list[str] = field(default_factory=list)
    logps: list[float] = field(default_factory=list)  # of the sampled tokens, under the sampling distribution

    @property
    def completion(self) -> list[int]:
        return [token for piece in self.pieces for token in piece.ids]

    @property
    def spoken_mask(self) -> list[bool]:
        """True for the model's own tokens, False for tool responses and frames."""
        return [piece.spoken for piece in self.pieces for _ in piece.ids]

    @property
    def images(self) -> list[Image.Image]:
        return [image for piece in self.pieces for image in piece.images]


def blocks_piece(policy: Policy, blocks: Blocks, head: str = "", tail: str = "") -> Piece:
    """Encode content blocks of a chat message between two texts."""
    images = [block["image"] for block in blocks if block["type"] == "image"]
    text = "".join(FRAME_TEXT if block["type"] == "image" else block["text"] for block in blocks)
    return Piece(policy.encode(head + text + tail, images), images)


def prompt_piece(policy: Policy, messages: list[dict[str, Any]], tools: bool) -> Piece:
    """Encode the opening messages with the chat template, up to where the assistant speaks."""
    text = policy.processor.apply_chat_template(
        messages, tools=TOOLS if tools else None, add_generation_prompt=True, tokenize=False
    )
    images = [
        b["image"] for m in messages if isinstance(m["content"], list) for b in m["content"] if b["type"] == "image"
    ]
    return Piece(policy.encode(text, images), images)


def open_rollouts(
    policy: Policy, environments: list[ClinicalVideoEnvironment], questions: list[str], group: int, tools: bool = True
) -> list[Rollout]:
    """`group` dialogues for every question, nothing said yet, in the order of `environments`."""
    if len(environments) != group * len(questions):
        raise ValueError(
            f"{len(questions)} questions x {group} rollouts need as many environments, not {len(environments)}"
        )
    prompts = [
        prompt_piece(policy, opening(question, environments[i * group]._skim(), tools), tools)
        for i, question in enumerate(questions)
    ]
    return [Rollout(environment, prompts[i // group], tools) for i, environment in enumerate(environments)]


def hear(policy: Policy, rollout: Rollout) -> Piece | None:
    """Execute the call in the turn that this rollout has ended. The response, or None where the dialogue is over."""
    ids = rollout.pieces[-1].ids
    ended = ids[-1] == policy.turn_end
    rollout.turns.append(policy.tokenizer.decode(ids[:-1] if ended else ids))
    out_of_turns = len(rollout.turns) > rollout.environment._limits.max_calls + 1
    may_call = rollout.tools and ended and not out_of_turns
    response = execute_call(rollout.environment, rollout.turns[-1]) if may_call else None
    if response is None:
        return None
    heard = blocks_piece(policy, response, RESPONSE_HEAD, RESPONSE_TAIL)
    rollout.pieces += [heard, Piece([], spoken=True)]
    return heard


@dataclass
class Cohort:
    """Rollouts that advance together: their context, and what is fed to each of them next."""

    context: Context
    rollouts: list[Rollout]
    fed: list[Piece]

    def select(self, rows: list[int], fed: list[Piece]) -> "Cohort":
        return Cohort(self.context.select(rows), [self.rollouts[row] for row in rows], fed)


def roll_out(
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
    limits). Returns rollouts in the order of `environments`.
    """
    max_turn_tokens = max_turn_tokens or environments[0]._limits.max_turn_tokens
    was_training = policy.model.training
    policy.model.eval()
    with torch.no_grad():
        rollouts = open_rollouts(policy, environments, questions, group, tools)
        context = Context(policy, len(questions))
        context.extend([Piece(first.prompt.ids[:-1], first.prompt.images) for first in rollouts[::group]])
        context = context.fork([i // group for i in range(len(rollouts))])
        cohort = Cohort(context, rollouts, [Piece(rollout.prompt.ids[-1:]) for rollout in rollouts])
        cohorts = [cohort] if forced_turns is None else _force(policy, cohort, forced_turns)
        while cohorts:
            cohorts += _speak(policy, cohorts.pop(), temperature, max_turn_tokens)
    policy.model.train(was_training)
    return rollouts


def _force(policy: Policy, cohort: Cohort, turns: list[str]) -> list[Cohort]:
    """Write a turn for every rollout; the cohort that goes on."""
    for rollout, turn in zip(cohort.rollouts, turns, strict=True):
        rollout.pieces[-1].ids += [*policy.encode(turn), policy.turn_end]
    said = [rollout.pieces[-1].ids[:-1] for rollout in cohort.rollouts]
    cohort.context.extend([Piece(piece.ids + ids) for piece, ids in zip(cohort.fed, said, strict=True)])
    return _answer(policy, cohort, list(range(len(turns))))


def _speak(policy: Policy, cohort: Cohort, temperature: float, max_turn_tokens: int) -> list[Cohort]:
    """One turn of every rollout, up to and with `<|im_end|>` (sampled, but not yet fed). Returns who goes on.

    Once few still speak they become a cohort of their own, and the others are answered.
    """
    banned = torch.tensor(policy.unspoken, device=policy.device)
    speaking = list(range(len(cohort.rollouts)))
    while len(speaking) * STRAGGLERS > len(cohort.rollouts):
        logits = policy.base.lm_head(cohort.context.extend(cohort.fed)[:, -1]).float()
        logps = torch.log_softmax(logits.index_fill(-1, banned, -torch.inf) / (temperature or 1.0), dim=-1)
        tokens = logps.argmax(-1) if temperature == 0 else torch.multinomial(logps.exp(), 1)[:, 0]
        chosen, said = logps.gather(-1, tokens[:, None])[:, 0].tolist(), tokens.tolist()
        cohort.fed = [Piece([]) for _ in cohort.rollouts]
        for row in list(speaking):
            turn, token = cohort.rollouts[row].pieces[-1], said[row]
            turn.ids.append(token)
            cohort.rollouts[row].logps.append(chosen[row])
            if token == policy.turn_end or len(turn.ids) == max_turn_tokens:
                speaking.remove(row)  # its last token is fed with the response
            else:
                cohort.fed[row] = Piece([token])
    silent = [row for row in range(len(cohort.rollouts)) if row not in speaking]
    stragglers = [cohort.select(speaking, [cohort.fed[row] for row in speaking])] if speaking else []
    return stragglers + _answer(policy, cohort, silent)


def _answer(policy: Policy, cohort: Cohort, rows: list[int]) -> list[Cohort]:
    """Execute the calls in the turns that these rows have ended; the cohort of those that got a response."""
    going, fed = [], []
    for row in rows:
        heard = hear(policy, cohort.rollouts[row])
        if heard is not None:
            going.append(row)
            fed.append(Piece([policy.turn_end, *heard.ids], heard.images))
    return [cohort.select(going, fed)] if going else []
