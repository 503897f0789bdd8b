"""The presets: every name and type is that of params.yaml and its notebooks; stages agree on frames."""

import pytest

from medscope.presets import settings
from medscope.stage import ROOT, StageError

PRESETS = sorted((ROOT / "presets").glob("*.yaml"))


@pytest.mark.parametrize("preset", PRESETS, ids=lambda p: p.stem)
def test_a_preset_is_valid_and_its_stages_agree(preset):
    found = settings(preset)
    assert found["warm_up.lora_rank"] == 64 and found["warm_up.load_in_4bit"] is True
    for stage in ("sft", "ga_grpo", "evaluate"):
        assert found[f"{stage}.skim_frames"] == 256 and found[f"{stage}.skim_pixels"] == 50176
    assert found["ga_grpo.dtype"] == found["warm_up.dtype"] == "bfloat16"


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
