"""The presets: every name and type is that of params.yaml and its notebooks; stages agree on frames."""

import pytest

from medscope.pipeline.presets import laid_over, settings
from medscope.pipeline.stage import ROOT, StageError

MODELS = sorted((ROOT / "presets").glob("qwen*.yaml"))


@pytest.mark.parametrize("preset", MODELS, ids=lambda p: p.stem)
def test_a_model_preset_is_valid_and_its_stages_agree(preset):
    found = settings(preset)
    assert found["warm_up.lora_rank"] == 64 and found["warm_up.load_in_4bit"] is True
    for stage in ("sft", "ga_grpo", "evaluate"):
        assert found[f"{stage}.skim_frames"] == 256 and found[f"{stage}.skim_pixels"] == 50176
    assert found["ga_grpo.dtype"] == found["warm_up.dtype"] == "bfloat16"


def test_vllm_is_laid_over_a_model():
    model, both = laid_over(["qwen2.5-vl-7b"]), laid_over(["qwen2.5-vl-7b", "vllm"])
    changed = {name: value for name, value in both.items() if model.get(name) != value}
    stages = ("warm_up", "sft", "ga_grpo", "evaluate")
    assert changed == {
        **{f"{stage}.load_in_4bit": False for stage in stages}, "ga_grpo.engine": "vllm", "ga_grpo.vllm_memory": 0.3
    }  # fmt: skip
    with pytest.raises(StageError, match="there is no preset"):
        laid_over(["qwen2.5-vl-7b", "vlm"])


@pytest.mark.parametrize(
    "text, message",
    [
        ("sft: {stepz: 3}", "no sft.stepz"),
        ("sff: {steps: 3}", "no section sff"),
        ("sft: {steps: many}", "sft.steps is 'many'"),
    ],
)
def test_a_wrong_preset_is_an_error_that_names_it(text, message, tmp_path):
    (tmp_path / "wrong.yaml").write_text(text)
    with pytest.raises(StageError, match=message):
        settings(tmp_path / "wrong.yaml")
