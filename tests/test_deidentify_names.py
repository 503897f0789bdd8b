"""Names of de-identified copies: random, stable, and in a map that stays private."""

import stat
from pathlib import Path

import numpy as np
import pytest
from deidentified import rows, run
from hypothesis import given, settings
from hypothesis import strategies as st
from media import write_mp4

from medscope.deidentify.names import COLUMNS, NameMap, check_private
from medscope.sources.folder import find_videos


@pytest.fixture
def home(tmp_path):
    (tmp_path / "in").mkdir()
    return tmp_path


def test_names_are_random_stable_and_private(home, capsys):
    for number, name in enumerate(("case_1", "case_2")):
        write_mp4(home / "in" / f"{name}.mp4", np.arange(4 + number) / 25)
    assert run(home) == 0
    before = rows(home)
    copies = {file.name: file.stat().st_mtime_ns for file in (home / "out").glob("*.mp4")}
    assert set(copies) == {f"{row['name']}.mp4" for row in before} and len(copies) == 2
    assert not [name for name in copies if "case" in name]
    assert stat.S_IMODE((home / "key" / "names.csv").stat().st_mode) == 0o600
    assert stat.S_IMODE((home / "key" / "names_private").stat().st_mode) == 0o700
    (home / "out" / f"{before[0]['name']}.mp4").unlink()
    write_mp4(home / "in" / "case_3.mp4", np.arange(7) / 25)
    assert run(home) == 0
    assert "2 as they were, 0 encoded anew, 1 from before" in capsys.readouterr().out
    assert rows(home)[:2] == before and len(rows(home)) == 3
    kept = home / "out" / f"{before[1]['name']}.mp4"
    assert kept.stat().st_mtime_ns == copies[kept.name]
    found = find_videos(home / "out", f"map:{home / 'out' / 'groups.csv'}")
    assert {file.video: file.group for file in found} == {row["name"]: row["group"] for row in rows(home)}


def test_groups_stay_together_under_new_names(home):
    for patient, name in (("anna", "1"), ("anna", "2"), ("bert", "1")):
        (home / "in" / patient).mkdir(exist_ok=True)
        write_mp4(home / "in" / patient / f"{name}.mp4", np.arange(4 + len(list(home.rglob("*.mp4")))) / 25)
    assert run(home, "--group-from", "parent") == 0
    groups = {row["path"].split("/in/")[1]: row["group"] for row in rows(home)}
    assert groups["anna/1.mp4"] == groups["anna/2.mp4"] != groups["bert/1.mp4"]
    assert "anna" not in (home / "out" / "groups.csv").read_text()


HOSTILE = ["--out=x", 'a,b"c', "new\nline", "=cmd()", "ümlaut 手術", "a..", "%s{0}", "'; rm -rf", " "]


def test_hostile_names(home):
    for number, name in enumerate(HOSTILE):
        write_mp4(home / "in" / f"{name}.mp4", np.arange(3 + number) / 25)
    (home / "in" / b"\xff\xfe.mp4".decode("utf-8", "surrogateescape")).write_bytes(b"x")
    for _ in range(2):
        assert run(home) == 0
        assert {Path(row["path"]).name for row in rows(home)} == {f"{name}.mp4" for name in HOSTILE}
        assert len(list((home / "out").glob("*.mp4"))) == len(HOSTILE)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=("Cs",)), min_size=1), unique=True, min_size=1, max_size=5))
def test_any_path_comes_back_from_the_map(tmp_path_factory, paths):
    file = tmp_path_factory.mktemp("map") / "names.csv"
    made = NameMap(file)
    made.assign((path, f"g{path}") for path in paths)
    made.finish(paths[0], "recipe")
    read = NameMap(file)
    assert read.rows == made.rows and len({row.name for row in read.rows.values()}) == len(paths)


def test_the_map_refuses_what_it_did_not_write(tmp_path):
    file = tmp_path / "names.csv"
    head = ",".join(COLUMNS)
    for text, problem in [
        ("old,new\n", "line 1"),
        (f"{head}\n/a,../../etc,g,{'0' * 16},\n", "line 2"),
        (f"{head}\n/a\n/b,{'1' * 16},g,{'0' * 16},\n", "line 2"),
        (f"{head}\n" + "".join(f"/{p},{'1' * 16},g,{'0' * 16},\n" for p in "ab"), "have the same name"),
    ]:
        file.write_text(text)
        with pytest.raises(ValueError, match=problem):
            NameMap(file)


def test_the_map_stays_private(tmp_path):
    project = tmp_path / "project"
    (project / ".dvc").mkdir(parents=True)
    for names, out, problem in [
        (tmp_path / "in" / "n.csv", "out", "among the originals"),
        (tmp_path / "out" / "n.csv", "out", "among the copies"),
        (project / "data" / "n.csv", "out", "git or DVC"),
        (tmp_path / "n.txt", "out", "ends in .csv"),
        (tmp_path / "n.csv", "in/out", "apart"),
    ]:
        with pytest.raises(ValueError, match=problem):
            check_private(names, tmp_path / "in", tmp_path / out)
    check_private(tmp_path / "key" / "n.csv", tmp_path / "in", tmp_path / "out")
