"""Readers of annotations: CSV, JSON lines, clock times, any text, errors that name their place."""

import json

import pytest
from annotated import brief, read, reasons
from hypothesis import given, settings
from hypothesis import strategies as st

from medscope.sources.annotations.annotation import Annotation, AnnotationError, Unreadable, runs, seconds
from medscope.sources.annotations.formats import FORMATS, read_annotations


def test_csv_in_all_its_forms():
    plain = "video,start,end,label,tool\ncase_1,0,1:30,incision,blade\ncase_1,90.5,00:02:00.250,closing,\n"
    expected = [("case_1", 0, 90, "incision"), ("case_1", 90.5, 120.25, "closing")]
    assert brief(read("csv", plain)) == expected
    assert [e.attributes for e in read("csv", plain)] == [{"tool": "blade"}, {}]
    german = "video;start;end;label\r\ncase_1;0;90,0;incision\r\ncase_1;90,5;120,25;closing\r\n"
    assert brief(read("csv", german)) == expected
    assert brief(read("csv", plain.replace(",", "\t"))) == expected


def test_csv_errors_name_line_field_and_value():
    found = read("csv", "video,start,end,label\na,x,2,cut\n,1,2,cut\na,1,2,\na,1,2\na,1,2,cut\n")
    assert reasons(found) == [
        "line 2: start is 'x', neither seconds nor a clock time",
        "line 3: video is '', not a text",
        "line 4: label is '', not a text",
        "line 5: label is missing",
    ]
    assert brief([e for e in found if isinstance(e, Annotation)]) == [("a", 1, 2, "cut")]
    with pytest.raises(AnnotationError, match="line 1: the columns are video, begin, end, label; start is missing"):
        read("csv", "video,begin,end,label\n")


def test_keys_of_other_tables():
    keys = {"video": "clip", "start": "t0", "end": "t1", "label": "narration"}
    assert brief(read("csv", "clip,t0,t1,narration\nv,1,2,we cut\n", keys=keys)) == [("v", 1, 2, "we cut")]
    whole = {"video": "file", "label": "caption"}
    text = json.dumps([{"file": "v.mp4", "caption": "a suture", "lang": "en"}])
    assert brief(read("jsonl", text, keys=whole)) == [("v.mp4", 0, None, "a suture")]
    for keys in ({"video": "a"}, {"video": "a", "label": "b", "start": "c"}, {"film": "a", "label": "b"}):
        with pytest.raises(AnnotationError, match="keys names"):
            read("csv", "a,b\n", keys=keys)


def test_jsonl():
    lines = ['{"video": "a", "start": 1, "end": 2.5, "label": "cut", "tool": "hook", "count": 3}', "", "[1]", "{", "7"]
    found = read("jsonl", "\n".join(lines))
    assert brief(found[:1]) == [("a", 1, 2.5, "cut")] and found[0].attributes == {"tool": "hook"}
    assert [reason.split(":")[0] for reason in reasons(found)] == ["line 3", "line 4", "line 5"]


def test_clock_times():
    times = ["1:02", "01:02:03.5", "00:00:01,250", "7", 7, "7,5", "1e2"]
    assert [seconds(t, "t") for t in times] == [62, 3723.5, 1.25, 7, 7, 7.5, 100]


def test_runs():
    frames = [(0, "a"), (1, "a"), (2, "b"), (5, "b"), (6, "b")]
    assert list(runs(frames)) == [(0, 2, "a"), (2, 3, "b"), (5, 7, "b")]
    assert list(runs([(0, "a"), (25, "a"), (50, "b")], step=25)) == [(0, 50, "a"), (50, 75, "b")]
    assert list(runs([])) == []


KEYS = (
    "database annotations segment label duration phases steps start end label_name fps categories videos tag messages "
    "timecodes data video result type value ranges timelinelabels 0 question video_id answer_start"
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS.split()), inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.parametrize("name", FORMATS)
@settings(max_examples=40)
@given(text=st.text(max_size=60) | st.text("0123456789:,.;->\n\tWEBVTvideostarndlabel\"'{}[]", max_size=80))
def test_any_text_is_read_or_refused_with_a_reason(name, text):
    check_reader(name, text)


@pytest.mark.parametrize("name", FORMATS)
@settings(max_examples=40)
@given(value=json_values)
def test_any_json_is_read_or_refused_with_a_reason(name, value):
    check_reader(name, json.dumps(value))


def check_reader(name, text):
    try:
        entries = read(name, text)
    except AnnotationError as error:
        assert str(error)
        return
    for entry in entries:
        assert isinstance(entry, Annotation | Unreadable) and entry.place
        if isinstance(entry, Annotation):
            assert isinstance(entry.start, float | int) and entry.label and isinstance(entry.video, str)


def test_files_of_a_folder(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.vtt").write_text("WEBVTT\n\n00:01.000 --> 00:02.000\ncut\n")
    (tmp_path / "y.mp4.vtt").write_text("WEBVTT\n\n00:01.000 --> 00:02.000\nsew\n")
    (tmp_path / "z.vtt").write_text("nothing")
    (tmp_path / "w.vtt").write_bytes(b"WEBVTT \xff")
    stated, bad = read_annotations(tmp_path, "webvtt")
    assert [s.annotation.video for s in stated] == ["x", "y"]
    assert [record.reason.split("(")[0] for record in bad] == ["not of the format webvtt "] * 2
    with pytest.raises(FileNotFoundError, match=r"holds no file that ends in \.srt"):
        read_annotations(tmp_path, "srt")


def test_errors_of_a_single_file(tmp_path):
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(AnnotationError, match=r"a\.json: not an annotation file of the format nurvid"):
        read_annotations(tmp_path / "a.json", "nurvid")
    (tmp_path / "b.csv").write_bytes(b"video,start,end,label\n\xe9,1,2,cut\n")
    with pytest.raises(AnnotationError, match=r"b\.csv.*not UTF-8 text, byte 22"):
        read_annotations(tmp_path / "b.csv", "csv")
    with pytest.raises(ValueError, match="'elan' is unknown; choose one of csv, jsonl, ophnet"):
        read_annotations(tmp_path / "a.json", "elan")
    with pytest.raises(FileNotFoundError, match=r"nowhere\.csv does not exist"):
        read_annotations(tmp_path / "nowhere.csv", "csv")
    with pytest.raises(ValueError, match="keys are given for the format nurvid"):
        read_annotations(tmp_path / "a.json", "nurvid", {"video": "v", "label": "l"})
