"""The presets: every name and type is that of params.yaml and its notebooks; stages agree on frames."""

import pytest
import yaml

from medscope.pipeline.parameters import ROOT, StageError, read_parameters, typed
from medscope.pipeline.presets import laid_over, settings, words

MODELS = sorted((ROOT / "presets").glob("qwen*.yaml"))


@pytest.mark.parametrize("preset", MODELS, ids=lambda p: p.stem)
def test_a_model_preset_is_valid_and_its_stages_agree(preset):
    found = settings(preset)
    assert found["warm_up.lora_rank"] == 64 and found["world.load_in_4bit"] is True
    assert found["world.skim_frames"] == 256 and found["world.skim_pixels"] == 50176
    assert found["world.dtype"] == "bfloat16"
    apart = {name.split(".")[0] for name in found if name.endswith((".skim_frames", ".skim_pixels", ".dtype"))}
    assert apart == {"world", "synthesize_data"}, "only the rendered videos are drawn for another number of frames"


def test_vllm_is_laid_over_a_model():
    model, both = laid_over(["qwen2.5-vl-7b"]), laid_over(["qwen2.5-vl-7b", "vllm"])
    changed = {name: value for name, value in both.items() if model.get(name) != value}
    assert changed == {"world.load_in_4bit": False, "ga_grpo.engine": "vllm", "ga_grpo.vllm_memory": 0.3}
    with pytest.raises(StageError, match="there is no preset"):
        laid_over(["qwen2.5-vl-7b", "vlm"])


def test_the_words_set_what_params_yaml_has_and_what_it_has_not():
    assert list(words({"world.load_in_4bit": False, "synthesize_data.skim_frames": 20})) == [
        "-S ++world.load_in_4bit=false", "-S ++synthesize_data.skim_frames=20"
    ]  # fmt: skip


def test_dvc_accepts_the_words_of_every_preset(tmp_path):
    """DVC itself changes a copy of params.yaml by them, as `dvc exp run` does."""
    from dvc.utils.hydra import apply_overrides

    for name in ("qwen2.5-vl-3b", "qwen2.5-vl-7b", "vllm"):
        (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
        chosen = laid_over([name])
        apply_overrides(tmp_path / "params.yaml", [word.removeprefix("-S ") for word in words(chosen)])
        changed = yaml.safe_load((tmp_path / "params.yaml").read_text())
        for parameter, value in chosen.items():
            section, key = parameter.split(".")
            assert typed(parameter, changed[section][key], value) == value  # DVC writes 2e-05, which is text in YAML
        untouched = {section for section in read_parameters() if not any(n.startswith(f"{section}.") for n in chosen)}
        assert all(changed[section] == read_parameters()[section] for section in untouched)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sft: {stepz: 3}", "section sft has no parameter stepz"),
        ("world: {skim_framez: 3}", "section world has no parameter skim_framez"),
        ("sff: {steps: 3}", "no section sff"),
        ("sft: {steps: many}", "sft.steps is 'many'"),
    ],
)
def test_a_wrong_preset_is_an_error_that_names_it(text, message, tmp_path):
    (tmp_path / "wrong.yaml").write_text(text)
    with pytest.raises(StageError, match=message):
        settings(tmp_path / "wrong.yaml")
