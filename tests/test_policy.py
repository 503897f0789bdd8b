"""The tiny tokenizer, the positions of frames, and policies on disk."""

import json
import random

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from medscope.pipeline import tiny_tokenizer
from medscope.agents.context import Context, rope_positions
from medscope.environment.dialogue import opening
from medscope.agents.policy import IMAGE_TOKEN, TINY_TOKENIZER, TURN_END, SUPPRESSED, load_policy, visual_tokens
from medscope.agents.rollout import FRAME_TEXT, encode_blocks, encode_prompt
from medscope.sources.rendered.world import FAMILIES


def picture(width, height, seed=0):
    noise = np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(noise)


def test_the_frozen_tokenizer_is_the_one_that_its_program_builds():
    """If it is not, either the words of the world changed, or the file must be built and everything trained again."""
    assert json.loads(TINY_TOKENIZER.read_text()) == json.loads(tiny_tokenizer.build().to_str())


def test_every_whole_second_is_one_token(policy):
    ids = [policy.encode(f" {second}") for second in range(301)]
    assert {len(i) for i in ids} == {1} and len({i[0] for i in ids}) == 301
    assert len(policy.encode(" 301")) > 1
    assert policy.encode("from 12 to 40 s")[1] == policy.encode(" 12")[0]  # the same in a sentence


def test_every_name_of_the_rendered_world_is_one_token(policy):
    names = {name for f in FAMILIES.values() for name in (*f.phases, *f.instruments, *f.complications)}
    assert {len(policy.encode(text)) for name in names for text in (name, f" {name}")} == {1}


@pytest.mark.parametrize("tools", [True, False])
def test_the_system_prompt_is_one_token(tools, policy):
    prompt = encode_prompt(policy, opening("When?", [], tools), tools).ids
    block = tiny_tokenizer.system_block(tools)
    assert len(policy.encode(block)) == 1
    assert prompt.count(policy.encode(block)[0]) == 1 and len(prompt) < 20


@pytest.mark.parametrize("tag", tiny_tokenizer.TAGS)
def test_tags_are_one_token_wherever_they_stand(tag, policy):
    assert len(policy.encode(tag)) == 1
    assert policy.encode(tag)[0] in policy.encode(f"12{tag}x")


@given(text=st.text())
def test_any_text_is_decoded_as_it_was_encoded(policy, text):
    assert policy.tokenizer.decode(policy.encode(text)) == text


@given(words=st.lists(st.sampled_from([*tiny_tokenizer.corpus(), *tiny_tokenizer.TAGS, TURN_END, "é", "  ", "3.25"])))
def test_anything_the_world_says_is_decoded_as_it_was_encoded(policy, words):
    text = "".join(words)
    assert policy.tokenizer.decode(policy.encode(text)) == text


def test_placeholders_widen_to_the_tokens_of_their_frames(policy):
    images = [picture(28, 28), picture(84, 56)]
    ids = policy.encode(f"a{FRAME_TEXT} 3s{FRAME_TEXT}", images)
    assert [visual_tokens(image) for image in images] == [1, 6] and ids.count(policy.image_token) == 7
    assert sum(len(features) for features in policy.features(images)) == 7
    with pytest.raises(ValueError, match="1 image placeholders for 2 frames"):
        policy.encode(FRAME_TEXT, images)


def test_what_only_the_environment_writes_is_never_sampled(policy):
    assert set(policy.tokenizer.convert_ids_to_tokens(policy.suppressed_tokens)) == set(SUPPRESSED) - set(
        tiny_tokenizer.FRAME_BRACKETS
    )
    assert policy.turn_end not in policy.suppressed_tokens and policy.tokenizer.eos_token == TURN_END
    assert policy.image_token == policy.tokenizer.convert_tokens_to_ids(IMAGE_TOKEN)


SIZES = [(28, 28), (56, 28), (28, 112), (84, 84), (140, 56)]


@pytest.mark.parametrize("seed", range(5))
def test_rope_positions_are_those_of_the_model(seed, policy):
    shuffled = random.Random(seed)
    images = [picture(*shuffled.choice(SIZES)) for _ in range(seed)]  # seed 0: text alone
    words = [" ".join(["x"] * shuffled.randint(1, 4)) for _ in range(seed + 1)]  # a second always follows a frame
    ids = policy.encode(FRAME_TEXT.join(words) + " end", images)
    tokens = torch.tensor([ids])
    grid = policy.pixels(images)["image_grid_thw"] if images else None
    kinds = (tokens == policy.image_token).int()
    theirs, delta = policy.base.model.get_rope_index(tokens, mm_token_type_ids=kinds, image_grid_thw=grid)
    ours = rope_positions(ids, images, policy.image_token, 0)
    assert np.array_equal(ours, theirs[:, 0].numpy())
    assert ours.max() + 1 - len(ids) == delta.item()
    assert np.array_equal(rope_positions(ids, images, policy.image_token, 100), ours + 100)


def dialogue_piece(policy):
    blocks = [{"type": "image", "image": picture(56, 84)}, {"type": "text", "text": " 3s"}]
    return encode_blocks(policy, blocks, head="<think>", tail=" blade")


def logits(policy, piece):
    with torch.no_grad():
        return policy.base.lm_head(Context(policy, 1).extend([piece])[0])


def test_our_forward_pass_is_that_of_the_model(policy):
    piece = dialogue_piece(policy)
    ids = torch.tensor([piece.ids])
    with torch.no_grad():
        theirs = policy.base(
            input_ids=ids, mm_token_type_ids=(ids == policy.image_token).int(), **policy.pixels(piece.images)
        ).logits[0]
    assert torch.allclose(logits(policy, piece), theirs, atol=1e-4)


def test_a_saved_policy_is_loaded_with_equal_logits(policy, tmp_path):
    folder = policy.save(tmp_path / "policy")
    loaded = load_policy(folder)
    piece = dialogue_piece(policy)
    assert torch.equal(logits(loaded, dialogue_piece(loaded)), logits(policy, piece))
    assert loaded.suppressed_tokens == policy.suppressed_tokens and loaded.tokenizer.padding_side == "left"
    messages = opening("When?", [], tools=True)
    assert encode_prompt(loaded, messages, True).ids == encode_prompt(policy, messages, True).ids


def test_only_safetensors_are_saved_and_nothing_of_an_older_save_stays(policy, tmp_path):
    (tmp_path / "policy").mkdir()
    (tmp_path / "policy" / "pytorch_model.bin").touch()
    policy.save(tmp_path / "policy")
    assert [path.name for path in tmp_path.iterdir()] == ["policy"]
    suffixes = {path.suffix for path in (tmp_path / "policy").iterdir()}
    assert ".safetensors" in suffixes and suffixes <= {".safetensors", ".json", ".jinja"}


def test_weights_that_are_not_safetensors_are_refused(policy, tmp_path):
    folder = policy.save(tmp_path / "policy")
    (folder / "model.safetensors").unlink()
    torch.save({}, folder / "pytorch_model.bin")
    with pytest.raises(FileNotFoundError, match=r"policy holds no \*\.safetensors weights"):
        load_policy(folder)


def test_features_are_kept_only_while_they_are_right_and_few(policy):
    image = picture(28, 28)
    image.info["frame"] = ("video.mp4", 3, 784)
    first = policy.features([image])[0]
    assert not policy._features  # the vision tower may still change
    policy.cache_features = True
    try:
        cached = [policy.features([image])[0] for _ in range(2)]
        assert list(policy._features) == [("video.mp4", 3, 784)] and torch.equal(cached[1], first)
        assert cached[1] is policy._features["video.mp4", 3, 784]
    finally:
        policy.cache_features = False
        policy.forget_features()
    assert not policy._features and policy._bytes == 0
