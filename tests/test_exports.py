"""The suite in the forms of other tools, read back field by field."""

import json
from pathlib import Path

import datasets
import pytest
import yaml

from medscope.exports.__main__ import main
from medscope.exports.fork import export_fork
from medscope.exports.huggingface import export_huggingface
from medscope.files import write_json, write_jsonl
from medscope.records import (
    Caption,
    Interval,
    Recording,
    Task,
    Text,
    Timestamp,
    ToolCall,
    Trajectory,
    WarmUpExample,
    Window,
)
from medscope.suite.suite import Suite

LICENCES = {"ours": "CC-BY-4.0", "theirs": "as agreed | see <b>contract</b>"}
TRAP = 'Which "tool" is\nused at | the <end>?'


@pytest.fixture
def suite(tmp_path) -> Suite:
    """A small suite with every type of reference and evidence; its videos are empty files."""
    folder, videos = tmp_path / "suite", {name: tmp_path / f"{name}.mp4" for name in ("a", "b", "c", "e")}
    for path in videos.values():
        path.touch()

    def task(name, video, number, reference, evidence, split, question="When is it?", **more):
        where = {"collection": "theirs" if video == "e" else "ours", "domain": "out" if video == "e" else "in"}
        return Task(
            f"{video}/{name}/{number}", video, str(videos[video]), question, reference, evidence, name, split,
            **where, subject="x", **more,
        )  # fmt: skip

    def recording(video, split, collection="ours", domain="in"):
        marks = (Interval(Window(2, 5.5), "x", {"tool": "hook"}), Interval(Window(6, 7), "y", {}, 6.25))
        return Recording(video, str(videos[video]), 30.0, marks, collection, domain, split, f"patient {video}")

    tasks = [
        task("grounding", "a", 0, Window(2, 5.5), Window(2, 5.5), "rl"),
        task("tool", "a", 1, Text("10-0 nylon"), Window(2.125, 5.5), "rl", TRAP),
        task("instant", "a", 2, Timestamp(6.25), Timestamp(6.25), "rl"),
        task("order", "a", 3, Text("y"), Window(2, 5.5), "rl", challenging=False),
        task("fine", "a", 4, Text("a hook is seen"), Window(2, 5.5), "rl", free_text=True),
        task("tool", "b", 0, Text("hook"), Timestamp(6.25), "sft"),
        task("tool", "e", 0, Text("hook"), Window(2, 5.5), "eval"),
    ]
    call = ToolCall("crop_video", {"start_time": 2, "end_time": 5.5}, Window(2, 5.5), (2.0, 3.0))
    refused = ToolCall("get_frame", {"timestamp": "now"}, None, (), "get_frame needs timestamp")
    write_jsonl(folder / "tasks.jsonl", tasks)
    write_jsonl(
        folder / "recordings.jsonl",
        [
            recording("a", "rl"),
            recording("b", "sft"),
            recording("c", "warm_up"),
            recording("e", "eval", "theirs", "out"),
        ],
    )
    write_jsonl(
        folder / "captions.jsonl", [Caption("a", Window(2, 5.5), "a hook"), Caption("e", Window(0, 30), "x, y")]
    )
    example = WarmUpExample("c", str(videos["c"]), "When?", (0.0, 1.5), 784, 30.0, "<think>", 3.0, ("x",), "ours")
    write_jsonl(folder / "warm_up_examples.jsonl", [example])
    write_jsonl(folder / "trajectories.jsonl", [Trajectory(tasks[5], ("<think>a", "<answer>b"), (call, refused))])
    return Suite(folder)


@pytest.fixture
def load(suite, tmp_path, monkeypatch):
    """Loads what was exported, without a network."""
    export_huggingface(suite, tmp_path / "hub", LICENCES, {"window": 3, "unseen in the skim": 2})
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    return lambda name, split: datasets.load_dataset(
        str(tmp_path / "hub"), name, split=split, cache_dir=str(tmp_path / "cache")
    ).to_list()


def typed(name, **values):
    fields = ("type", "start", "end", "time") + (("text",) if name == "reference" else ())
    return {f"{name}_{field}": values.get(field) for field in fields}


def test_tasks_come_back_field_by_field(suite, load, tmp_path):
    shared = {"subject": "x", "collection": "ours", "domain": "in"}
    found = load("tasks", "rl")
    assert [row["id"] for row in found] == [task.id for task in suite.tasks if task.split == "rl"]
    window = {"type": "window", "start": 2.0, "end": 5.5}
    assert found[0] == {
        "id": "a/grounding/0", "video": "a", "question": "When is it?", "kind": "grounding",
        **typed("reference", **window), **typed("evidence", **window), **shared,
        "challenging": True, "free_text": False,
    }  # fmt: skip
    assert found[1] == {
        "id": "a/tool/1", "video": "a", "question": TRAP, "kind": "tool",
        **typed("reference", type="text", text="10-0 nylon"),
        **typed("evidence", type="window", start=2.125, end=5.5), **shared, "challenging": True, "free_text": False,
    }  # fmt: skip
    assert found[2]["reference_time"] == found[2]["evidence_time"] == 6.25 and found[2]["evidence_start"] is None
    assert not found[3]["challenging"] and found[4]["free_text"]
    assert [row["id"] for row in load("tasks", "eval")] == ["e/tool/0"]
    with pytest.raises(ValueError, match="warm_up"):
        load("tasks", "warm_up")


def test_the_other_records_come_back(load):
    assert load("captions", "rl") == [{"video": "a", "start": 2.0, "end": 5.5, "text": "a hook"}]
    [trajectory] = load("trajectories", "sft")
    assert trajectory["turns"] == ["<think>a", "<answer>b"] and trajectory["tools"] and trajectory["id"] == "b/tool/0"
    crop, refused = trajectory["calls"]
    assert json.loads(crop["arguments"]) == {"start_time": 2, "end_time": 5.5} and crop["seconds"] == [2.0, 3.0]
    assert (crop["looked_type"], crop["looked_start"], crop["looked_end"]) == ("window", 2.0, 5.5)
    assert refused["looked_type"] is None and refused["message"] == "get_frame needs timestamp"
    [recording] = load("recordings", "eval")
    assert (recording["group"], recording["duration"], recording["domain"]) == ("patient e", 30.0, "out")
    first, second = recording["intervals"]
    assert first == {"start": 2.0, "end": 5.5, "label": "x", "attributes": '{"tool": "hook"}', "timestamp": None}
    assert second["timestamp"] == 6.25
    [example] = load("warm_up_examples", "warm_up")
    assert (example["seconds"], example["captions"], example["time_offset"]) == ([0.0, 1.5], ["x"], 3.0)


def test_no_row_holds_a_path(load, tmp_path):
    for name in ("tasks", "trajectories", "captions", "recordings", "warm_up_examples"):
        for file in (tmp_path / "hub" / "data" / name).iterdir():
            assert str(tmp_path) not in json.dumps(datasets.Dataset.from_parquet(str(file)).to_list())


def test_the_card(load, tmp_path):
    text = (tmp_path / "hub" / "README.md").read_text()
    head = yaml.safe_load(text.split("---\n")[1])
    assert head["license"] == "other" and "not-for-clinical-use" in head["tags"] and head["configs"][0]["default"]
    assert text.count("Not for clinical use") == 2
    for row in (
        "| ours | 3 | in | CC-BY-4.0 |",
        "| theirs | 1 | out | as agreed \\| see &lt;b>contract&lt;/b> |",
        "| questions | 7 |",
        "| of these challenging | 5 |",
        "| kept trajectories | 1 |",
        "| window | 3 |",
        "and the window or timestamp (s) that is its evidence | 0 | 1 | 5 | 1 |",
    ):
        assert row in text, row


def test_a_missing_licence_or_a_full_folder_is_refused(suite, tmp_path):
    with pytest.raises(ValueError, match="licence of the collection 'theirs' is missing"):
        export_huggingface(suite, tmp_path / "hub", {"ours": "MIT"})
    with pytest.raises(ValueError, match="no collection 'x'"):
        export_huggingface(suite, tmp_path / "hub", {**LICENCES, "x": "MIT"})
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "note").touch()
    with pytest.raises(ValueError, match="not empty"):
        export_huggingface(suite, tmp_path / "full", LICENCES)
    assert not list(tmp_path.glob("hub*"))


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_rows_of_the_fork_field_by_field(suite, tmp_path):
    assert main(["fork", str(suite.folder), "--out", str(tmp_path / "rl"), "--max-frames", "64"]) == 0
    rows = lines(tmp_path / "rl" / "rl.jsonl")
    assert [row["extra_info"]["index"] for row in rows] == [1, 2, 3]  # challenging, closed, of split rl
    path = tmp_path / "a.mp4"
    prompt = rows[1].pop("prompt")
    assert rows[1] == {
        "data_source": "ours",
        "videos": [
            {
                "type": "video",
                "video": f"file://{path}",
                "fps": 1,
                "min_frames": 1,
                "max_frames": 64,
                "max_pixels": 50176,
            }
        ],
        "ability": "video_tool",
        "reward_model": {"ground_truth": "10-0 nylon", "style": "model"},
        "extra_info": {
            "answer": "10-0 nylon",
            "index": 2,
            "question": TRAP,
            "split": "train",
            "need_tools_kwargs": True,
            "tools_kwargs": {
                "crop_video": {"create_kwargs": {"dummy": "dummy"}},
                "get_frame": {"create_kwargs": {"dummy": "dummy"}},
            },
            "video_segment": [2.125, 5.5],
        },
    }
    [message] = prompt
    assert message["role"] == "user" and message["content"].startswith(f"<video>{TRAP} ")
    assert message["content"].count("<video>") == 1 and message["content"].endswith(str(path))
    assert rows[0]["reward_model"]["ground_truth"] == "[2.000, 5.500]"
    assert rows[2]["extra_info"]["frame_time"] == 6.25 and "video_segment" not in rows[2]["extra_info"]


def test_records_of_the_fork(suite, tmp_path):
    export_fork(suite, tmp_path / "rl")
    grounding, tool, instant = lines(tmp_path / "rl" / "records.jsonl")
    asked = {"tg_question": "When is it?", "tg_start_time": 2.0, "tg_end_time": 5.5}
    assert json.loads(grounding.pop("_tg_raw")) == asked
    assert grounding == {
        "clip_id": "a/grounding/0",
        "video_name": "a.mp4",
        "video_path": str(tmp_path / "a.mp4"),
        "clip_start_time": 2.0,
        "clip_end_time": 5.5,
        "qa_start_time": 2.0,
        "qa_end_time": 5.5,
        "question": "When is it?",
        "answer": "[2.000, 5.500]",
    }
    assert "_tg_raw" not in tool and tool["answer"] == "10-0 nylon"
    assert (instant["anchor_frame_time"], instant["clip_start_time"], instant["clip_end_time"]) == (6.25, 0.0, 30.0)


def test_the_fork_reads_them_as_one_table(suite, tmp_path):
    """Rows with a window and rows with an instant load together."""
    export_fork(suite, tmp_path / "rl")
    rows = datasets.load_dataset(
        "json", data_files=str(tmp_path / "rl" / "rl.jsonl"), split="train", cache_dir=str(tmp_path / "cache")
    )
    assert [row["extra_info"].get("frame_time") for row in rows] == [None, None, 6.25]


def test_the_benchmark_never_becomes_rl_data(suite, tmp_path):
    benchmark = [task for task in suite.tasks if task.split == "eval"]
    with pytest.raises(ValueError, match="'e/tool/0' is of split eval"):
        export_fork(suite, tmp_path / "rl", tasks=benchmark)
    write_jsonl(
        suite.folder / "recordings.jsonl",
        [Recording(r.video, r.path, r.duration, (), r.collection, r.domain, r.split, "one") for r in suite.recordings],
    )
    with pytest.raises(ValueError, match="'one' is not kept for RL alone"):
        export_fork(Suite(suite.folder), tmp_path / "rl")
    assert not (tmp_path / "rl").exists()


def test_what_their_loader_cannot_read_is_refused(suite, tmp_path):
    [first, *_] = suite.select("rl")
    trap = Task(**{**vars(first), "question": "What does <video> show?"})
    with pytest.raises(ValueError, match="holds <video>"):
        export_fork(suite, tmp_path / "rl", tasks=[trap])
    (tmp_path / "a.mp4").unlink()
    with pytest.raises(FileNotFoundError, match=r"a\.mp4 of the task"):
        export_fork(suite, tmp_path / "rl")


def test_commands(suite, tmp_path, capsys):
    write_json(tmp_path / "funnel.json", {"rejected": {"answer": 4}})
    words = ["huggingface", str(suite.folder), "--out", str(tmp_path / "hub"), "--licence", "ours=MIT"]
    assert main(words) == 2 and "--licence 'theirs=NAME'" in capsys.readouterr().err
    words += ["--licence", "theirs=x=y", "--funnel", str(tmp_path / "funnel.json")]
    assert main(words) == 0 and "5 rl" in capsys.readouterr().out
    text = (tmp_path / "hub" / "README.md").read_text()
    assert "| answer | 4 |" in text and "| theirs | 1 | out | x=y |" in text
    assert main(["fork", str(tmp_path / "nothing"), "--out", str(tmp_path / "x")]) == 2
    assert main(["fork", str(suite.folder), "--out", str(suite.folder / "x")]) == 2
    assert "inside the suite" in capsys.readouterr().err
