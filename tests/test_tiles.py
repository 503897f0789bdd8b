"""MLPs and vision towers that read a part at a time: the same values and gradients, and fewer activations kept."""

from copy import deepcopy

import pytest
import torch
from peft import LoraConfig, get_peft_model

import medscope.agents.tiles as tiles
from medscope.agents.policy import tiny_policy
from medscope.agents.tiles import KEPT_BY_A_BLOCK, TiledMLP, TiledTower, tile_mlps, tile_vision

TOKENS = 50


@pytest.fixture
def model():
    return tiny_policy(seed=0).base.model.language_model.double()


def with_gradients(model, tile: int, checkpointed: bool) -> tuple[torch.Tensor, list[torch.Tensor]]:
    tile_mlps(model, tile)
    model.train()
    if checkpointed:
        model.activation_checkpointing_enable({"use_reentrant": False})
    model.zero_grad()
    ids = torch.arange(2 * TOKENS).view(2, TOKENS)
    out = model(input_ids=ids, use_cache=False).last_hidden_state
    (out * torch.linspace(-1, 1, out.shape[-1])).sum().backward()
    return out.detach(), [p.grad.clone() for p in model.parameters() if p.grad is not None]


@pytest.mark.parametrize("lora", [False, True])
@pytest.mark.parametrize("checkpointed", [False, True])
def test_parts_change_neither_values_nor_gradients(model, lora, checkpointed):
    if lora:
        get_peft_model(model, LoraConfig(r=2, target_modules=["gate_proj", "down_proj"], init_lora_weights=False))
        model.enable_input_require_grads()
    assert all(isinstance(layer.mlp, TiledMLP) for layer in model.layers)
    whole, gradients = with_gradients(model, 10**6, False)
    tiled, again = with_gradients(model, 7, checkpointed)
    torch.testing.assert_close(tiled, whole)
    assert len(again) == len(gradients) > 0
    for one, other in zip(again, gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-9)


def test_dropout_drops_the_same_in_the_backward_pass(model):
    """Else its gradient is that of another function."""
    lora = LoraConfig(r=2, target_modules=["up_proj"], init_lora_weights=False, lora_dropout=0.5)
    mlp = get_peft_model(model, lora).base_model.model.layers[0].mlp
    mlp.tile = 7
    x = torch.randn(TOKENS, model.config.hidden_size, dtype=torch.float64)
    weight = mlp.up_proj.lora_B["default"].weight

    def loss() -> torch.Tensor:
        torch.manual_seed(0)
        return mlp(x).square().sum()

    loss().backward()
    step = torch.randn_like(weight) * 1e-6
    with torch.no_grad():
        before = loss()
        weight += step
        change = loss() - before
    torch.testing.assert_close(change, (weight.grad * step).sum(), rtol=1e-3, atol=0)


def test_only_the_input_of_a_part_is_kept_for_the_backward_pass(model):
    mlp = model.layers[0].mlp
    x = torch.randn(1, TOKENS, model.config.hidden_size, dtype=torch.float64, requires_grad=True)

    def kept() -> int:
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.numel()) or t, lambda t: t):
            mlp(x)
        return sum(sizes)

    mlp.tile = 10**6
    whole = kept()
    mlp.tile = 5
    assert kept() <= x.numel() < whole / 4


def test_a_copied_policy_has_mlps_of_its_own(policy):
    other = deepcopy(policy)
    layers = other.base.model.language_model.layers
    assert isinstance(layers[0].mlp, TiledMLP)
    with torch.no_grad():
        layers[0].mlp.down_proj.weight.zero_()
        layers[0].mlp.tile = 2
        x = torch.randn(1, 3, layers[0].mlp.hidden_size)
        assert layers[0].mlp(x).abs().max() == 0
        assert policy.base.model.language_model.layers[0].mlp(x).abs().max() > 0


GRIDS = torch.tensor([[1, 4, 4], [1, 2, 2], [1, 6, 4], [1, 2, 2], [1, 4, 4]])  # 4, 1, 6, 1 and 4 visual tokens


@pytest.fixture
def tower():
    return tiny_policy(seed=0).base.model.visual.double()


def features(tower, tile: int) -> torch.Tensor:
    tile_vision(tower, tile)
    torch.manual_seed(0)
    return tower(torch.randn(int(GRIDS.prod(-1).sum()), 1176, dtype=torch.float64), grid_thw=GRIDS).pooler_output


@pytest.mark.parametrize("tile", [1, 5, 9])
@pytest.mark.parametrize("frozen", [False, True])
def test_a_tower_that_reads_some_frames_at_a_time_gives_the_same_features_and_gradients(tower, tile, frozen):
    assert isinstance(tower, TiledTower)
    tower.requires_grad_(not frozen)
    found = []
    for size in (10**6, tile if frozen else tile * KEPT_BY_A_BLOCK * len(tower.blocks)):
        tower.zero_grad()
        out = features(tower, size)
        assert out.shape == (16, tower.config.out_hidden_size) and out.requires_grad != frozen
        if not frozen:
            (out * torch.linspace(-1, 1, out.shape[-1])).sum().backward()
        found.append((out.detach(), [p.grad.clone() for p in tower.parameters() if p.grad is not None]))
    torch.testing.assert_close(found[1][0], found[0][0])
    assert bool(found[0][1]) != frozen
    for one, other in zip(found[1][1], found[0][1], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-9)


@pytest.fixture
def read(tower, monkeypatch):
    """Visual tokens of every forward of the tower."""
    read, forward = [], tower.patch_embed.forward
    monkeypatch.setattr(tower.patch_embed, "forward", lambda x: read.append(len(x) // 4) or forward(x))
    return read


def test_a_tower_reads_whole_frames_at_least_one_and_less_where_it_learns(tower, read):
    features(tower, 5)
    assert read == [4, 1, 6, 1, 4]
    read.clear()
    tower.requires_grad_(False)
    features(tower, 5)
    assert read == [5, 6, 5]


def test_sharded_blocks_are_called_once(tower, read, monkeypatch):
    """Each call gathers their weights from all processes, which need not have as many frames."""
    monkeypatch.setattr(tiles, "FSDPModule", type(tower.blocks[0]))
    features(tower, 1)
    assert read == [16]


def test_a_tower_keeps_the_pixels_of_a_part_for_the_backward_pass(tower):
    def kept(tile: int) -> int:
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.numel()) or t, lambda t: t):
            features(tower, tile)
        return sum(sizes)

    assert kept(1) < kept(10**6) / 2


@pytest.mark.parametrize("tile", [5, 10**6])
def test_a_frozen_tower_keeps_nothing_though_gradient_checkpointing_asks_for_gradients(tile):
    policy = tiny_policy(seed=0)
    policy.freeze_vision()
    policy.model.activation_checkpointing_enable({"use_reentrant": False})
    policy.model.enable_input_require_grads()
    policy.model.train()
    tower = policy.base.model.visual
    asked = []
    tower.patch_embed.register_forward_hook(lambda module, given, out: asked.append(out.requires_grad))
    assert not features(tower.double(), tile).requires_grad
    assert asked and policy.base.get_input_embeddings()(torch.tensor([1])).requires_grad


def test_a_checkpoint_names_the_classes_of_transformers(tmp_path):
    policy = tiny_policy(seed=0)
    policy.base.model.visual.save_pretrained(tmp_path / "tower")
    saved = policy.save(tmp_path / "policy") / "config.json"
    assert "Tiled" not in saved.read_text() + (tmp_path / "tower" / "config.json").read_text()
