"""Sources on disk give recordings that the suite can use, and the command that looks first writes two files only."""

import json
import shutil
import sys
from subprocess import run

import numpy as np
import pytest
from dicoms import write_pictures
from media import grey_frames, packaged_video, write_mp4
from real_data import real_file

from medscope.files import read_jsonl
from medscope.records import Interval, Window
from medscope.sources.__main__ import main
from medscope.sources.make import make_source
from medscope.sources.manifest import Quarantined, QuarantineError, VideoFile
from medscope.suite.splits import assign_splits

FIELDS = {"video", "path", "duration", "fps", "width", "height", "codec", "sha256", "group"}


@pytest.fixture
def folder(tmp_path):
    """Two patients with two films of 10 s each."""
    for number, name in enumerate(("p1/a.mp4", "p1/b.mp4", "p2/c.mp4", "p2/d.mp4")):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_mp4(path, np.arange(10), np.roll(grey_frames(10), number, axis=0))
    return tmp_path / "in"


def test_folder(folder, tmp_path):
    source = make_source("folder", folder=folder, out=tmp_path / "out", collection="ours", group_from="parent")
    recordings = list(source.recordings())
    assert [(r.video, r.group, r.collection, r.intervals) for r in recordings] == [
        ("p1/a", "p1", "ours", ()),
        ("p1/b", "p1", "ours", ()),
        ("p2/c", "p2", "ours", ()),
        ("p2/d", "p2", "ours", ()),
    ]
    assert all(r.duration == pytest.approx(10, abs=0.1) for r in recordings)
    splits = {r.video: r.split for r in assign_splits(recordings)}
    assert splits["p1/a"] == splits["p1/b"] and splits["p2/c"] == splits["p2/d"]


def test_too_many_bad_files_end_the_run_with_the_reasons_on_disk(folder, tmp_path):
    (folder / "bad.mp4").write_bytes(b"")
    settings = {"folder": folder, "out": tmp_path / "out"}
    with pytest.raises(QuarantineError, match=r"1 of 5 files are quarantined"):
        list(make_source("folder", **settings).recordings())
    assert len(read_jsonl(tmp_path / "out" / "quarantine.jsonl", Quarantined)) == 1
    assert len(list(make_source("folder", **settings, max_quarantined=0.2).recordings())) == 4


def test_an_empty_folder_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="holds no video"):
        list(make_source("folder", folder=tmp_path, out=tmp_path / "out").recordings())


def test_segments(folder, tmp_path):
    table = "video,start,end,label,tool\nc,4,8,7,hook\na.mp4,1,5,7,\na,2,3,out_of_body,\np2/d,0,99,7,\n"
    (tmp_path / "a.csv").write_text(table)
    settings = {"folder": folder, "out": tmp_path / "out", "annotations": tmp_path / "a.csv", "format": "csv"}
    with pytest.raises(QuarantineError, match=r"1 of 4 annotations are quarantined \(25.0%\)"):
        list(make_source("segments", **settings).recordings())
    questions = {"tool": ["What is used in the {label}?"]}
    source = make_source(
        "segments", **settings, max_quarantined=0.5, labels={"7": "suture"}, questions=questions, domain="out"
    )
    recordings = {r.video: r for r in source.recordings()}
    assert {video: r.intervals for video, r in recordings.items()} == {
        "p1/a": (Interval(Window(1, 5), "suture"), Interval(Window(2, 3), "out_of_body")),
        "p2/c": (Interval(Window(4, 8), "suture", {"tool": "hook"}),),
    }
    assert recordings["p2/c"].domain == "out"
    assert source.language.templates["tool"] == ("What is used in the {label}?",)
    assert "grounding" in source.language.templates
    [record] = read_jsonl(tmp_path / "out" / "quarantine.jsonl", Quarantined)
    assert record.path.endswith("a.csv") and record.reason.startswith("line 5: it ends at 99 s")


def test_annotations_of_other_videos_are_an_error(folder, tmp_path):
    (tmp_path / "a.csv").write_text("video,start,end,label\nx,1,2,cut\n")
    source = make_source("segments", folder=folder, out=tmp_path, annotations=tmp_path / "a.csv", format="csv")
    with pytest.raises(ValueError, match="none of the 1 annotations"):
        list(source.recordings())


def test_published_splits(folder, tmp_path):
    database = {
        name: {"subset": subset, "annotations": [{"label": "cut", "segment": [1, 2]}]}
        for name, subset in (("a", "validation"), ("c", "training"))
    }
    (tmp_path / "a.json").write_text(json.dumps({"database": database}))
    source = make_source(
        "segments",
        folder=folder,
        out=tmp_path / "out",
        annotations=tmp_path / "a.json",
        format="activitynet",
        splits={"validation": "eval"},
    )
    assert {r.video: r.split for r in source.recordings()} == {"p1/a": "eval", "p2/c": None}


def test_segments_on_dicom_beside_videos(folder, tmp_path):
    write_pictures(folder / "us.dcm", grey_frames(8), FrameTime="500")
    write_pictures(folder / "p1" / "a.dcm", grey_frames(4), FrameTime="500")  # beside a.mp4
    (tmp_path / "a.csv").write_text("video,start,end,label\nus,1,3,flow\n")
    source = make_source(
        "segments",
        folder=folder,
        out=tmp_path / "out",
        annotations=tmp_path / "a.csv",
        format="csv",
        copies=tmp_path / "c",
    )
    [recording] = source.recordings()
    assert recording.video == "us" and recording.duration == pytest.approx(4, abs=0.01)
    names = [video.video for video in read_jsonl(tmp_path / "out" / "manifest.jsonl", VideoFile)]
    assert names == ["p1/a", "p1/b", "p2/c", "p2/d", "p1/a.dcm", "us"]


def svu(name, tag, timecodes, answer):
    messages = [{"role": "user", "content": "<video>?"}, {"role": "assistant", "content": answer}]
    return {"id": name, "videos": [f"v/{name}.mp4"], "messages": messages, "tag": tag, "timecodes": timecodes}


def test_surgvidlm(folder, tmp_path):
    shutil.copy(folder / "p1" / "a.mp4", folder / "vd01en3812.mp4")
    with (folder / "vd01en3812.mp4").open("ab") as file:
        file.write(b"\0\0\0\x08free")  # other bytes, the same film
    items = [
        svu("c", "video clip description", [2, 6], "A suture."),
        svu("c", "full video detailed description", [0, -1], "An operation."),
        svu("c", "Visual Temporal Reasoning", [0, -1], "Before."),
        svu("vd01en3812", "video clip description", [2, 6], "A cut."),
    ]
    (tmp_path / "svu.json").write_text(json.dumps(items))
    source = make_source("surgvidlm", folder=folder, out=tmp_path / "out", annotations=tmp_path / "svu.json")
    [recording] = source.recordings()
    assert recording.collection == "surgvidlm"
    assert [(i.window.start, i.label) for i in recording.intervals] == [(0, "An operation."), (2, "A suture.")]
    assert recording.intervals[0].window.end == recording.duration
    [record] = read_jsonl(tmp_path / "out" / "quarantine.jsonl", Quarantined)
    assert "vd01en3812" in record.reason and "broken" in record.reason


def test_key_maps_of_ophvl_and_medvideocap(folder, tmp_path):
    (tmp_path / "o.csv").write_text("clip,from,to,narration\na,1,5,we open the capsule\n")
    keys = {"video": "clip", "start": "from", "end": "to", "label": "narration"}
    settings = {"folder": folder, "out": tmp_path / "out"}
    [recording] = make_source("ophvl", **settings, annotations=tmp_path / "o.csv", keys=keys).recordings()
    assert recording.intervals == (Interval(Window(1, 5), "we open the capsule"),)
    (tmp_path / "m.json").write_text(json.dumps([{"path": "x/b.mp4", "caption": "a knot"}]))
    keys = {"video": "path", "label": "caption"}
    [recording] = make_source("medvideocap", **settings, annotations=tmp_path / "m.json", keys=keys).recordings()
    assert (recording.video, recording.intervals[0].window.end) == ("p1/b", recording.duration)
    with pytest.raises(ValueError, match="source ophvl: missing a required argument: 'keys'"):
        make_source("ophvl", **settings, annotations=tmp_path / "o.csv")


def test_unknown_names():
    with pytest.raises(ValueError, match="source 'disk' is unknown; choose one of procedures, folder, dicom, segments"):
        make_source("disk")
    with pytest.raises(ValueError, match="annotation format 'elan' is unknown"):
        make_source("segments", folder="a", out="b", annotations="c", format="elan")


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.slow
def test_command_on_real_files(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for path in (real_file("endo.mp4"), packaged_video("bikes.mp4"), packaged_video("bigbuckbunny.mp4")):
        shutil.copy(path, folder)
    (folder / "list.mp4").write_text("ffconcat version 1.0\nfile endo.mp4\n")
    shutil.copy(folder / "endo.mp4", folder / "z.mp4")
    (tmp_path / "a.vtt").write_text("WEBVTT\n\n00:01.000 --> 00:02.000\nx\n")
    (tmp_path / "a.csv").write_text("video,start,end,label\nendo.mp4,1,4.5,hook\nendo,9,12,hook\nbikes,5,2,ride\n")
    words = ["medscope.sources", str(folder), "--out", str(tmp_path / "out")]
    words += ["--annotations", str(tmp_path / "a.csv"), "--format", "csv"]
    done = run([sys.executable, "-m", *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["manifest.jsonl", "quarantine.jsonl"]
    videos, quarantine = lines(tmp_path / "out" / "manifest.jsonl"), lines(tmp_path / "out" / "quarantine.jsonl")
    assert [video["video"] for video in videos] == ["bigbuckbunny", "bikes", "endo"]
    assert all(set(video) >= FIELDS for video in videos)
    assert all(set(record) == {"path", "reason"} for record in quarantine)
    assert len(quarantine) == 4
    assert "endo " in done.stdout and "1280x720" in done.stdout
    assert "files:       3 of 5 are good, 2 quarantined" in done.stdout
    assert "annotations: 1 of 3 fit a video, 2 impossible, 0 of unknown videos" in done.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--annotations", "a.csv"], "--annotations and --format belong together; the formats are csv, jsonl, ophnet"),
        (["--annotations", "a.csv", "--format", "elan"], "annotation format 'elan' is unknown; choose one of csv"),
        (["--annotations", "nowhere.csv", "--format", "csv"], "nowhere.csv does not exist"),
        (["--group-from", "patients"], "choose video, parent"),
        (["--annotations", "a.csv", "--format", "csv", "--keys", "video"], "'video' is not KEY=NAME"),
        (["--max-quarantined", "7"], "max_quarantined is 7.0"),
    ],
)
def test_command_says_what_is_wrong(folder, tmp_path, monkeypatch, capsys, words, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.csv").write_text("video,start,end,label\n")
    assert main([str(folder), "--out", "out", *words]) == 2
    assert message in capsys.readouterr().err


def test_command_fails_above_the_share(folder, tmp_path, capsys):
    (folder / "bad.mp4").write_bytes(b"")
    words = [str(folder), "--out", str(tmp_path / "out")]
    assert main([*words, "--max-quarantined", "0.1"]) == 1
    assert "1 of 5 files are quarantined" in capsys.readouterr().err
    assert main(words) == 0


def test_command_leaves_dicom_out_unless_told_where_copies_go(folder, tmp_path, capsys):
    write_pictures(folder / "us.dcm", grey_frames(8), FrameTime="40")
    words = [str(folder), "--out", str(tmp_path / "out")]
    assert main(words) == 0
    assert "1 DICOM files are left out" in capsys.readouterr().out
    assert main([*words, "--copies", str(tmp_path / "copies")]) == 0
    assert lines(tmp_path / "out" / "manifest.jsonl")[-1]["video"] == "us"
    assert {file.name for file in (tmp_path / "out").iterdir()} == {"manifest.jsonl", "quarantine.jsonl"}


def test_a_setting_that_the_source_does_not_have_is_named_with_those_it_has(tmp_path):
    with pytest.raises(ValueError, match=r"source folder: .*'colections'; its settings are folder, out, collection"):
        make_source("folder", folder=tmp_path, out=tmp_path, colections="x")
    with pytest.raises(ValueError, match="source segments: missing a required argument: 'annotations'"):
        make_source("segments", folder=tmp_path, out=tmp_path, format="csv")
