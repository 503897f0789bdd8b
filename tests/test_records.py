"""Records on disk: nothing is lost on the way, and a bad line is named."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from medscope.files import read_jsonl, write_json, write_jsonl
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


def task(evidence=Window(1, 2), reference=Text("blade"), name="v/grounding/0"):  # noqa: B008  frozen
    return Task(name, "v", "data/v.mp4", "When?", reference, evidence, "grounding", "rl", "cataract", "out", "x")


RECORDS = [
    Window(0, 1.25),
    Timestamp(3.5),
    Interval(Window(0, 9), "incision", {"instrument": "blade", "complication": "tear"}),
    Interval(Window(0, 1), "flash", timestamp=0.5),
    Recording("v", "data/v.mp4", 9.5, (Interval(Window(0, 9), "incision"),), "cataract", "out", "warm_up", "patient 1"),
    Recording("v", "data/v.mp4", 9.5, (), "cataract"),
    Caption("v", Window(0, 9), "Größe “1 µm”\n<think>"),
    WarmUpExample(
        "v", "v.mp4", "What?", (0.0, 1.5), 784, 9.0, "<think>a</think><answer>b</answer>", captions=("a", "b")
    ),
    ToolCall("get_frame", {"timestamp": 3, "deep": {"er": [1.5, None, "x"]}}, message="no"),
    ToolCall("get_frame", {"timestamp": 3}, Timestamp(3), (2.0, 3.0, 4.0)),
    Trajectory(task(), ("one", "two"), (ToolCall("crop_video", {}, Window(1, 2), (1.0, 1.5)),), tools=False),
]


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_a_record_comes_back_equal_from_its_json_line(record, tmp_path):
    assert write_jsonl(tmp_path / "new" / "records.jsonl", [record, record]) == 2
    assert read_jsonl(tmp_path / "new" / "records.jsonl", type(record)) == [record, record]
    assert len((tmp_path / "new" / "records.jsonl").read_text().splitlines()) == 2


@pytest.mark.slow
@given(st.tuples(st.floats(0, 1e9), st.floats(0, 1e9)).map(sorted))
def test_no_digit_of_a_second_is_lost(ends):
    window = Window(*ends)
    adapter = TypeAdapter(Window)
    assert adapter.validate_json(adapter.dump_json(window)) == window


@pytest.mark.parametrize("evidence", [Window(1, 2), Timestamp(1)])
@pytest.mark.parametrize("reference", [Text("10-0 nylon"), Text("from 1 to 2 s"), Window(1, 2), Timestamp(1)])
def test_evidence_and_reference_keep_their_kind(evidence, reference, tmp_path):
    write_jsonl(tmp_path / "tasks.jsonl", [task(evidence, reference)])
    (read,) = read_jsonl(tmp_path / "tasks.jsonl", Task)
    assert (read.evidence, read.reference) == (evidence, reference)


def test_a_second_task_of_the_same_id_is_refused_on_write_and_read(tmp_path):
    path = tmp_path / "tasks.jsonl"
    write_jsonl(path, [task(), task(name="v/grounding/1")])
    with pytest.raises(ValueError, match=r"tasks\.jsonl: the id 'v/grounding/0' occurs twice"):
        write_jsonl(path, [task(), task()])
    assert len(read_jsonl(path, Task)) == 2  # the old file
    path.write_text(path.read_text() + path.read_text().splitlines()[0] + "\n")
    with pytest.raises(ValueError, match=r"tasks\.jsonl: the id 'v/grounding/0' occurs twice"):
        read_jsonl(path, Task)


def test_an_interval_is_evidence_by_its_timestamp_if_it_has_one():
    assert Interval(Window(1, 3), "flash", timestamp=2).evidence == Timestamp(2)
    assert Interval(Window(1, 3), "flash").evidence == Window(1, 3)


@pytest.mark.parametrize("looked, executed", [(Window(0, 1), True), (Timestamp(0), True), (None, False)])
def test_a_call_is_executed_if_it_looked_at_something(looked, executed):
    assert ToolCall("crop_video", {}, looked).executed is executed


@pytest.mark.parametrize("start, end", [(2, 1), (-1, 1), ("nan", 1), (0, "nan"), (0, "inf"), ("x", 1), (None, 1)])
def test_a_window_that_is_none_is_refused(start, end):
    with pytest.raises(ValidationError):
        Window(start, end)


@pytest.mark.parametrize("time", [-0.1, float("nan"), float("inf")])
def test_a_timestamp_outside_of_time_is_refused(time):
    with pytest.raises(ValidationError):
        Timestamp(time)
    with pytest.raises(ValidationError):
        Interval(Window(0, 1), "flash", timestamp=time)


@pytest.mark.parametrize(
    "line, field",
    [
        ('{"video": "v", "window": {"start": 5, "end": 3}, "text": "t"}', "ends at 3 s before it starts at 5 s"),
        ('{"video": "v", "window": {"start": -1, "end": 3}, "text": "t"}', "window.start"),
        ('{"video": "v", "window": {"start": NaN, "end": 3}, "text": "t"}', "window.start"),
        ('{"video": "v", "window": {"start": 1}, "text": "t"}', "window.end"),
        ('{"video": "v", "window": {"start": 1, "end": 3}}', "text"),
        ('{"video": 7, "window": {"start": 1, "end": 3}, "text": "t"}', "video"),
        ('{"video": "v", "window"', "JSON"),
        ("", "JSON"),
    ],
)
def test_a_bad_line_names_file_line_and_field(line, field, tmp_path):
    path = tmp_path / "captions.jsonl"
    write_jsonl(path, [Caption("v", Window(0, 1), "good")])
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(ValueError) as error:
        read_jsonl(path, Caption)
    assert f"{path}, line 2" in str(error.value) and field in str(error.value)


def test_a_missing_file_says_what_to_do(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"missing\.jsonl does not exist.*dvc repro"):
        read_jsonl(tmp_path / "missing.jsonl", Caption)


def test_a_writer_killed_half_way_leaves_the_old_file(tmp_path):
    path = tmp_path / "captions.jsonl"
    write_jsonl(path, [Caption("v", Window(0, 1), "old")])

    def dying():
        yield Caption("v", Window(0, 1), "new")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_jsonl(path, dying())
    assert [caption.text for caption in read_jsonl(path, Caption)] == ["old"]


def test_write_json_is_sorted_and_whole(tmp_path):
    write_json(tmp_path / "new" / "scores.json", {"b": 1, "a": [0.5]})
    assert (tmp_path / "new" / "scores.json").read_text() == json.dumps({"a": [0.5], "b": 1}, indent=2) + "\n"
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["scores.json"]
