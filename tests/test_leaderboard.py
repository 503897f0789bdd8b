"""The leaderboard: who is ranked with whom, in which order, and that a page follows from its files alone."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from predicted import crop, prediction, task

from medscope.evaluation.quarantine import Quarantined, quarantine_of
from medscope.files import write_json, write_jsonl
from medscope.reporting.leaderboard import gather, main

SCRIPT = "<script>alert('1')</script>"
NEAR = [task(n, "yes", video=f"v{n}") for n in range(4)]
FAR = [task(n, "no", video=f"v{n}", collection="far", domain="out") for n in range(3)]
PROTOCOL = {"skim_frames": 20, "max_calls": 5, "judge": "exact", "decoding": "greedy", "torch": "2.0"}


def write(run, system, right, tasks=(*NEAR, *FAR), told=None, **changed):
    """Predictions of a system that answers the first `right` tasks of every eval set, and their protocol."""
    sets = {}
    for asked in tasks:
        sets.setdefault(asked.collection, []).append(asked)
    records = [
        prediction(asked, "yes", float(place < right), calls=(crop(0, 10),), system=system)
        for some in sets.values()
        for place, asked in enumerate(some)
    ]
    counts = [
        {"name": n, "domain": some[0].domain, "tasks": len(some) if told is None else told} for n, some in sets.items()
    ]
    file = run / "predictions" / f"{system}.jsonl"
    write_jsonl(file, records)
    write_json(file.with_suffix(".protocol.json"), PROTOCOL | {"eval_sets": counts} | changed)
    return file


def rankings(*runs):
    groups, _ = gather(runs)
    return [(group.eval_set, [(row.rank, row.system) for row in group.rows]) for group in groups]


class Page(HTMLParser):
    """The tags of a page, what it would load, and the cells of its tables."""

    def __init__(self, path):
        super().__init__()
        self.tags, self.loads, self.rows, self.text = [], [], [], ""
        self.feed(path.read_text())

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.loads += [v for name, v in attributes if name in ("src", "href", "data") and not v.startswith("#")]
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_data(self, data):
        self.text += data
        if self.rows and self.rows[-1]:
            self.rows[-1][-1] += data


def test_systems_of_one_protocol_are_ranked_by_accuracy_and_in_domain_comes_first(tmp_path):
    for system, right in (("sft", 1), ("rl", 2), ("twin", 2), ("oracle", 4), ("ablation/full_0", 0)):
        write(tmp_path, system, right)
    order = [(1, "rl"), (1, "twin"), (3, "sft"), (4, "ablation/full_0"), (None, "oracle")]
    assert rankings(tmp_path) == [("set", order), ("far", order)]


@pytest.mark.parametrize("change", [{"skim_frames": 64}, {"judge": "gpt"}, {"decoding": "sampled"}, {"torch": "3"}])
def test_another_protocol_is_another_ranking(tmp_path, change):
    write(tmp_path, "sft", 1, NEAR)
    write(tmp_path, "rl", 2, NEAR)
    write(tmp_path, "other", 4, NEAR, **change)
    assert rankings(tmp_path) == [("set", [(1, "rl"), (2, "sft")]), ("set", [(1, "other")])]


def test_other_tasks_are_another_ranking_even_where_their_number_is_the_same(tmp_path):
    """Where the videos lie, and in which order the tasks stand, does not matter."""
    write(tmp_path, "sft", 1, NEAR)
    write(tmp_path, "moved", 2, [replace(asked, path=f"/elsewhere/{asked.path}") for asked in reversed(NEAR)])
    write(tmp_path, "other", 2, [*NEAR[:3], replace(NEAR[3], question="When?")])
    assert [systems for _, systems in rankings(tmp_path)] == [[(1, "moved"), (2, "sft")], [(1, "other")]]


def test_systems_of_two_runs_are_told_apart(tmp_path):
    for run, right in (("a", 1), ("b", 2)):
        write(tmp_path / run, "sft", right, NEAR)
    one, two = (str(tmp_path / run) for run in ("a", "b"))
    assert rankings(tmp_path / "a", tmp_path / "b") == [("set", [(1, f"{two}: sft"), (2, f"{one}: sft")])]
    assert rankings(tmp_path / "a", tmp_path / "a" / "predictions")[0][1] == [(1, f"{one}: sft")]


def test_the_page_shows_values_intervals_and_domains_and_loads_nothing(tmp_path, capsys):
    write(tmp_path, "sft", 1)
    write(tmp_path, "rl", 4, skim_frames=64)
    assert main([str(tmp_path), "--out", str(tmp_path / "page.html")]) == 0
    page = Page(tmp_path / "page.html")
    assert "2 systems, 2 eval sets" in capsys.readouterr().out
    assert not page.loads and "script" not in page.tags
    assert "in domain" in page.text and "out domain" in page.text and "skim frames 64" in page.text
    assert "2 protocols, each with a ranking of its own" in page.text
    heads = [row for row in page.rows if "accuracy" in row]
    assert len(heads) == 4 and "R@.7" not in heads[0]  # nothing asks for a window
    sft = next(row for row in page.rows if "sft" in row)
    assert sft[heads[0].index("accuracy")].startswith("0.250[0.000, ")  # one of four
    assert sft[heads[0].index("evidence mIoU")] == "1.000[1.000, 1.000]"


def test_the_same_predictions_give_the_same_bytes(tmp_path, monkeypatch):
    write(tmp_path / "run", "sft", 1)
    write(tmp_path / "run", "rl", 2, judge="other")
    shutil.copytree(tmp_path / "run", tmp_path / "again" / "run")
    for folder in (tmp_path, tmp_path / "again"):
        monkeypatch.chdir(folder)
        assert main(["run", "--out", "page.html"]) == 0
    assert (tmp_path / "page.html").read_bytes() == (tmp_path / "again" / "page.html").read_bytes()


@pytest.mark.slow
def test_no_model_is_imported():
    code = "import sys, medscope.reporting.leaderboard; print([m for m in sys.modules if m.startswith('medscope.')])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "medscope.reporting.leaderboard_page" in found and "medscope.agents" not in found


def test_names_from_files_stay_text(tmp_path):
    hostile = [replace(asked, collection=SCRIPT) for asked in NEAR]
    write(tmp_path, "<b>sft", 1, hostile, judge=SCRIPT)
    (tmp_path / "predictions" / "<i>.jsonl").write_text("")
    assert main([str(tmp_path), "--out", str(tmp_path / "page.html")]) == 0
    page = Page(tmp_path / "page.html")
    assert not {"script", "i"} & set(page.tags) and page.text.count(SCRIPT) == 3 and "<b>sft" in page.text


def test_bad_files_are_left_out_with_their_reason_and_hide_no_other(tmp_path):
    good = write(tmp_path, "good", 1)
    shutil.copy(good, good.with_name("bare.jsonl"))
    for companion in ("audit", "free_text"):
        good.with_name(f"good.{companion}.jsonl").write_text("")
    write(tmp_path, "short", 1, told=813)
    write(tmp_path, "twice", 1, [NEAR[0], NEAR[0]])
    write(tmp_path, "broken", 1).write_text('{"task": 1}\n')
    for name, text in {"text": "{", "list": "[]", "other": '{"eval_sets": [1]}'}.items():
        write(tmp_path, name, 1).with_suffix(".protocol.json").write_text(text)
    groups, left_out = gather([tmp_path])
    assert [[row.system for row in group.rows] for group in groups] == [["good"], ["good"]]
    reasons = {file.path.rpartition("/")[2]: file.reason for file in left_out}
    assert reasons.keys() == {f"{n}.jsonl" for n in ("bare", "short", "twice", "broken", "text", "list", "other")}
    assert reasons["bare.jsonl"] == "there is no bare.protocol.json beside it"
    assert reasons["short.jsonl"].startswith("it holds set 4, far 3, but its protocol tells of set 813, far 813")
    assert "answered twice" in reasons["twice.jsonl"] and "line 1" in reasons["broken.jsonl"]
    assert all("is no protocol of predictions" in reasons[f"{n}.jsonl"] for n in ("text", "list", "other"))


@pytest.mark.parametrize(("answered", "rank"), [(20, 1), (19, 1), (18, None)])
def test_what_is_in_quarantine_is_counted_and_too_much_of_it_costs_the_rank(tmp_path, answered, rank):
    """Of 20 tasks that all were asked: a quarantine of 5 % is ranked with the others, and one of 10 % below them."""
    asked = [task(n, "yes", video=f"v{n}") for n in range(20)]
    write(tmp_path, "sft", 10, asked)
    file = write(tmp_path, "gpt", 20, asked[:answered])
    told = file.with_suffix(".protocol.json")
    usage = {"prompt_tokens": 12345, "completion_tokens": 67, "dollars": 1.5}
    protocol = json.loads(told.read_text()) | {"system": {"model": "m"}, "usage": usage}
    if answered < 20:
        write_jsonl(quarantine_of(file), [Quarantined(t, "gpt", (), (), "cut off") for t in asked[answered:]])
        protocol["eval_sets"][0]["quarantined"] = 20 - answered
    write_json(told, protocol)
    (group,), bad = gather([tmp_path])
    assert not bad and {(row.system, row.rank) for row in group.rows} == {("gpt", rank), ("sft", 2 if rank else 1)}
    assert main([str(tmp_path), "--out", str(tmp_path / "page.html")]) == 0
    page = Page(tmp_path / "page.html")
    (row,) = [row for row in page.rows if any(cell.startswith("gpt") for cell in row)]
    assert (row[-1].strip() == f"{20 - answered} of 20") == (answered < 20)
    assert "12,345 + 67 tokens, $1.50" in page.text and ("not ranked" in page.text) == (rank is None)


def test_a_quarantine_that_the_protocol_does_not_tell_of_is_left_out(tmp_path):
    file = write(tmp_path, "gpt", 1, NEAR)
    write_jsonl(quarantine_of(file), [Quarantined(FAR[0], "gpt", (), (), "cut off")])
    assert "far 0 and 1 in quarantine" in gather([tmp_path])[1][0].reason


def test_where_there_is_nothing_to_rank_no_page_is_written(tmp_path, capsys):
    for folder, message in ((tmp_path, "no predictions with a .protocol.json"), (tmp_path / "none", "is no folder")):
        assert main([str(folder), "--out", str(tmp_path / "page.html")]) == 1
        assert message in capsys.readouterr().err
    assert not (tmp_path / "page.html").exists()
    write(tmp_path, "sft", 1).write_text("")
    assert gather([tmp_path])[1][0].reason.startswith("it holds nothing, but its protocol tells of set 4, far 3")


def test_the_hash_of_the_tasks_stands_on_the_page(tmp_path):
    write(tmp_path, "sft", 1, NEAR)
    settings = gather([tmp_path])[0][0].settings
    assert settings["tasks"] == 4 and len(settings["tasks hash"]) == 12
    assert json.dumps(PROTOCOL, sort_keys=True) == json.dumps(
        {k: v for k, v in settings.items() if not k.startswith("tasks")}, sort_keys=True
    )
