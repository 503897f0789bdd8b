"""Text with frames to token ids, with trusted template and untrusted text apart.

Trusted text is the chat template, the system prompt and the tool definitions: its control tokens are tokens. All that
comes from outside (questions, captions, labels, tool errors) is untrusted: a special or added token in it is encoded
as plain characters, so that it can neither open a role nor stand for a frame. In an assistant's turn only the tags of
the grammar are tokens. SFT and rollouts encode by these functions alone, so that training and acting never differ.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from PIL import Image
from transformers import PreTrainedTokenizerFast

from medscope.agents.features import visual_tokens
from medscope.agents.policy import IMAGE_TOKEN, Policy
from medscope.environment.environment import Blocks
from medscope.environment.grammar import TAGS
from medscope.environment.prompts import TOOLS

FRAME_START, FRAME_END = "<|vision_start|>", "<|vision_end|>"
RESPONSE_HEAD = "\n<|im_start|>user\n<tool_response>\n"
RESPONSE_TAIL = "\n</tool_response><|im_end|>\n<|im_start|>assistant\n"
_CONTENT = "\ue000"  # stands for a message's content while the template is rendered; private use, in no template


@dataclass
class TokenSpan:
    """A part of a dialogue, encoded: token ids, the frames in order, and whether the model itself wrote it.

    `captioned` are the captions that stand in the place of a frame: the first token of each, and the side of the frame
    in visual tokens.
    """

    ids: list[int]
    images: list[Image.Image] = field(default_factory=list)
    assistant: bool = False
    captioned: list[tuple[int, int]] = field(default_factory=list)


def encode_prompt(policy: Policy, messages: Sequence[dict[str, Any]], tools: bool) -> TokenSpan:
    """Encode messages with the chat template, up to where the assistant speaks; with `tools`, their definitions.

    Contents are texts or blocks. Raises ValueError where the system prompt itself holds the sentinel of a content.
    """
    replaced = [m if m["role"] == "system" else {**m, "content": _CONTENT} for m in messages]
    rendered = policy.processor.apply_chat_template(
        replaced, tools=TOOLS if tools else None, add_generation_prompt=True, tokenize=False
    )
    first, *rest = rendered.split(_CONTENT)
    contents = [message for message in messages if message["role"] != "system"]
    if len(rest) != len(contents):
        raise ValueError(
            f"the chat template shows {len(rest)} of {len(contents)} contents; is {_CONTENT!r} in a prompt?"
        )
    parts = _Parts(policy)
    parts.trust(first)
    for message, template in zip(contents, rest, strict=True):
        if message["role"] == "assistant":
            parts.add_ids(_encode_untrusted(policy, [message["content"]], TAGS)[0])
        else:
            parts.add_content(message["content"])
        parts.trust(template)
    return parts.span()


def encode_blocks(policy: Policy, blocks: Blocks, head: str = "", tail: str = "") -> TokenSpan:
    """Encode untrusted content blocks between two trusted texts (`RESPONSE_HEAD` and `RESPONSE_TAIL` for a response).

    A block is {"type": "image", "image": PIL}, {"type": "text", "text": ..} or {"type": "caption", "text": .., "side":
    n}, words in the place of a frame of n x n visual tokens: they fill these places, each word as many, and have the
    positions of the frame. Captions with more tokens than places, and all of `side` 0, are plain text.
    """
    parts = _Parts(policy)
    parts.trust(head)
    parts.add_content(blocks)
    parts.trust(tail)
    return parts.span()


def encode_turn(policy: Policy, turn: str) -> TokenSpan:
    """Encode an assistant's turn with the `<|im_end|>` that ends it; in its text only the grammar's tags are tokens."""
    return TokenSpan([*_encode_untrusted(policy, [turn], TAGS)[0], policy.turn_end], assistant=True)


class _Parts:
    """A span in the making: token ids and untrusted texts in order. Untrusted texts side by side are one text."""

    def __init__(self, policy: Policy):
        self.policy = policy
        self.parts: list[list[int] | str] = []
        self.images: list[Image.Image] = []
        self.sides: dict[int, int] = {}  # of the frames that captions stand for, by their part

    def trust(self, text: str) -> None:
        self.add_ids(self.policy.encode(text))

    def add_ids(self, ids: list[int]) -> None:
        if ids:  # frame brackets are no tokens of the tiny profile: the texts around them are then one text
            self.parts.append(ids)

    def add_text(self, text: str) -> None:
        if self.parts and isinstance(self.parts[-1], str):
            self.parts[-1] += text
        else:
            self.parts.append(text)

    def add_content(self, content: str | Blocks) -> None:
        start, end = _frame_brackets(self.policy)
        for block in [{"type": "text", "text": content}] if isinstance(content, str) else content:
            if block["type"] == "text":
                self.add_text(block["text"])
                continue
            self.add_ids(start)
            if block["type"] == "image":
                self.add_ids([self.policy.image_token] * visual_tokens(block["image"]))
                self.images.append(block["image"])
            elif block["type"] == "caption":
                self.add_caption(block["text"], block["side"])
            else:
                raise ValueError(f"a content block of type {block['type']!r} is unknown; use image, caption or text")
            self.add_ids(end)

    def add_caption(self, text: str, side: int) -> None:
        (words,), places = _encode_untrusted(self.policy, [text]), side**2
        if not 0 < len(words) <= places:
            return self.add_text(text)
        self.sides[len(self.parts)] = side
        self.add_ids([words[place * len(words) // places] for place in range(places)])

    def span(self) -> TokenSpan:
        texts = iter(_encode_untrusted(self.policy, [part for part in self.parts if isinstance(part, str)]))
        ids: list[int] = []
        captioned = []
        for number, part in enumerate(self.parts):
            if number in self.sides:
                captioned.append((len(ids), self.sides[number]))
            ids += next(texts) if isinstance(part, str) else part
        return TokenSpan(ids, self.images, captioned=captioned)


def _frame_brackets(policy: Policy) -> tuple[list[int], list[int]]:
    return policy.encode(FRAME_START), policy.encode(FRAME_END)


def _encode_untrusted(policy: Policy, texts: Sequence[str], allowed: Sequence[str] = ()) -> list[list[int]]:
    """Token ids of every text, no special or added token but the `allowed` ones among them."""
    pattern, banned = _control_tokens(policy.tokenizer, tuple(allowed))
    pieces = [list(_split(text, pattern)) for text in texts]
    flat = [piece for split in pieces for piece in split]
    encoded = iter(policy.tokenizer(flat, add_special_tokens=False)["input_ids"] if flat else [])
    ids = [[token for _ in split for token in next(encoded)] for split in pieces]
    for text, tokens in zip(texts, ids, strict=True):
        if not banned.isdisjoint(tokens):
            raise ValueError(f"the tokenizer makes a control token of untrusted text: {text[:200]!r}")
    return ids


def _split(text: str, pattern: re.Pattern[str]) -> Iterator[str]:
    """The text, cut behind the first character of every control token, so that no part holds a whole one."""
    while found := pattern.search(text):
        yield text[: found.start() + 1]
        text = text[found.start() + 1 :]
    if text:
        yield text


@lru_cache(maxsize=16)
def _control_tokens(
    tokenizer: PreTrainedTokenizerFast, allowed: tuple[str, ...]
) -> tuple[re.Pattern[str], frozenset[int]]:
    """A pattern of the tokenizer's special and added tokens (but the `allowed`), and their ids.

    Frame brackets belong to them even where a tokenizer has none and drops them (the tiny profile).
    """
    added = {token: number for token, number in tokenizer.get_added_vocab().items() if token not in allowed}
    names = {*added, IMAGE_TOKEN, FRAME_START, FRAME_END}
    return re.compile("|".join(re.escape(name) for name in names)), frozenset(added.values())
