"""models/: made again by one command, small enough to be committed, and what the documents say of it is true."""

import json

import numpy as np
import pytest
from media import write_mp4
from predicted import crop, prediction, task

from medscope.agents.model_card import BUDGET, CARD, card_warning, read_budget
from medscope.models import TINY
from medscope.pipeline.example_model import MOST_BYTES, WEIGHTS, choose, main, write_example
from medscope.pipeline.parameters import ROOT, declared_parameters


@pytest.fixture
def checkpoint(policy, tmp_path):
    folder = tmp_path / "checkpoints" / "ga_grpo"
    policy.save(folder)
    (folder / "optimizer.pt").write_bytes(b"state")
    return folder


@pytest.fixture
def video(tmp_path):
    return write_mp4(tmp_path / "seen_0007.mp4", np.arange(12.0))


def files(folder):
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_a_model_is_written_with_budget_card_and_video_in_the_place_of_the_last_one(
    checkpoint, video, tiny_budget, tmp_path
):
    folder = tmp_path / "models"
    (folder / "tiny").mkdir(parents=True)
    (folder / "tiny" / "old.json").write_text("{}")
    size = write_example(checkpoint, video, "When?", tiny_budget, 3, folder)
    made = files(folder)
    assert made["tiny/model.safetensors"] == (checkpoint / WEIGHTS).read_bytes()
    assert made["example.mp4"] == video.read_bytes() and size == sum(map(len, made.values()))
    assert "tiny/optimizer.pt" not in made and "tiny/old.json" not in made
    assert read_budget(folder / "tiny" / BUDGET) == tiny_budget
    card = (folder / "tiny" / CARD).read_text()
    assert "million parameters" in card_warning(folder / "tiny") and "`seen_0007`" in card
    assert 'QUESTION="When?"' in card and "seed 3" in card and "checkpoint `ga_grpo`" in card and "F32" in card


def test_what_is_too_large_or_missing_leaves_models_as_they_are(checkpoint, video, tiny_budget, tmp_path):
    folder = tmp_path / "models"
    write_example(checkpoint, video, "When?", tiny_budget, 0, folder)
    before = files(folder)
    (checkpoint / "large.json").write_bytes(b" " * MOST_BYTES)
    with pytest.raises(ValueError, match=r"have \d+ bytes, at most 8000000"):
        write_example(checkpoint, video, "Why?", tiny_budget, 0, folder)
    with pytest.raises(FileNotFoundError, match="make repro"):
        write_example(tmp_path / "none", video, "Why?", tiny_budget, 0, folder)
    assert files(folder) == before and main(["--predictions", str(tmp_path / "none.jsonl")]) == 1


def test_the_video_is_that_of_a_right_answer_after_a_look_or_of_the_named_task():
    good = prediction(task(1, "hook"), "hook", 1.0, [crop(0, 10)])
    searched = prediction(task(2, "hook"), "hook", 1.0, [crop(40, 50), crop(0, 10)])
    wrong = prediction(task(3, "hook"), "knife", 0.0, [crop(0, 10)])
    assert choose([wrong, good, searched]) is searched and choose([wrong, good], "set:3") is wrong
    with pytest.raises(ValueError, match="no task 'set:9'"):
        choose([wrong], "set:9")
    with pytest.raises(ValueError, match="--task"):
        choose([wrong])


def test_what_is_committed_is_small_and_its_question_is_that_of_the_reading_room():
    committed = files(TINY.parent)
    assert sum(map(len, committed.values())) <= MOST_BYTES
    assert {"example.mp4", "tiny/model.safetensors", "tiny/README.md", "tiny/budget.json"} <= set(committed)
    question = declared_parameters(ROOT / "notebooks" / "explore.ipynb")["question"]
    assert f"QUESTION={json.dumps(question)}" in (TINY / CARD).read_text() and card_warning(TINY)
