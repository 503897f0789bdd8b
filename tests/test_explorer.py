"""The widget of explore.ipynb without a browser: a click shows the trajectory."""

from dataclasses import replace

import numpy as np
import pytest
from media import write_mp4
from predicted import crop, prediction, task

from medscope.environment import FrameStore
from medscope.files import write_jsonl
from medscope.records import Recording, ToolCall
from medscope.reporting.explorer import explorer, transcript_of
from medscope.suite.suite import Suite


@pytest.fixture
def suite(tmp_path):
    """Two held-out videos with two tasks and one; a free-text task and a training task are not offered."""
    asked, recordings = [], []
    for video in ("a", "b"):
        path = str(write_mp4(tmp_path / f"{video}.mp4", np.arange(12.0)))
        recordings.append(Recording(video, path, 12, (), "set", split="eval"))
        asked.append(replace(task(f"{video}1", "yes", video=video), path=path, question=f"What in {video}?"))
    asked += [
        replace(asked[0], id="set:a2", question="When in a?"),
        replace(asked[0], id="set:a3", free_text=True, question="Describe a."),
        replace(asked[0], id="set:a4", split="sft", question="What was taught?"),
    ]
    write_jsonl(tmp_path / "recordings.jsonl", recordings)
    write_jsonl(tmp_path / "tasks.jsonl", asked)
    return Suite(tmp_path)


def test_a_click_on_answer_shows_the_trajectory_and_another_video_offers_its_tasks(policy, suite, tiny_budget):
    budget = replace(tiny_budget, max_turn_tokens=8)
    video, question, (_, button), strip, transcript = (
        box.children if hasattr(box, "children") else box
        for box in explorer(policy, suite, FrameStore(), budget).children
    )
    assert video.options == ("a", "b") and question.options == {"What in a?": "set:a1", "When in a?": "set:a2"}
    assert strip.layout.display == "none"
    button.click()
    assert bytes(strip.value[:4]) == b"\x89PNG" and strip.layout.display == "block"
    assert not [output for output in transcript.outputs if output["output_type"] == "error"]
    video.value = "b"
    assert question.options == {"What in b?": "set:b1"}
    first = bytes(strip.value)
    button.click()
    assert bytes(strip.value) != first


def test_below_every_turn_stands_what_its_call_showed_or_why_it_was_refused():
    looks = (replace(crop(1, 3), seconds=(1.0, 2.5)), ToolCall("get_frame", {}, message="get_frame needs timestamp"))
    lines = transcript_of(prediction(task(1, "yes"), "yes", calls=looks)).splitlines()
    assert [line for line in lines if line.startswith("  -> ")] == [
        "  -> frames at 1, 2.5 s", "  -> get_frame needs timestamp"]  # fmt: skip
    assert lines[1].startswith("  -> frames") and lines[-1] == "<think>seen</think><answer>yes</answer>"
