"""Records on disk: nothing is lost on the way, and a bad line is named."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from medscope.records import (
    Caption,
    WarmUpExample,
    Timestamp,
    Task,
    Recording,
    Segment,
    ToolCall,
    Trajectory,
    Window,
    read_jsonl,
    write_json,
    write_jsonl,
)


def question(evidence):
    return Task("v:x:y", "v", "cataract", "rl", "grounding", "x", "When?", "from 1 to 2 s", evidence)


RECORDS = [
    Window(0, 1.25),
    Timestamp(3.5),
    Segment(Window(0, 9), "incision", "blade", "tear", (Window(1, 2), Window(3, 4))),
    Segment(Window(0, 1), "flash", "loop", moment=0.5),
    Recording("v", "data/v.mp4", "cataract", "warm_up", 9.5, (Segment(Window(0, 9), "incision", "blade"),)),
    Caption("v", Window(0, 9), "Größe “1 µm”\n<think>"),
    question(Window(1, 2)),
    question(Timestamp(1)),
    WarmUpExample("v", "What?", (0.0, 1.5), 784, 9.0, "<think>a</think><answer>b</answer>", captions=("a", "b")),
    ToolCall("get_frame", {"timestamp": 3, "deep": {"er": [1.5, None, "x"]}}, executed=False, message="no"),
    Trajectory("v:x:y", ("one", "two"), (ToolCall("get_frame", {"timestamp": 3}, True),), tools=False),
]


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_a_record_comes_back_equal_from_its_json_line(record, tmp_path):
    assert write_jsonl(tmp_path / "new" / "records.jsonl", [record, record]) == 2
    assert read_jsonl(tmp_path / "new" / "records.jsonl", type(record)) == [record, record]
    assert len((tmp_path / "new" / "records.jsonl").read_text().splitlines()) == 2


@given(st.tuples(st.floats(0, 1e9), st.floats(0, 1e9)).map(sorted))
def test_no_digit_of_a_second_is_lost(ends):
    window = Window(*ends)
    adapter = TypeAdapter(Window)
    assert adapter.validate_json(adapter.dump_json(window)) == window


def test_evidence_keeps_its_kind(tmp_path):
    write_jsonl(tmp_path / "questions.jsonl", [question(Window(1, 2)), question(Timestamp(1))])
    kinds = [type(q.evidence) for q in read_jsonl(tmp_path / "questions.jsonl", Task)]
    assert kinds == [Window, Timestamp]


def test_a_segment_is_evidence_by_its_moment_if_it_has_one():
    assert Segment(Window(1, 3), "flash", "loop", moment=2).evidence == Timestamp(2)
    assert Segment(Window(1, 3), "flash", "loop").evidence == Window(1, 3)


@pytest.mark.parametrize("start, end", [(2, 1), (-1, 1), ("nan", 1), (0, "nan"), (0, "inf"), ("x", 1), (None, 1)])
def test_a_window_that_is_none_is_refused(start, end):
    with pytest.raises(ValidationError):
        Window(start, end)


@pytest.mark.parametrize("time", [-0.1, float("nan"), float("inf")])
def test_a_moment_outside_of_time_is_refused(time):
    with pytest.raises(ValidationError):
        Timestamp(time)
    with pytest.raises(ValidationError):
        Segment(Window(0, 1), "flash", "loop", moment=time)


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
