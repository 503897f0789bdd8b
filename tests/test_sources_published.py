"""Readers of published formats: real files where there are some, else small files in the documented form."""

import json
from collections import Counter

import pytest
from annotated import brief, read, reasons
from real_data import real_file

from medscope.sources.annotations.annotation import Annotation, AnnotationError
from medscope.sources.annotations.formats import read_annotations


def test_real_ophnet():
    stated, bad = read_annotations(real_file("OphNet2024_loca_challenge_phase.csv"), "ophnet")
    assert (len(stated), len(bad), len({s.annotation.video for s in stated})) == (14674, 0, 743)
    first = stated[0].annotation
    assert brief([first]) == [("case_0002", 0, 10, "3")]
    assert (first.level, first.split, first.place) == ("phase", "train", "line 2")


def test_real_nurvid():
    stated, bad = read_annotations(real_file("NurViD_annotations.json"), "nurvid")
    assert (len(stated), len(bad)) == (5615, 0)
    first = stated[0].annotation
    assert brief([first]) == [("--Ly-qjodoI", 10.78, 18.51, "29")]
    assert first.duration == 738


def test_real_multibypass140():
    stated, bad = read_annotations(real_file("MultiBypass140_BBP01.mp4.json"), "multibypass140")
    assert bad == [] and Counter(s.annotation.level for s in stated) == {"phase": 20, "step": 29}
    phases = [s.annotation for s in stated if s.annotation.level == "phase"]
    assert brief(phases[:2]) == [
        ("BBP01", 13.301, 1371.912, "preparation"),
        ("BBP01", 53.583, 75.743, "out_of_body"),  # nested in the first
    ]


def test_ophnet_siblings(tmp_path):
    file = tmp_path / "all.csv"
    file.write_bytes(
        b'\xef\xbb\xbfvideo_id,start,end,split,surgery_id,phase_id,operation_id\r\ncase_1,0,10,test,5,"3,4",2\r\n'
    )
    stated, bad = read_annotations(file, "ophnet")
    assert [(s.annotation.level, s.annotation.label) for s in stated] == [
        ("phase", "3"),
        ("phase", "4"),
        ("operation", "2"),
    ]
    assert bad == [] and stated[0].annotation.split == "test"
    whole = read("ophnet", 'video_id,surgery\ncase_0814,"1,13,14"\ncase_1,"2,,3"\n')
    assert brief(whole[:3]) == [("case_0814", 0, None, label) for label in ("1", "13", "14")]
    assert "between the commas" in reasons(whole)[0]
    with pytest.raises(AnnotationError, match="one of phase_id, operation_id, surgery is needed"):
        read("ophnet", "video_id,start,end\n")


def test_cholec80():
    text = "Frame\tPhase\n" + "".join(f"{i}\t{'Preparation' if i < 50 else 'Calot'}\n" for i in range(75))
    assert brief(read("cholec80", text, "video01-phase")) == [
        ("video01", 0, 2, "Preparation"),
        ("video01", 2, 3, "Calot"),
    ]
    assert reasons(read("cholec80", "Frame\tPhase\n-1\tA\n0.5\tA\n", "v")) == [
        "line 2: Frame is '-1', not a whole number of at least 0",
        "line 3: Frame is '0.5', not a whole number of at least 0",
    ]


def test_cataract101_phases_last_until_the_next():
    text = "VideoID;FrameNo;Phase\n269;250;2\n269;50;1\n270;100;1\n"
    assert brief(read("cataract101", text)) == [
        ("case_269", 2, 10, "1"),
        ("case_269", 10, None, "2"),
        ("case_270", 4, None, "1"),
    ]


def cholect50(frames):
    names = {"triplet": {"17": "grasper,retract,gallbladder"}, "phase": {"0": "preparation", "1": "calot"}}
    annotations = {str(f): [[t, *[-1] * 13, p] for t, p in found] for f, found in frames.items()}
    return json.dumps({"video": 1, "fps": 1, "num_frames": 9, "categories": names, "annotations": annotations})


def test_cholect50_with_frames_that_are_missing():
    found = read("cholect50", cholect50({0: [(17, 0)], 1: [(17, 0)], 2: [(-1, 0)], 5: [(17, 1)], 6: []}), "VID01")
    assert {(e.level, e.start, e.end, e.label) for e in found} == {
        ("triplet", 0, 2, "grasper,retract,gallbladder"),
        ("triplet", 5, 6, "grasper,retract,gallbladder"),
        ("phase", 0, 3, "preparation"),
        ("phase", 5, 6, "calot"),
    }
    assert reasons(read("cholect50", cholect50({3: [(99, 0)]}), "VID01")) == ["annotations, frame 3: 99 is missing"]


def test_heichole_counts_frames_of_the_video():
    found = read("heichole", "0,0\n1,0\n2,3\n\n3,x\n", "Hei-Chole1_Annotation_Phase")
    assert [(e.video, e.start, e.end, e.label, e.frames) for e in found if isinstance(e, Annotation)] == [
        ("Hei-Chole1", 0, 2, "0", True),
        ("Hei-Chole1", 2, 3, "3", True),
    ]
    assert reasons(found) == ["line 5: the number is 'x', not a number"]


def test_cataract1k():
    text = "caseId,comment,frame,endFrame,sec,endSec\n5013,Incision,0,60,0.5,2.5\ncase_5014,Suture,0,60,1,2\n"
    assert brief(read("cataract1k", text)) == [("case_5013", 0.5, 2.5, "Incision"), ("case_5014", 1, 2, "Suture")]


def test_medvidqa():
    items = [
        {"video_id": "x", "question": "How?", "answer_start": "01:05", "answer_end": "1:02:03", "video_length": 4000},
        {"video_id": "x", "question": "How?", "answer_start": "9:99", "answer_start_second": 0, "answer_end_second": 7},
        {"video_id": "x", "question": "How?", "answer_start": "00:05"},
    ]
    found = read("medvidqa", json.dumps(items))
    assert brief(found[:2]) == [("x", 65, 3723, "How?"), ("x", 0, 7, "How?")]
    assert found[0].duration == 4000 and reasons(found) == ["entry 2: answer_end is missing"]


def svu(**fields):
    messages = [{"role": "user", "content": "<video>What is shown?"}, {"role": "assistant", "content": "A suture."}]
    return {"videos": ["./videos/abc.mp4"], "messages": messages, "tag": "video clip description"} | fields


def test_svu31k():
    items = [
        svu(id=7, timecodes=[1.5, 9]),
        svu(id=8, timecodes=[3, -1]),
        svu(total_id="t1", tag="full video detailed description"),
        svu(id=9, tag="video"),
        svu(id=10, timecodes=[1]),
    ]
    found = read("svu31k", json.dumps(items))
    assert brief(found[:3]) == [
        ("./videos/abc.mp4", 1.5, 9, "A suture."),
        ("./videos/abc.mp4", 3, None, "A suture."),
        ("./videos/abc.mp4", 0, None, "A suture."),
    ]
    assert [e.place for e in found[:3]] == ["entry 0 (7)", "entry 1 (8)", "entry 2 (t1)"]
    assert "tag is 'video'" in reasons(found)[0] and "not [start, end]" in reasons(found)[1]


def test_activitynet():
    text = json.dumps({"database": {"a": {"duration": 9, "annotations": [{"label": "cut", "segment": [1, 2]}, {}]}}})
    found = read("activitynet", text)
    assert brief(found[:1]) == [("a", 1, 2, "cut")] and found[0].duration == 9
    assert reasons(found) == ["a, annotations[1]: segment is missing"]


def test_webvtt():
    text = (
        "WEBVTT - notes\n\nNOTE a comment\n\nSTYLE\n::cue {}\n\n1\n00:01.000 --> 00:02.500 align:left\n"
        "<v Doe>cut &amp;\ngo</v>\n\n00:00:03.000 --> 01:00:04.000\nsew\n\n"
        "00:05.000 --> x\nbad\n\n00:01.000 --> 00:02.000\n"
    )
    found = read("webvtt", text)
    assert brief([e for e in found if isinstance(e, Annotation)]) == [
        ("video01", 1, 2.5, "cut & go"),
        ("video01", 3, 3604, "sew"),
    ]
    assert reasons(found) == [
        "line 16: end is 'x', neither seconds nor a clock time",
        "line 19: the cue has no text",
    ]
    with pytest.raises(AnnotationError, match="not WEBVTT"):
        read("webvtt", "1\n00:01.000 --> 00:02.500\ncut\n")


def test_srt():
    text = "1\r\n00:00:01,000 --> 00:00:02,500\r\n<i>cut</i>\r\n\r\n2\r\n00:00:03,000 --> 00:00:04,000\r\nsew"
    assert brief(read("srt", text)) == [("video01", 1, 2.5, "cut"), ("video01", 3, 4, "sew")]
    with pytest.raises(AnnotationError, match="no line holds -->"):
        read("srt", "a diary")


def label_studio(video, *ranges, **annotation):
    value = {"ranges": [{"start": a, "end": b} for a, b in ranges], "timelinelabels": ["cut"]}
    done = {"result": [{"type": "timelinelabels", "id": "q1", "value": value}, {"type": "choices"}]} | annotation
    return {"data": {"video": video}, "annotations": [done]}


def test_label_studio():
    task = label_studio("/data/upload/3/0a1b2c3d-my%20film.mp4", (1, 25), (26, 26))
    task["annotations"].append({"result": [], "was_cancelled": True})
    found = read("label_studio", json.dumps([task]))
    assert [(e.video, e.start, e.end, e.frames, e.id) for e in found] == [
        ("my film.mp4", 0, 25, True, "q1"),
        ("my film.mp4", 25, 26, True, "q1"),
    ]
    local = label_studio("/data/local-files/?d=films/a.mp4", (0, 3))
    assert reasons(read("label_studio", json.dumps([local]))) == ["task 0, result[0]: start is 0; frames count from 1"]
    assert read("label_studio", json.dumps([label_studio("sub/a.mp4", (2, 3))]))[0].video == "sub/a.mp4"
