"""Batched multi-turn rollouts: training, evaluation and `explore` all generate with `roll_out`.

Pays for the video once: the prompt is prefilled once per question and its cache expanded to the group, the cache is
kept over tool turns (only new tokens and frames are added), features are cached per frame, finished rollouts leave.
Rows of different length are padded on the left; padding and finished turns stay in the cache as masked holes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import DynamicCache

from medscope.dialogue import TOOLS, find_tool_call, opening, parse_tool_call
from medscope.environment import Blocks, ClinicalVideoEnvironment
from medscope.policy import Policy
from medscope.tools import ToolError
from medscope.video import PATCH_FACTOR

FRAME_TEXT = "<|vision_start|><|image_pad|><|vision_end|>"
RESPONSE_HEAD, RESPONSE_TAIL = (
    "\n<|im_start|>user\n<tool_response>\n",
    "\n</tool_response><|im_end|>\n<|im_start|>assistant\n",
)


@dataclass
class Piece:
    """Text with frames in it, encoded: token ids, the frames in order, and whether the model itself wrote it."""

    ids: list[int]
    images: list[Image.Image] = field(default_factory=list)
    spoken: bool = False


@dataclass
class Rollout:
    """One dialogue: its environment (what was executed) and its pieces (what was said and seen), in order."""

    environment: ClinicalVideoEnvironment
    prompt: Piece
    pieces: list[Piece] = field(default_factory=list)
    turns: list[str] = field(default_factory=list)
    logps: list[float] = field(default_factory=list)  # of the sampled tokens, under the sampling distribution
    done: bool = False

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


def execute_call(environment: ClinicalVideoEnvironment, turn: str) -> Blocks | None:
    """Run the turn's tool call; None when it makes none. A refused call answers with an error the model can act on."""
    call = find_tool_call(turn)
    if call is None:
        return None
    try:
        name, arguments = parse_tool_call(call)
    except ToolError as error:
        environment._refuse(call, error)
        return [{"type": "text", "text": f"error: {error}"}]
    try:
        return environment._execute(name, arguments)
    except ToolError as error:
        return [{"type": "text", "text": f"error: {error}"}]


def rope_positions(ids: Sequence[int], images: Sequence[Image.Image], image_token: int, start: int) -> np.ndarray:
    """Multimodal rotary positions [3, n] (time, height, width) of a piece that begins at `start`.

    Text advances by one; an image of h x w tokens stands at one time and advances by max(h, w), as in Qwen2.5-VL.
    """
    positions = np.empty((3, len(ids)), dtype=np.int64)
    frames, index, now = iter(images), 0, start
    while index < len(ids):
        if ids[index] != image_token:
            positions[:, index] = now
            index, now = index + 1, now + 1
            continue
        image = next(frames)
        height, width = image.height // PATCH_FACTOR, image.width // PATCH_FACTOR
        rows, columns = np.divmod(np.arange(height * width), width)
        positions[:, index : index + height * width] = now + np.stack([np.zeros_like(rows), rows, columns])
        index, now = index + height * width, now + max(height, width)
    return positions


class Context:
    """A batch of dialogues inside the language model: cache, attention mask and next position of every row."""

    def __init__(self, policy: Policy):
        self.policy = policy
        self.cache = DynamicCache(config=policy.base.config.text_config)
        self.mask = torch.zeros(0, 0, dtype=torch.long, device=policy.device)
        self.next_position = np.zeros(0, dtype=np.int64)

    def extend(self, pieces: list[Piece], keep: int = 1) -> torch.Tensor:
        """Feed a piece to every row, padded on the left; logits [rows, keep, vocabulary] of the last `keep` tokens."""
        policy, device = self.policy, self.policy.device
        if self.mask.shape[0] == 0:
            self.mask = self.mask.new_zeros(len(pieces), 0)
            self.next_position = np.zeros(len(pieces), dtype=np.int64)
        width = max(len(piece.ids) for piece in pieces)
        ids = torch.full((len(pieces), width), policy.tokenizer.pad_token_id)
        mask = torch.zeros(len(pieces), width, dtype=torch.long)
        positions = np.zeros((3, len(pieces), width), dtype=np.int64)
        for row, piece in enumerate(pieces):
            if piece.ids:
                here = slice(width - len(piece.ids), width)
                ids[row, here], mask[row, here] = torch.tensor(piece.ids), 1
                positions[:, row, here] = rope_positions(
                    piece.ids, piece.images, policy.image_token, int(self.next_position[row])
                )
                self.next_position[row] = positions[:, row, -1].max() + 1
        ids = ids.to(device)
        embeddings = policy.base.get_input_embeddings()(ids)
        images = [image for piece in pieces for image in piece.images]
        if images:
            features = torch.cat(policy.features(images)).to(embeddings)
            where = ids == policy.image_token
            if int(where.sum()) != len(features):
                raise ValueError(f"{int(where.sum())} image tokens for {len(features)} visual features")
            embeddings = embeddings.masked_scatter(where[..., None], features)
        self.mask = torch.cat([self.mask, mask.to(device)], dim=1)
        return policy.base(
            inputs_embeds=embeddings,
            attention_mask=self.mask,
            position_ids=torch.from_numpy(positions).to(device),
            past_key_values=self.cache,
            use_cache=True,
            logits_to_keep=keep,
        ).logits

    def expand(self, times: int) -> None:
        """Repeat every row `times` times (a prompt becomes its group)."""
        self.cache.batch_repeat_interleave(times)
        self.mask = self.mask.repeat_interleave(times, dim=0)
        self.next_position = self.next_position.repeat(times)

    def keep(self, rows: list[int]) -> None:
        """Drop every row but these."""
        index = torch.tensor(rows, device=self.policy.device)
        self.cache.batch_select_indices(index)
        self.mask, self.next_position = self.mask[index], self.next_position[rows]


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

    `environments` holds `group` reset environments per question, in a row. `forced_turns` writes the first turn of
    every question instead of the model (the oracle window); a turn is cut after `max_turn_tokens` (default: that of the
    limits). Returns rollouts in the order of `environments`.
    """
    if len(environments) != group * len(questions):
        raise ValueError(
            f"{len(questions)} questions x {group} rollouts need as many environments, not {len(environments)}"
        )
    max_turn_tokens = max_turn_tokens or environments[0]._limits.max_turn_tokens
    was_training = policy.model.training
    policy.model.eval()
    with torch.no_grad():
        prompts = [
            prompt_piece(policy, opening(question, environments[i * group]._skim(), tools), tools)
            for i, question in enumerate(questions)
        ]
        rollouts = [Rollout(env, prompts[i // group]) for i, env in enumerate(environments)]
        context = Context(policy)
        logits = context.extend(prompts)[:, -1]
        context.expand(group)
        _converse(
            policy,
            context,
            rollouts,
            logits.repeat_interleave(group, dim=0),
            temperature,
            max_turn_tokens,
            forced_turns,
        )
    policy.model.train(was_training)
    return rollouts


def _converse(
    policy: Policy,
    context: Context,
    rollouts: list[Rollout],
    logits: torch.Tensor,
    temperature: float,
    max_turn_tokens: int,
    forced_turns: list[str] | None,
) -> None:
    """Turn by turn: the model speaks, its calls are executed, the responses are fed back, until nobody calls."""
    active = list(rollouts)
    while active:
        if forced_turns is not None:
            spoken = [Piece([*policy.encode(turn), policy.turn_end], spoken=True) for turn in forced_turns]
            context.extend([Piece(piece.ids[:-1]) for piece in spoken])
            forced_turns = None
        else:
            spoken = _speak(policy, context, active, logits, temperature, max_turn_tokens)
        going, responses = [], []
        for row, (rollout, piece) in enumerate(zip(active, spoken, strict=True)):
            ended = piece.ids[-1] == policy.turn_end
            turn = policy.tokenizer.decode(piece.ids[:-1] if ended else piece.ids)
            rollout.pieces.append(piece)
            rollout.turns.append(turn)
            out_of_turns = len(rollout.turns) > rollout.environment._limits.max_calls + 1
            response = execute_call(rollout.environment, turn) if ended and not out_of_turns else None
            rollout.done = response is None
            if response is not None:
                rollout.pieces.append(blocks_piece(policy, response, RESPONSE_HEAD, RESPONSE_TAIL))
                going.append(row)
                heard = rollout.pieces[-1]
                responses.append(Piece([policy.turn_end, *heard.ids], heard.images))
        active = [active[row] for row in going]
        if active:
            context.keep(going)
            logits = context.extend(responses)[:, -1]


def _speak(
    policy: Policy,
    context: Context,
    active: list[Rollout],
    logits: torch.Tensor,
    temperature: float,
    max_turn_tokens: int,
) -> list[Piece]:
    """One turn of every row: tokens up to and with `<|im_end|>`. The last token is sampled but not yet fed."""
    spoken = [Piece([], spoken=True) for _ in active]
    going = np.ones(len(active), dtype=bool)
    banned = torch.tensor(policy.unspoken, device=policy.device)
    for step in range(max_turn_tokens):
        logps = torch.log_softmax(logits.float().index_fill(-1, banned, -torch.inf) / (temperature or 1.0), dim=-1)
        tokens = logps.argmax(-1) if temperature == 0 else torch.multinomial(logps.exp(), 1)[:, 0]
        chosen = logps.gather(-1, tokens[:, None])[:, 0].tolist()
        for row, token in enumerate(tokens.tolist()):
            if going[row]:
                spoken[row].ids.append(token)
                active[row].logps.append(chosen[row])
                going[row] = token != policy.turn_end
        if not going.any() or step + 1 == max_turn_tokens:
            break
        fed = [Piece([piece.ids[-1]] if going[row] else []) for row, piece in enumerate(spoken)]
        logits = context.extend(fed)[:, -1]
    return spoken
