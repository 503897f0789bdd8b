"""Which files a folder gives, in which order, under which names, in which groups."""

import os

import pytest

from medscope.sources.folder import find_videos, grouping


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")


def test_depth_order_suffixes_and_hidden_files(tmp_path):
    touch(
        tmp_path, "z.MP4", "b/1.mkv", "b/c/d/2.webm", "a.b.mov", "b/.hidden.mp4", ".trash/3.mp4", "notes.txt", "e.mp3"
    )
    touch(tmp_path, "x.avi", "x.mpg", "y.mpeg", "y.ts")
    assert [found.video for found in find_videos(tmp_path)] == [
        "a.b",
        "b/1",
        "b/c/d/2",
        "x.avi",
        "x.mpg",
        "y.mpeg",
        "y.ts",
        "z",
    ]


def test_links_to_folders_are_followed_once(tmp_path):
    touch(tmp_path / "store", "1.mp4")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "link").symlink_to(tmp_path / "store")
    (tmp_path / "store" / "back").symlink_to(tmp_path / "in")
    assert [found.video for found in find_videos(tmp_path / "in")] == ["link/1"]


def test_a_name_that_is_not_utf_8_is_a_problem(tmp_path):
    with open(os.path.join(os.fsencode(tmp_path), b"caf\xe9.mp4"), "wb") as file:
        file.write(b"x")
    [found] = find_videos(tmp_path)
    assert "not UTF-8" in found.problem and "\\xe9" in found.path


def test_no_folder():
    with pytest.raises(NotADirectoryError, match="/nowhere is not a folder"):
        find_videos("/nowhere")


def groups(folder, group_from):
    return {found.video: found.group for found in find_videos(folder, group_from)}


def test_groups(tmp_path):
    touch(tmp_path, "p1/left.mp4", "p1/right.mp4", "p2/left.mp4", "lone.mp4")
    assert groups(tmp_path, "video")["p1/left"] == "p1/left"
    assert groups(tmp_path, "parent") == {"p1/left": "p1", "p1/right": "p1", "p2/left": "p2", "lone": "lone"}


def test_groups_by_pattern(tmp_path):
    touch(tmp_path, "case12_a.mp4", "case12_b.mp4", "other.mp4")
    found = {f.video: f for f in find_videos(tmp_path, r"pattern:(case\d+)_")}
    assert found["case12_a"].group == found["case12_b"].group == "case12"
    assert "finds no group in 'other.mp4'" in found["other"].problem


def test_groups_by_map(tmp_path):
    touch(tmp_path / "in", "a.mp4", "b/c.mp4", "d.mp4")
    (tmp_path / "map.csv").write_text("﻿video,group\na.mp4,p1\nb/c,p1\n", encoding="utf-8")
    found = {f.video: f for f in find_videos(tmp_path / "in", f"map:{tmp_path / 'map.csv'}")}
    assert found["a"].group == found["b/c"].group == "p1"
    assert "no row for the video 'd'" in found["d"].problem


@pytest.mark.parametrize(
    ("group_from", "words"),
    [
        ("patients", "choose video, parent, pattern:REGEX or map:FILE.csv"),
        ("pattern:", "choose"),
        ("pattern:(", "no regular expression"),
        ("pattern:a(b)(c)", "2 pairs of brackets"),
        ("map:/nowhere.csv", "/nowhere.csv does not exist"),
    ],
)
def test_refused(group_from, words):
    with pytest.raises((ValueError, OSError), match=words):
        grouping(group_from)


@pytest.mark.parametrize(("text", "words"), [("name,group\n", "line 1"), ("video,group\na,\n", "line 2")])
def test_a_bad_map_names_its_line(tmp_path, text, words):
    (tmp_path / "map.csv").write_text(text)
    with pytest.raises(ValueError, match=words):
        grouping(f"map:{tmp_path / 'map.csv'}")
