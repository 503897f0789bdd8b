"""The tiny tokenizer, the positions of frames, and policies on disk."""

import json
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from medscope.agents.context import Context, prefill, rope_positions, row_groups
from medscope.agents.encoding import FRAME_END, FRAME_START, TokenSpan, encode_blocks, encode_prompt
from medscope.agents.features import FeatureCache, in_chunks, visual_tokens
from medscope.agents.policy import IMAGE_TOKEN, SUPPRESSED, TURN_END, Policy, load_policy
from medscope.agents.tiny.profile import TINY_TOKENIZER
from medscope.environment.prompts import opening
from medscope.pipeline import tiny_tokenizer
from medscope.sources.rendered.words import CAMERA, COUNTS, EVENTS, INSTRUMENTS, PHASES, SIDES, STEPS


def picture(width, height, seed=0):
    noise = np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(noise)


def test_the_frozen_tokenizer_is_the_one_that_its_program_builds():
    """If it is not, either the words of the world changed, or the file must be built and everything trained again."""
    assert json.loads(TINY_TOKENIZER.read_text()) == json.loads(tiny_tokenizer.build().to_str())


def test_every_whole_second_is_one_token(policy):
    seconds = tiny_tokenizer.LAST_SECOND + 1
    ids = [policy.encode(f" {second}") for second in range(seconds)]
    assert {len(i) for i in ids} == {1} and len({i[0] for i in ids}) == seconds
    assert len(policy.encode(f" {seconds}")) > 1
    assert policy.encode("from 12 to 40 s")[1] == policy.encode(" 12")[0]  # the same in a sentence


def test_every_name_of_the_rendered_world_is_one_token(policy):
    names = (*PHASES, *STEPS, *EVENTS, *INSTRUMENTS, *SIDES, *COUNTS, *CAMERA)
    assert {len(policy.encode(text)) for name in names for text in (name, f" {name}")} == {1}


@pytest.mark.parametrize("tools", [True, False])
def test_the_system_prompt_is_one_token(tools, policy):
    prompt = encode_prompt(policy, opening("When?", [], tools), tools).ids
    block = tiny_tokenizer.system_block(tools)
    assert len(policy.encode(block)) == 1
    assert prompt.count(policy.encode(block)[0]) == 1 and len(prompt) < 26


@pytest.mark.parametrize("tag", tiny_tokenizer.TAGS)
def test_tags_are_one_token_wherever_they_stand(tag, policy):
    assert len(policy.encode(tag)) == 1
    assert policy.encode(tag)[0] in policy.encode(f"12{tag}x")


@given(text=st.text().filter(lambda text: "<|vision_" not in text))  # the tiny tokenizer drops the frames' brackets
def test_any_text_is_decoded_as_it_was_encoded(policy, text):
    assert policy.tokenizer.decode(policy.encode(text)) == text


@given(words=st.lists(st.sampled_from([*tiny_tokenizer.corpus(), *tiny_tokenizer.TAGS, TURN_END, "é", "  ", "3.25"])))
def test_anything_the_world_says_is_decoded_as_it_was_encoded(policy, words):
    text = "".join(words)
    assert policy.tokenizer.decode(policy.encode(text)) == text


def test_a_frame_takes_as_many_tokens_as_it_has_features(policy):
    images = [picture(28, 28), picture(84, 56)]
    ids = encode_blocks(policy, [{"type": "image", "image": image} for image in images]).ids
    assert [visual_tokens(image) for image in images] == [1, 6] and ids.count(policy.image_token) == 7
    assert [len(features) for features in policy.features(images)] == [1, 6]


def test_what_only_the_environment_writes_is_never_sampled(policy):
    suppressed = set(policy.tokenizer.convert_ids_to_tokens(policy.suppressed_tokens))
    assert suppressed == set(SUPPRESSED) - {FRAME_START, FRAME_END}
    assert policy.turn_end not in policy.suppressed_tokens and policy.tokenizer.eos_token == TURN_END
    assert policy.image_token == policy.tokenizer.convert_tokens_to_ids(IMAGE_TOKEN)


SIZES = [(28, 28), (56, 28), (28, 112), (84, 84), (140, 56)]


@pytest.mark.parametrize("seed", range(5))
def test_rope_positions_are_those_of_the_model(seed, policy):
    shuffled = random.Random(seed)
    images = [picture(*shuffled.choice(SIZES)) for _ in range(seed)]  # seed 0: text alone
    blocks = [{"type": "text", "text": "x"}]
    for image in images:  # words always follow a frame
        blocks += [{"type": "image", "image": image}, {"type": "text", "text": " x" * shuffled.randint(1, 4)}]
    ids = encode_blocks(policy, blocks).ids
    tokens = torch.tensor([ids])
    grid = policy.pixels(images)["image_grid_thw"] if images else None
    kinds = (tokens == policy.image_token).int()
    theirs, delta = policy.base.model.get_rope_index(tokens, mm_token_type_ids=kinds, image_grid_thw=grid)
    ours = rope_positions(TokenSpan(ids, images), policy.image_token, 0)
    assert np.array_equal(ours, theirs[:, 0].numpy())
    assert ours.max() + 1 - len(ids) == delta.item()
    assert np.array_equal(rope_positions(TokenSpan(ids, images), policy.image_token, 100), ours + 100)


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


def test_a_kill_while_an_older_save_is_deleted_leaves_no_half_of_one(policy, tmp_path, monkeypatch):
    folder = policy.save(tmp_path / "policy")
    files = {path.name for path in folder.iterdir()}

    def killed(path, **_):
        if Path(path).exists():
            next(Path(path).iterdir()).unlink()
            raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(shutil, "rmtree", killed)
        policy.save(folder)
    assert {path.name for path in folder.iterdir()} == files
    policy.save(folder)
    assert [path.name for path in tmp_path.iterdir()] == ["policy"]


def test_weights_that_are_not_safetensors_are_refused(policy, tmp_path):
    folder = policy.save(tmp_path / "policy")
    (folder / "model.safetensors").unlink()
    torch.save({}, folder / "pytorch_model.bin")
    with pytest.raises(FileNotFoundError, match=r"policy holds no \*\.safetensors weights"):
        load_policy(folder)


def stored(number, size=(28, 28)):
    """A frame as a store hands it out."""
    image = picture(*size, seed=number)
    image.info["frame"] = ("video.mp4", number, 784)
    return image


@pytest.fixture
def caching(policy):
    """The policy with a cache of its own that has room for two frames of one token."""
    token = policy.features([picture(28, 28)])[0]
    return Policy(policy.model, policy.processor, cache_features=True, feature_bytes=2 * token.numel() * 4)


def test_features_are_kept_only_while_they_are_right(policy):
    image = stored(3)
    fresh = policy.features([image])[0]
    assert policy.feature_cache.bytes == 0  # the vision tower may still change
    policy.cache_features = True
    try:
        kept = [policy.features([image])[0] for _ in range(3)]
        assert all(torch.equal(features, fresh) for features in kept)
        assert kept[1] is kept[2] is policy.feature_cache.get(("video.mp4", 3, 784))
        policy.features([picture(28, 28)])  # a loose image has no name of its own
        assert policy.feature_cache.bytes == fresh.numel() * 4
    finally:
        policy.cache_features = False
        policy.forget_features()
    assert policy.feature_cache.bytes == 0 and ("video.mp4", 3, 784) not in policy.feature_cache


def test_the_features_that_nobody_used_for_longest_go_first(caching):
    first, second, third = (stored(number) for number in range(3))
    caching.features([first, second])
    caching.features([first])  # so that the second is now the older one
    caching.features([third])
    held = [image.info["frame"] in caching.feature_cache for image in (first, second, third)]
    assert held == [True, False, True]


def test_a_cache_never_holds_more_than_its_bytes():
    cache = FeatureCache(max_bytes=100)
    for key, size in (("a", 10), ("b", 10), ("a", 20), ("too large", 30)):
        cache.add(key, torch.zeros(size))
        assert cache.bytes <= 100
    assert "too large" not in cache and cache.bytes == 0  # what is larger than the cache drives all others out


def test_frames_are_encoded_in_chunks_of_a_token_budget(policy):
    """Sizes of 1, 6, 1, 1 and 9 tokens within 7: the last is larger than the budget and stands alone."""
    images = [picture(*size) for size in ((28, 28), (84, 56), (28, 28), (28, 28), (84, 84))]
    assert [len(chunk) for chunk in in_chunks(images, 7)] == [2, 2, 1]
    assert list(in_chunks([], 7)) == []
    tight = Policy(policy.model, policy.processor, activation_bytes=7 * 3 * 4 * 256 * 4)  # 7 tokens of 4 patches
    assert tight.vision_tokens == 7
    for features, others in zip(tight.features(images), policy.features(images), strict=True):
        torch.testing.assert_close(features, others, atol=1e-5, rtol=1e-4)


TOKEN = 3 * 384 * 4  # bytes of the tiny model's widest activations


@pytest.mark.parametrize(
    ("lengths", "tokens"),
    [
        ((9, 4, 6), 10),  # a row after the other
        ((9, 4, 6), 3),  # three columns at a time
        ((5, 5, 5), 10),  # two groups
        # no mask: it would have 980 000 elements, the budget is 806 400
        pytest.param((700, 700), 1400, marks=pytest.mark.slow),
        # 1000 columns without a mask, the others with one
        pytest.param((1500,), 1000, marks=pytest.mark.slow),
    ],
)
def test_prompts_read_in_groups_and_slices_are_those_read_at_once(policy, lengths, tokens):
    """The states that follow, positions and used columns."""
    prompts = [TokenSpan([20 + (7 * row + i) % 200 for i in range(n)]) for row, n in enumerate(lengths)]
    tight = Policy(policy.model, policy.processor, activation_bytes=tokens * TOKEN)
    with torch.no_grad():
        whole = Context(policy, len(lengths))
        whole.extend(prompts)
        cut = prefill(tight, prompts)
        following = [TokenSpan([50, 51])] * len(lengths)
        states = [context.extend(following) for context in (whole, cut)]
    torch.testing.assert_close(states[1], states[0], atol=1e-5, rtol=1e-4)
    assert torch.equal(cut.used, whole.used) and np.array_equal(cut.next_position, whole.next_position)


def test_rows_are_grouped_within_tokens_and_mask(policy):
    """A mask has rows x width^2 elements of 8 bytes, and is needed where lengths differ."""

    def groups(lengths, tokens):
        tight = Policy(policy.model, policy.processor, activation_bytes=tokens * TOKEN)
        return [(group.start, group.stop) for group in row_groups(lengths, tight)]

    assert groups([10, 10, 10], 20) == [(0, 2), (2, 3)]
    assert groups([4, 6, 30, 2, 2], 20) == [(0, 2), (2, 3), (3, 5)]  # 30 tokens are more than fit, and stand alone
    assert groups([1000, 999], 2000) == [(0, 1), (1, 2)]  # 2 000 000 elements; the budget is 1 152 000
    assert groups([1000, 1000], 2000) == [(0, 2)]


@pytest.mark.parametrize(
    "source",
    [Path("gone"), "./gone", "/gone/policy", "checkpoints/tiny/gone", "medscope/gone"],
    ids=["a Path", "./", "/", "three parts", "inside a folder"],
)
def test_a_missing_folder_is_not_looked_up_on_the_hub(source, monkeypatch, request):
    monkeypatch.chdir(request.config.rootpath)
    with pytest.raises(FileNotFoundError, match=r"no checkpoint folder .*gone.*; run the stage that trains it"):
        load_policy(source)


def test_an_adapter_whose_base_is_gone_is_refused_by_name(policy, tmp_path):
    base = policy.save(tmp_path / "base")
    folder = load_policy(base, lora_rank=2).save(tmp_path / "lora")
    base.rename(tmp_path / "moved")
    with pytest.raises(FileNotFoundError, match=r"no checkpoint folder .*base; run the stage"):
        load_policy(folder)
