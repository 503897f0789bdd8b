"""Builds the frozen tokenizer of the tiny profile: `python -m medscope.pipeline.tiny_tokenizer` writes the file.

Whole words and whole seconds are one token each, everything else falls back to bytes. The brackets around a frame are
dropped, so that a frame is directly followed by its second: to copy it is then one plain induction step. The fixed
system prompts, tool block included, are one token each: a 1.7M model learns them as two embeddings, a real model reads
them in full. Committed, so that it does not change when the rendered world does.
"""

import json

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers.utils.chat_template_utils import render_jinja_template

from medscope.agents.encoding import FRAME_END, FRAME_START
from medscope.agents.tiny.profile import TINY_TOKENIZER
from medscope.environment.grammar import call_text, window_text
from medscope.environment.prompts import CHAT_TEMPLATE, SYSTEM, SYSTEM_TOOLS, TOOLS, opening
from medscope.records import Window
from medscope.sources.rendered.questions import LANGUAGE
from medscope.sources.rendered.words import CAMERA, COUNTS, EVENTS, INSTRUMENTS, PHASES, SIDES, STEPS
from medscope.suite.nested_tasks import NONE
from medscope.suite.teachers.searching import SWAP, UNSEEN
from medscope.suite.teachers.thoughts import NOTHING

LAST_SECOND = 1300
SPECIAL = ["<|image_pad|>", "<|video_pad|>", "<|im_start|>", "<|endoftext|>", "<|im_end|>"]
TAGS = [f"<{slash}{tag}>" for tag in ("think", "tool_call", "tool_response", "answer") for slash in ("", "/")]
WORDS = Regex(r" ?\p{L}+(?:_\p{L}+)*| ?\d+|\n| ?[^\s\p{L}\d]+|\s+")


def system_block(tools: bool) -> str:
    """The rendered system prompt of a dialogue, without the role tags around it."""
    messages = opening("?", [], tools)
    text = render_jinja_template([messages], chat_template=CHAT_TEMPLATE, tools=TOOLS if tools else None)[0][0]
    return text.removeprefix("<|im_start|>system\n").split("<|im_end|>")[0]


def corpus() -> list[str]:
    """Everything that the rendered world, the teacher and the tools say, as a list of texts."""
    names = {*PHASES, *STEPS, *EVENTS, *INSTRUMENTS, *SIDES, *COUNTS, *CAMERA, NONE, NOTHING, SWAP, UNSEEN}
    texts = [f"{name} {name}" for name in sorted(names)]
    for kind, asked in LANGUAGE.templates.items():
        if kind not in ("full", "fine", "temporal", "perception"):  # questions for free text may fall back to bytes
            texts.append(f" {kind}")
            texts += [template.format(label="x", within="x", options="x, x") for template in asked]
    texts += [call_text("crop_video", {"start_time": 1, "end_time": 2}), call_text("get_frame", {"timestamp": 1})]
    texts += [f" {second}" for second in range(LAST_SECOND + 1)] + [str(digit) for digit in range(100)]
    texts += [window_text(Window(1, 2)), "find x | x 1 end 2 | x 1 2 | look | answer", " 1s end 2s", " 1.5s .25s .75s"]
    texts += ["x with x and x", "user\nassistant\nsystem\n", "error: ", SYSTEM, SYSTEM_TOOLS]
    return texts


def build() -> Tokenizer:
    """A byte-level tokenizer with a word list instead of merges (`ignore_merges`): whole words, else bytes."""
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    splitter = pre_tokenizers.Sequence([pre_tokenizers.Split(WORDS, "isolated"), byte_level])
    vocabulary = {byte: i for i, byte in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    for text in corpus():
        for word, _ in splitter.pre_tokenize_str(text):
            vocabulary.setdefault(word, len(vocabulary))
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], ignore_merges=True))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Replace(bracket, "") for bracket in (FRAME_START, FRAME_END)]
    )
    tokenizer.pre_tokenizer, tokenizer.decoder = splitter, decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in SPECIAL])
    phrases = [*TAGS, system_block(tools=False), system_block(tools=True)]
    tokenizer.add_tokens([AddedToken(phrase, special=False, normalized=False) for phrase in phrases])
    return tokenizer


if __name__ == "__main__":
    tokenizer = build()
    TINY_TOKENIZER.write_text(json.dumps(json.loads(tokenizer.to_str()), indent=0, ensure_ascii=False) + "\n")
    print(f"{TINY_TOKENIZER}: {tokenizer.get_vocab_size()} tokens")
