"""The built suite on disk: what the builder writes, and what `Suite` selects from it."""

from dataclasses import replace

import pytest

from medscope.environment import ToolBudget
from medscope.files import read_jsonl, write_jsonl
from medscope.records import Interval, Recording, Task, Text, Window
from medscope.sources.rendered.procedures import ProcedureSource
from medscope.suite.build import build_suite, summarise
from medscope.suite.suite import Suite, evenly

BUDGET = ToolBudget(skim_frames=20, skim_pixels=784, crop_frames=8, crop_pixels=3136, frame_pixels=7056)
COLLECTIONS = {
    "clips": {"warm_up": 2, "sft": 2, "rl": 1, "eval": 1},
    "procedures": {"warm_up": 1, "sft": 2, "eval": 2},
}


@pytest.fixture(scope="module")
def built(store, tmp_path_factory):
    """A small suite, and the counts of rejections."""
    folder = tmp_path_factory.mktemp("built")
    source = ProcedureSource(folder / "videos", COLLECTIONS, BUDGET.skim_frames, seed=0)
    rejected = build_suite(folder / "suite", source, store, BUDGET, captioned=5, questions_per_video=4, seed=0)
    return Suite(folder / "suite"), rejected


@pytest.mark.slow
def test_the_builder_writes_what_the_suite_reads(built):
    suite, rejected = built
    assert [r.video for r in suite.recordings][:3] == [
        "clips_warm_up_0000",
        "clips_warm_up_0001",
        "procedures_warm_up_0000",
    ]
    assert len(suite.captions) == sum(len(r.intervals) + 1 for r in suite.recordings)
    assert suite.tasks_by_id.keys() == {task.id for task in suite.tasks} and len(suite.tasks_by_id) == len(suite.tasks)
    assert sum(not example.video for example in suite.warm_up_examples) == 5
    assert {t.task for t in suite.trajectories} <= set(suite.tasks)
    assert {t.task.split for t in suite.trajectories} == {"sft"} and any(t.calls for t in suite.trajectories)
    assert {suite.recording(e.video).split for e in suite.warm_up_examples if e.video} == {"warm_up"}
    summary = summarise(suite, rejected)
    assert summary["splits"]["eval"]["videos"] == 3 and summary["splits"]["sft"]["trajectories"] == len(
        suite.trajectories
    )
    assert summary["splits"]["eval"]["free_text_tasks"] == 2 * 2 + 1, "a clip has one phase: no `temporal`"


@pytest.mark.slow
def test_tasks_per_video_are_limited_where_they_train(built):
    suite, _ = built
    for split in ("sft", "rl"):
        tasks = suite.select(split)
        assert tasks and all(sum(t.video == task.video for t in tasks) <= 4 for task in tasks)


@pytest.mark.slow
def test_a_suite_reads_a_file_when_it_is_asked_for(tmp_path, built):
    suite, _ = built
    write_jsonl(tmp_path / "tasks.jsonl", suite.tasks)
    assert list(Suite(tmp_path).tasks) == list(suite.tasks)
    with pytest.raises(FileNotFoundError, match=r"trajectories\.jsonl does not exist"):
        _ = Suite(tmp_path).trajectories


def task(number, video, **changes):
    plain = Task(
        f"{video}/colour/{number}",
        video,
        "v.mp4",
        "?",
        Text("red"),
        Window(0, 1),
        "colour",
        "eval",
        "first",
        subject="x",
    )
    return replace(plain, **changes)


@pytest.fixture
def written(tmp_path):
    """Ten videos of collection `first` with three tasks each, one of `second`, which is out of domain."""
    tasks = [task(number, f"video{video}") for video in range(10) for number in range(3)]
    tasks += [
        task(0, "other", collection="second", domain="out"),
        task(1, "other", collection="second", challenging=False),
        task(2, "other", collection="second", free_text=True),
        task(3, "other", split="rl"),
    ]
    recordings = [
        Recording("video0", "v.mp4", 9, (Interval(Window(0, 1), "x"),), "first", split="eval"),
        Recording("other", "v.mp4", 9, (), "second", domain="out", split="eval"),
    ]
    write_jsonl(tmp_path / "tasks.jsonl", tasks)
    write_jsonl(tmp_path / "recordings.jsonl", recordings)
    return Suite(tmp_path)


def test_most_is_spread_evenly_over_the_videos(written):
    """The first tasks alone would be those of the first videos."""
    assert len({t.video for t in written.select("eval", "first", most=4)}) == 4
    assert len(written.eval_sets(most=10)["first"]) == 10
    assert len({t.video for t in written.eval_sets(most=10)["first"]}) == 10


@pytest.mark.parametrize("count, most, expected", [(5, None, 5), (5, 9, 5), (5, 5, 5), (5, 1, 1), (5, 0, 0), (0, 3, 0)])
def test_evenly_takes_at_most_so_many_in_order(count, most, expected):
    chosen = evenly(list(range(count)), most)
    assert len(chosen) == expected and chosen == sorted(set(chosen))


def test_eval_sets_are_the_challenging_closed_tasks_by_collection(written):
    sets = written.eval_sets()
    assert {name: len(tasks) for name, tasks in sets.items()} == {"first": 30, "second": 1}
    assert [t.id for t in written.select("eval", "second", free_text=True)] == ["other/colour/2"]
    assert [t.id for t in written.select("eval", challenging=False)] == ["other/colour/1"]
    assert [t.split for t in written.select("rl")] == ["rl"]


def test_domains_are_those_of_the_recordings(written):
    assert (written.domain("first"), written.domain("second")) == ("in", "out")
    with pytest.raises(ValueError, match="no collection 'third'; it has first, second"):
        written.domain("third")


def test_an_id_that_comes_twice_is_refused_on_write_and_read(tmp_path):
    twice = [task(0, "video"), task(0, "video", question="another")]
    with pytest.raises(ValueError, match="the id 'video/colour/0' occurs twice"):
        write_jsonl(tmp_path / "tasks.jsonl", twice)
    write_jsonl(tmp_path / "tasks.jsonl", twice[:1])
    line = (tmp_path / "tasks.jsonl").read_text()
    (tmp_path / "tasks.jsonl").write_text(line * 2)
    with pytest.raises(ValueError, match="occurs twice"):
        read_jsonl(tmp_path / "tasks.jsonl", Task)
