"""Suites in both forms, JSON lines and Parquet shards: read record by record through one interface."""

import tracemalloc

import pytest

from medscope.files import write_jsonl
from medscope.records import Caption, Task, Text, ToolCall, Trajectory, Window
from medscope.suite.bulk.parquet import SUITE, to_parquet, write_parquet
from medscope.suite.lazy import Joined, Picked
from medscope.suite.suite import Suite, clear_suite, is_suite
from medscope.training.examples import hold_out, trajectory_records

COUNT = 1_500


def trajectories(count):
    for number in range(count):
        task = Task(f"t{number}", f"v{number // 5}", "v.mp4", "?", Text("yes"), Window(1, 2), "kind", "sft", "films")
        call = ToolCall("crop_video", {"start_time": 1, "end_time": 2}, Window(1, 2), (1.0, 1.5))
        yield Trajectory(task, (f"<think>{'seen ' * 200}</think>", "<answer>yes</answer>"), (call,))


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """The same suite as JSON lines and as Parquet."""
    lines, shards = tmp_path_factory.mktemp("lines"), tmp_path_factory.mktemp("shards")
    for name in SUITE:
        write_jsonl(lines / f"{name}.jsonl", [])
    write_jsonl(lines / "trajectories.jsonl", trajectories(COUNT))
    write_jsonl(lines / "tasks.jsonl", (t.task for t in trajectories(COUNT)))
    to_parquet(lines, shards, rows=400)
    return {"lines": lines, "shards": shards}


@pytest.mark.parametrize("form", ["lines", "shards"])
def test_records_are_read_one_at_a_time(folders, form):
    suite = Suite(folders[form])
    made = list(trajectories(COUNT))
    assert len(suite.trajectories) == COUNT and suite.tasks_by_id["t7"] == made[7].task
    assert [suite.trajectories[n] for n in (0, 63, 64, 399, 400, -1)] == [made[n] for n in (0, 63, 64, 399, 400, -1)]
    assert list(suite.trajectories) == made and len(suite.select("sft", most=10)) == 10
    assert isinstance(suite.trajectories[3:9:2], Picked) and list(suite.trajectories[3:9:2]) == made[3:9:2]
    with pytest.raises(IndexError, match="record 1500 of 1500"):
        suite.trajectories[COUNT]
    assert list(suite.captions) == [] and not suite.captions


@pytest.mark.parametrize("form", ["lines", "shards"])
def test_choosing_what_to_train_on_holds_no_records(folders, form):
    list(Suite(folders[form]).trajectories[:2])  # what is loaded once for all
    tracemalloc.start()
    training, held_out = trajectory_records(Suite(folders[form]).trajectories)
    both = Joined(training, held_out)
    assert len(both) == COUNT and both[COUNT - 1] == held_out[-1] and both[0] == training[0]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < (folders["lines"] / "trajectories.jsonl").stat().st_size / 3


def test_sums_and_selections_take_lists_too(folders):
    read = Suite(folders["shards"]).trajectories
    made = list(trajectories(4))
    assert list(made[:1] + read[1:2]) == made[:2] == list(read[:1] + made[1:2])
    assert hold_out(made, ["v"] * 4) == (made[1:], made[:1]), "of one video single records are held out"


def test_two_forms_of_one_suite_are_refused(tmp_path):
    captions = [Caption("v", Window(0, 1), "text")]
    assert not is_suite(tmp_path)
    write_parquet(tmp_path, "captions", Caption, captions)
    assert list(Suite(tmp_path).captions) == captions
    write_jsonl(tmp_path / "captions.jsonl", captions)
    (tmp_path / "manifest.jsonl").touch()
    with pytest.raises(ValueError, match=r"both captions\.jsonl and Parquet shards in captions/; delete one"):
        _ = Suite(tmp_path).captions
    clear_suite(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.jsonl"]
    write_parquet(tmp_path, "tasks", Task, [])
    assert is_suite(tmp_path)


def test_errors_name_the_file(tmp_path):
    (tmp_path / "captions.jsonl").write_text('{"video": "v", "window": {"start": 0, "end": 1}, "text": "t"}\n{}\n')
    captions = Suite(tmp_path).captions
    assert captions[0].text == "t"
    with pytest.raises(ValueError, match=r"captions.jsonl, line 2"):
        captions[1]
    write_parquet(tmp_path, "tasks", Caption, list(captions[:1]))
    with pytest.raises(ValueError, match=r"00000.parquet: no records of Task"):
        Suite(tmp_path).tasks[0]
    (tmp_path / "tasks" / "00000.parquet").write_bytes(b"rubbish")
    with pytest.raises(ValueError, match=r"00000.parquet: no records of Task"):
        _ = Suite(tmp_path).tasks
    twice = [next(trajectories(1)).task] * 2
    with pytest.raises(ValueError, match="the id 't0' occurs twice"):
        write_parquet(tmp_path, "tasks", Task, twice)
    with pytest.raises(ValueError, match="name another folder"):
        to_parquet(tmp_path, tmp_path)
