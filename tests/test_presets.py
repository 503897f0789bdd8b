"""The presets: every name and type is that of params.yaml and its notebooks; stages agree on frames."""

import pytest
import yaml

from medscope.pipeline.parameters import ROOT, StageError, read_parameters, typed
from medscope.pipeline.presets import laid_over, of_stage, settings, words
from medscope.pipeline.stage import parse, planned

MODELS = sorted((ROOT / "presets").glob("qwen*.yaml"))


@pytest.mark.parametrize("preset", MODELS, ids=lambda p: p.stem)
def test_a_model_preset_is_valid_and_its_stages_agree(preset):
    found = settings(preset)
    assert found["warm_up.lora_rank"] == 64 and found["world.load_in_4bit"] is True
    assert found["world.skim_frames"] == 256 and found["world.skim_pixels"] == 50176
    assert found["world.dtype"] == "bfloat16" and found["warm_up.group_by_length"] and found["sft.group_by_length"]
    apart = {name.split(".")[0] for name in found if name.endswith((".skim_frames", ".skim_pixels", ".dtype"))}
    assert apart == {"world", "synthesize_data"}, "only the rendered videos are drawn for another number of frames"


def test_vllm_is_laid_over_a_model():
    model, both = laid_over(["qwen2.5-vl-7b"]), laid_over(["qwen2.5-vl-7b", "vllm"])
    changed = {name: value for name, value in both.items() if model.get(name) != value}
    assert changed == {"world.load_in_4bit": False, "ga_grpo.engine": "vllm", "ga_grpo.vllm_memory": 0.3}
    with pytest.raises(StageError, match="there is no preset"):
        laid_over(["qwen2.5-vl-7b", "vlm"])


def test_a_single_stage_takes_presets_its_own_section_wins_and_the_command_line_last():
    assert "learning_rate=1e-06" in of_stage(["qwen2.5-vl-7b"], "ga_grpo")
    line = ["ga_grpo", "--preset", "qwen2.5-vl-7b", "--preset", "full", "skim_frames=128"]
    parameters = planned(parse(line)[1])[0]
    assert parameters["learning_rate"] == 1e-6 and parameters["skim_frames"] == 128
    assert parameters["dtype"] == "float32" and parameters["load_in_4bit"] is False
    assert parameters["gradient_checkpointing"] is True
    assert planned(parse(["synthesize_data", "--preset", "qwen2.5-vl-7b"])[1])[0]["skim_frames"] == 24


def test_under_torchrun_a_stage_has_so_many_processes(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "16")
    assert planned(parse(["ga_grpo", "processes=2"])[1])[0]["processes"] == 16
    with pytest.raises(StageError, match="under torchrun name one stage"):
        planned(parse(["--smoke", "all"])[1])


def test_the_words_set_what_params_yaml_has_and_what_it_has_not():
    assert list(words({"world.load_in_4bit": False, "synthesize_data.skim_frames": 20})) == [
        "-S ++world.load_in_4bit=false", "-S ++synthesize_data.skim_frames=20"
    ]  # fmt: skip


@pytest.mark.slow
def test_dvc_accepts_the_words_of_every_preset(tmp_path):
    """DVC itself changes a copy of params.yaml by them, as `dvc exp run` does."""
    from dvc.utils.hydra import apply_overrides

    for name in ("qwen2.5-vl-3b", "qwen2.5-vl-7b", "vllm", "full"):
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
