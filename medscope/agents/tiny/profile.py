"""The tiny profile's tokenizer (frozen, see `pipeline.tiny_tokenizer`) and its model, randomly initialised."""

from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import PreTrainedTokenizerFast, Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

SPACE = "\u0120"  # how byte-level vocabularies write it
LOOKING_PAIRS = 4  # rotary pairs by which a head finds its offset, the fastest ones
LOOKING = 8.0  # size of their biases: the token looked at takes nearly all of the attention
CONTENT = 0.1  # what is left of their weights
TINY_TOKENIZER = Path(__file__).parent / "tokenizer.json"


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """The frozen tokenizer: whole words and whole seconds are one token each, the frame brackets are dropped."""
    return PreTrainedTokenizerFast(
        tokenizer_file=str(TINY_TOKENIZER), eos_token="<|im_end|>", pad_token="<|endoftext|>", padding_side="left"
    )


def tiny_model(tokenizer: PreTrainedTokenizerFast) -> Qwen2_5_VLForConditionalGeneration:
    """A real Qwen2.5-VL with 1.7M parameters, drawn from torch's global generator."""
    ids = tokenizer.get_vocab()
    image = ids["<|image_pad|>"]
    config = Qwen2_5_VLConfig(
        text_config={
            "vocab_size": len(ids), "hidden_size": 128, "intermediate_size": 384, "num_hidden_layers": 4,
            "num_attention_heads": 4, "num_key_value_heads": 2, "initializer_range": 0.06,
            "max_position_embeddings": 4096, "tie_word_embeddings": True,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [8, 4, 4]},
            "bos_token_id": None, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id,
        },
        vision_config={
            "depth": 3, "hidden_size": 96, "intermediate_size": 256, "num_heads": 4, "out_hidden_size": 128,
            "fullatt_block_indexes": [0, 1, 2], "initializer_range": 0.06,
        },
        image_token_id=image, video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=image, vision_end_token_id=image,  # no brackets in its tokenizer
        tie_word_embeddings=True,
    )  # fmt: skip
    model = Qwen2_5_VLForConditionalGeneration(config)
    draw_numbers(model, ids)
    look_back(model, offsets=(1, 2))
    return model


def draw_numbers(model: Qwen2_5_VLForConditionalGeneration, ids: dict[str, int]) -> None:
    """Start the embedding of every whole number as the sum of vectors of its hundreds, tens and ones.

    A pretrained model knows its numbers. This one meets each of 1 300 a few hundred times, and some never.
    """
    weights = model.get_input_embeddings().weight
    numbers = {int(word[1:]): i for word, i in ids.items() if word[:1] == SPACE and word[1:].isdecimal()}
    drawn = weights.std() / 3**0.5 * torch.randn(3, max(10, max(numbers) // 100 + 1), weights.shape[1])
    with torch.no_grad():
        for number, i in numbers.items():
            weights[i] = drawn[0, number // 100] + drawn[1, number // 10 % 10] + drawn[2, number % 10]


def look_back(model: Qwen2_5_VLForConditionalGeneration, offsets: Sequence[int]) -> None:
    """Start the first query heads of the first layer as heads that look `offsets` tokens back.

    A pretrained model has such heads, and copying what follows an earlier word is built on them. Attention by position
    alone is the product of the biases of q and k. Both start at zero, where neither has a gradient, so that a short
    training does not find it (tests/test_tiny_start.py). The biases lie on the fastest rotary pairs: q is k, turned by
    the offset. The weights of these rows start small, so that content does not drown position.
    """
    attention = model.model.language_model.layers[0].self_attn
    half, theta = attention.head_dim // 2, model.config.text_config.rope_parameters["rope_theta"]
    angles = theta ** (-torch.arange(LOOKING_PAIRS) / half)
    rows = torch.cat([torch.arange(LOOKING_PAIRS), torch.arange(LOOKING_PAIRS) + half])
    with torch.no_grad():
        for head in range(-(-len(offsets) // attention.num_key_value_groups)):
            of_head = rows + head * attention.head_dim
            attention.k_proj.weight[of_head] *= CONTENT
            attention.k_proj.bias[of_head] = LOOKING * torch.cat(
                [torch.ones(LOOKING_PAIRS), torch.zeros(LOOKING_PAIRS)]
            )
        for head, offset in enumerate(offsets):
            of_head = rows + head * attention.head_dim
            attention.q_proj.weight[of_head] *= CONTENT
            attention.q_proj.bias[of_head] = LOOKING * torch.cat([(offset * angles).cos(), -(offset * angles).sin()])
