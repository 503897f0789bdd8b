"""A step over many items: nothing is asked twice, nothing is lost, in any order of things and after any cut."""

import asyncio
import subprocess
import sys
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medscope.records import Caption, Window
from medscope.suite.bulk import Rejected, StepStopped, funnel, read_step, rejected, run_step
from medscope.suite.bulk.keys import RECENT, Keys
from medscope.suite.bulk.shards import ShardWriter, read_lines, to_line


class Scripted:
    """item -> a result or an exception, after as many turns of the loop as the script says."""

    name = "scripted"

    def __init__(self, script, turns=None):
        self.script, self.turns, self.asked, self.running, self.most = script, turns or {}, [], 0, 0

    def key(self, item):
        return f"key {item}"

    async def __call__(self, item):
        self.asked.append(item)
        self.running += 1
        self.most = max(self.most, self.running)
        for _ in range(self.turns.get(item, 0)):
            await asyncio.sleep(0)
        self.running -= 1
        result = self.script(item)
        if isinstance(result, Exception):
            raise result
        return result


def run(step, items, folder, **settings):
    return asyncio.run(run_step(step, items, folder, progress=False, **settings))


def outcome(item):
    """Item 3 fails, multiples of 4 are rejected, the others are kept."""
    return ConnectionError("down") if item == 3 else Rejected(f"even: {item}") if item % 4 == 0 else f"record {item}"


def test_done_items_are_skipped_and_failed_ones_asked_again(tmp_path):
    first = run(Scripted(outcome), range(10), tmp_path, concurrency=2)
    assert (first.kept, first.rejected, first.failed, first.skipped) == (6, 3, 1, 0)
    assert first.failures == {"ConnectionError: down": 1}
    again = Scripted(lambda item: f"record {item}")
    second = run(again, range(11), tmp_path, concurrency=2)
    assert again.asked == [3, 10]
    assert (second.kept, second.rejected, second.failed, second.skipped) == (2, 0, 0, 9)
    assert sorted(read_step(tmp_path, "scripted", str)) == sorted(f"record {i}" for i in (1, 2, 3, 5, 6, 7, 9, 10))
    assert sorted(rejected(tmp_path, "scripted")) == [(f"key {i}", f"even: {i}") for i in (0, 4, 8)]
    assert funnel(tmp_path, "scripted", "later") == {
        "scripted": {"generated": 11, "kept": 8, "rejected": {"even": 3}},
        "later": {"generated": 0, "kept": 0, "rejected": {}},
    }


def test_items_are_taken_when_a_worker_is_free(tmp_path):
    """At most one item per worker is in memory, however many there are."""
    taken, step = [], Scripted(lambda item: item + 1, dict.fromkeys(range(50), 3))

    def items():
        for item in range(50):
            taken.append(item)
            assert len(taken) - len(step.asked) <= 1 and step.running <= 3
            yield item

    run(step, items(), tmp_path, concurrency=3)
    assert step.most == 3 and len(taken) == 50


def test_an_item_that_comes_twice_is_asked_once(tmp_path):
    step = Scripted(str, {1: 5})
    report = run(step, [1, 1, 2, 1], tmp_path, concurrency=2)
    assert step.asked == [1, 2] and (report.kept, report.skipped) == (2, 2)


def test_an_outage_stops_the_run_and_keeps_what_is_done(tmp_path):
    step = Scripted(lambda item: item + 1 if item < 20 else ConnectionError("the server is down"))
    with pytest.raises(StepStopped, match=r"scripted stopped: 3 items in a row failed.*server is down.*run the same"):
        run(step, range(1000), tmp_path, concurrency=2, stop_after=3)
    assert len(step.asked) <= 20 + 3 + 1  # those that fail, and one more in flight
    assert sorted(read_step(tmp_path, "scripted", int)) == list(range(1, 21))


def test_single_failures_do_not_stop_the_run(tmp_path):
    step = Scripted(lambda item: TimeoutError() if item % 2 else item)
    assert run(step, range(40), tmp_path, concurrency=1, stop_after=2).failed == 20


@pytest.mark.parametrize("result", [None, object(), lambda: 1])
def test_what_is_no_record_fails_with_its_type(tmp_path, result):
    with pytest.raises(StepStopped, match=r"TypeError|PydanticSerializationError"):
        run(Scripted(lambda item: result), range(9), tmp_path)
    assert not list(read_lines(tmp_path, "scripted"))


def test_half_a_character_is_rejected(tmp_path):
    run(Scripted(lambda item: {"text": "\ud800"} if item else Rejected("bad \udfff")), range(2), tmp_path)
    assert dict(rejected(tmp_path, "scripted")) == {"key 0": "bad ?", "key 1": "text that is no Unicode"}


def test_records_come_back_as_they_were(tmp_path):
    caption = Caption("v\n\u2028 ü", Window(0.1, 1 / 3), 'a "quote" \\ 針')
    run(Scripted(lambda item: (caption, caption)), [1], tmp_path)
    assert list(read_step(tmp_path, "scripted", tuple[Caption, ...])) == [(caption, caption)]
    with pytest.raises(ValueError, match=r"scripted: the result of key 'key 1' is no .*Window"):
        list(read_step(tmp_path, "scripted", Window))


def test_results_of_an_earlier_prompt_do_not_count(tmp_path):
    run(Scripted(lambda item: item), range(6), tmp_path)
    current = (f"key {i}" for i in (1, 4, 9))
    assert sorted(read_step(tmp_path, "scripted", int, only=current)) == [1, 4]


def test_what_items_raise_ends_the_run_with_all_work_kept(tmp_path):
    def items():
        yield from range(5)
        raise OSError("the list of videos is gone")

    with pytest.raises(OSError, match="list of videos"):
        run(Scripted(lambda item: item, {4: 9}), items(), tmp_path, concurrency=3)
    assert sorted(read_step(tmp_path, "scripted", int)) == list(range(5))


@pytest.mark.parametrize("name", ["", "../up", "a/b", "..", ".hidden"])
def test_the_name_of_a_step_stays_in_its_folder(tmp_path, name):
    step = Scripted(int)
    step.name = name
    with pytest.raises(ValueError, match="plain file name"):
        run(step, [1], tmp_path)


def test_two_runs_of_one_rank_do_not_mix(tmp_path):
    with (
        ShardWriter(tmp_path, "scripted"),
        pytest.raises(RuntimeError, match=r"another run writes .*scripted"),
    ):
        run(Scripted(str), [1], tmp_path)
    run(Scripted(str), [1], tmp_path)  # and the lock ends with the writer


def test_another_rank_sees_what_is_done(tmp_path):
    run(Scripted(str), range(8), tmp_path, rank=3)
    step = Scripted(str)
    run(step, range(10), tmp_path, rank=0)
    assert step.asked == [8, 9]
    assert sorted(read_step(tmp_path, "scripted", str)) == [str(i) for i in range(10)]


def test_shards_are_bounded(tmp_path):
    with ShardWriter(tmp_path, "s", shard_bytes=200) as shards:
        for item in range(40):
            shards.append(to_line(str(item), "x" * 30).data)
    with ShardWriter(tmp_path, "s", shard_bytes=200) as shards:
        shards.append(to_line("40", "x" * 300).data)  # longer than a shard: one of its own
    sizes = [path.stat().st_size for path in sorted((tmp_path / "s").glob("*.jsonl"))]
    assert len(sizes) > 5 and all(size <= 200 for size in sizes[:-1])
    assert [line["key"] for line in read_lines(tmp_path, "s")] == [str(i) for i in range(41)]


@given(st.data())
def test_a_shard_that_is_cut_anywhere_keeps_its_whole_lines(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("cut")
    records = data.draw(st.lists(st.text(st.characters(codec="utf-8"), max_size=40), min_size=1, max_size=6))
    lines = [to_line(str(number), record).data for number, record in enumerate(records)]
    whole = b"".join(lines)
    cut = data.draw(st.integers(0, len(whole)))
    (folder / "scripted").mkdir()
    (folder / "scripted" / "00000-00000.jsonl").write_bytes(whole[:cut])
    kept = sum(len(b"".join(lines[:n])) <= cut for n in range(1, len(lines) + 1))
    assert list(read_step(folder, "scripted", str)) == records[:kept]
    step = Scripted(lambda item: records[item])
    step.key = str
    run(step, range(kept), folder)
    assert (folder / "scripted" / "00000-00000.jsonl").read_bytes() == b"".join(lines[:kept])
    run(step, range(len(records)), folder, concurrency=1)
    assert step.asked == list(range(kept, len(records)))
    assert (folder / "scripted" / "00000-00000.jsonl").read_bytes() == whole


@given(st.binary(min_size=1, max_size=40).filter(lambda line: b"\n" not in line))
def test_a_whole_line_that_is_rubbish_is_named(tmp_path_factory, rubbish):
    folder = tmp_path_factory.mktemp("rubbish")
    (folder / "s").mkdir()
    (folder / "s" / "00000-00000.jsonl").write_bytes(to_line("1", "good").data + rubbish + b"\n")
    with pytest.raises(ValueError, match=r"00000-00000.jsonl, line 2: .*delete this line"):
        list(read_lines(folder, "s"))


FULL_DISK = """
import resource, signal, sys
sys.path.insert(0, "tests")
from test_bulk import Scripted, run
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
step = Scripted(lambda item: "x" * (2000 if item == 4 else 10))
try:
    run(step, range(100), sys.argv[1], concurrency=3)
except OSError as error:
    print(error.strerror, len(step.asked))
"""


@pytest.mark.slow
def test_a_full_disk_ends_the_run_behind_the_last_whole_line(tmp_path):
    """Item 4 is written half, then no more: its half goes, and no further item is asked."""
    words = [sys.executable, "-c", FULL_DISK, str(tmp_path)]
    said = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    assert said.startswith("File too large") and int(said.split()[-1]) <= 5 + 2
    lines = b"".join((to_line(f"key {item}", "x" * 10)).data for item in range(4))
    assert (tmp_path / "scripted" / "00000-00000.jsonl").read_bytes().startswith(lines)
    assert all(len(line["kept"]) == 10 for line in read_lines(tmp_path, "scripted"))
    assert run(Scripted(str), range(100), tmp_path).kept >= 94


@pytest.mark.slow
@given(st.data())
def test_any_order_of_ends_failures_and_kills(tmp_path_factory, data):
    """Runs with workers that overtake one another, fail and are cut off: each key is recorded once, none is lost."""
    folder = tmp_path_factory.mktemp("runs")
    items = data.draw(st.lists(st.integers(0, 12), max_size=25))
    ends = data.draw(st.dictionaries(st.integers(0, 12), st.sampled_from(["kept", "rejected"])))
    completed = set()
    for _ in range(data.draw(st.integers(1, 3))):
        failing = data.draw(st.sets(st.integers(0, 12)))
        turns = data.draw(st.dictionaries(st.integers(0, 12), st.integers(0, 6)))
        concurrency, stop_after = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 6))
        alive = data.draw(st.none() | st.integers(0, 30))  # turns of the loop, then the run is cut off
        results = {i: Rejected("no") if ends.get(i) == "rejected" else i for i in range(13)}
        step = Scripted(lambda i, bad=failing, good=results: ConnectionError() if i in bad else good[i], turns)

        async def cut_off(step=step, concurrency=concurrency, stop_after=stop_after, alive=alive):
            run = asyncio.ensure_future(run_step(step, items, folder, concurrency, stop_after, progress=False))
            for _ in range(10_000 if alive is None else alive):
                await asyncio.sleep(0)
                if run.done():
                    break
            run.cancel()
            return (await asyncio.gather(run, return_exceptions=True))[0]

        end = asyncio.run(cut_off())
        assert not completed & set(step.asked), "what is done is never asked for again"
        assert max(Counter(step.asked).values(), default=0) <= 1 or set(step.asked) & failing
        lines = [line["key"] for line in read_lines(folder, "scripted")]
        assert len(lines) == len(set(lines))
        completed = {int(key.split()[1]) for key in lines}
        assert not set(step.asked) & failing & completed, "a failed item is not done"
        if isinstance(end, StepStopped):
            assert end.report.failed >= stop_after
        elif not isinstance(end, asyncio.CancelledError):
            assert completed >= set(items) - failing
            assert end.kept + end.rejected + end.failed + end.skipped == len(items)
    kept = {line["kept"] for line in read_lines(folder, "scripted") if "kept" in line}
    assert kept == {i for i in completed if ends.get(i) != "rejected"}


def test_keys_hold_what_was_added_and_nothing_else():
    keys = Keys(str(i) for i in range(2 * RECENT + 10))
    assert len(keys) == 2 * RECENT + 10 and not keys.add("5") and keys.add("new") and "new" in keys
    assert all(str(i) in keys for i in range(0, 2 * RECENT + 10, 999))
    assert not any(f"other {i}" in keys for i in range(1000))
