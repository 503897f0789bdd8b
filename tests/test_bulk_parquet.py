"""The suite as Parquet: every record comes back as it was, a batch at a time, and others can read the files."""

import datasets
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from medscope.files import write_jsonl
from medscope.records import Caption, Interval, Recording, Task, Text, Timestamp, ToolCall, Trajectory, Window
from medscope.suite.bulk.parquet import SUITE, ParquetRecords, column_of, read_parquet, to_parquet, write_parquet

WORDS = st.text(st.characters(codec="utf-8"), max_size=12)
SECONDS = st.floats(0, 1e5, allow_nan=False)
WINDOWS = st.tuples(SECONDS, SECONDS).map(lambda times: Window(*sorted(times)))
EVIDENCE = WINDOWS | st.builds(Timestamp, SECONDS)
TASKS = st.builds(
    Task,
    id=WORDS,
    video=WORDS,
    path=WORDS,
    question=WORDS,
    reference=st.builds(Text, WORDS) | EVIDENCE,
    evidence=EVIDENCE,
    kind=WORDS,
    split=st.sampled_from(["sft", "eval"]),
    collection=WORDS,
    challenging=st.booleans(),
)
CALLS = st.builds(
    ToolCall,
    name=WORDS,
    arguments=st.dictionaries(WORDS, st.none() | st.floats(0, 9) | WORDS | st.lists(st.booleans(), max_size=2)),
    looked=st.none() | EVIDENCE,
    seconds=st.lists(SECONDS, max_size=3).map(tuple),
)
RECORDS = {
    "tasks": TASKS,
    "trajectories": st.builds(Trajectory, TASKS, st.tuples(WORDS, WORDS), st.lists(CALLS, max_size=2).map(tuple)),
    "recordings": st.builds(
        Recording,
        video=WORDS,
        path=WORDS,
        duration=SECONDS,
        intervals=st.lists(
            st.builds(Interval, WINDOWS, WORDS, st.dictionaries(WORDS, WORDS), st.none() | SECONDS), max_size=2
        ).map(tuple),
        collection=WORDS,
        split=st.none() | st.sampled_from(["sft", "rl"]),
    ),
}


def captions(count):
    return [Caption(f"v{i}", Window(i, i + 0.1), f"text {i}") for i in range(count)]


@pytest.mark.slow
@pytest.mark.parametrize("name", RECORDS)
@given(data=st.data())
def test_records_come_back_as_they_were(tmp_path_factory, name, data):
    folder = tmp_path_factory.mktemp("parquet")
    by_id = (lambda task: task.id) if name == "tasks" else None
    records = data.draw(st.lists(RECORDS[name], max_size=5, unique_by=by_id))
    assert write_parquet(folder, name, SUITE[name], records, rows=2) == len(records)
    assert len(list((folder / name).glob("*.parquet"))) == max(1, -(-len(records) // 2))
    assert list(read_parquet(folder, name, SUITE[name])) == records
    assert list(ParquetRecords(folder, name, SUITE[name])) == records


def test_a_shorter_export_leaves_nothing_of_a_longer_one(tmp_path):
    write_parquet(tmp_path, "captions", Caption, captions(25), rows=10)
    write_parquet(tmp_path, "captions", Caption, captions(5), rows=10)
    assert list(read_parquet(tmp_path, "captions", Caption)) == captions(5)

    def broken():
        yield from captions(15)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_parquet(tmp_path, "captions", Caption, broken(), rows=10)
    assert list(read_parquet(tmp_path, "captions", Caption)) == captions(5)


def test_a_suite_is_exported_and_read_by_datasets(tmp_path):
    task = Task("t", "v", "v.mp4", "When?", Window(1, 2), Timestamp(1.5), "when", "sft", "films")
    records = {
        "recordings": [Recording("v", "v.mp4", 9, (Interval(Window(1, 2), "cut", {"tool": "knife"}),), "films")],
        "captions": captions(3),
        "tasks": [task],
        "warm_up_examples": [],
        "trajectories": [Trajectory(task, ("a",), (ToolCall("get_frame", {"timestamp": 1.5}, Timestamp(1.5)),))],
    }
    for name, some in records.items():
        write_jsonl(tmp_path / "suite" / f"{name}.jsonl", some)
    counts = to_parquet(tmp_path / "suite", tmp_path / "parquet")
    assert counts == {name: len(some) for name, some in records.items()}
    for name, kind in SUITE.items():
        assert list(read_parquet(tmp_path / "parquet", name, kind)) == records[name]
    loaded = datasets.load_dataset(
        "parquet", data_dir=str(tmp_path / "parquet" / "tasks"), split="train", cache_dir=str(tmp_path / "cache")
    )
    assert loaded[0]["reference"] == {"text": None, "start": 1.0, "end": 2.0, "time": None}
    assert pq.read_table(tmp_path / "parquet" / "trajectories").num_rows == 1


def test_errors_name_the_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"tasks has no Parquet shards; to_parquet"):
        next(read_parquet(tmp_path, "tasks", Task))
    write_parquet(tmp_path, "captions", Caption, captions(2))
    with pytest.raises(ValueError, match=r"00000.parquet: no records of Task"):
        next(read_parquet(tmp_path, "captions", Task))
    (tmp_path / "captions" / "00000.parquet").write_bytes(b"rubbish")
    with pytest.raises(ValueError, match=r"00000.parquet: no records of Caption: .*export the suite again"):
        next(read_parquet(tmp_path, "captions", Caption))
    with pytest.raises(FileNotFoundError, match=r"recordings.jsonl does not exist"):
        to_parquet(tmp_path, tmp_path / "out")
    (tmp_path / "recordings.jsonl").write_text("{}\n")
    with pytest.raises(ValueError, match=r"recordings.jsonl, line 1"):
        to_parquet(tmp_path, tmp_path / "out")


def test_every_record_of_the_suite_has_columns_and_what_has_none_is_named():
    for kind in SUITE.values():
        assert column_of(kind).type.num_fields == len(TypeAdapter(kind).json_schema()["properties"])
    with pytest.raises(TypeError, match=r"no Parquet column for .*set"):
        column_of(set[str])
