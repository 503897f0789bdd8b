"""The same step under datatrove's local executor, in processes of its own: pip install "medscope[cluster]"."""

import json
from functools import partial

import pytest
from bulk_step import AskStep
from chat_server import ChatServer, text

from medscope.records import Caption
from medscope.suite.bulk import StepStopped, read_step, rejected

pytestmark = pytest.mark.slow
pytest.importorskip("datatrove", reason='datatrove is not installed: pip install "medscope[cluster]"')


@pytest.fixture
def server():
    server = ChatServer(text("seen"))
    yield server
    server.close()


def execute(server, folder, items, tasks, workers=2):
    from datatrove.executor import LocalPipelineExecutor

    from medscope.suite.bulk.cluster import StepTask

    task = StepTask(partial(AskStep, server.url), partial(range, items), folder / "work", concurrency=2)
    logs = str(folder / f"logs-{tasks}")
    LocalPipelineExecutor(pipeline=[task], tasks=tasks, workers=workers, logging_dir=logs, start_method="spawn").run()
    return json.loads((folder / f"logs-{tasks}" / "stats.json").read_text())


def numbers(folder):
    kept = [caption.video.split()[1] for caption in read_step(folder / "work", "captions", Caption)]
    return sorted(map(int, kept + [key.removesuffix("-v1") for key, _ in rejected(folder / "work", "captions")]))


def test_tasks_share_the_items_and_another_number_of_tasks_asks_for_none_again(server, tmp_path):
    execute(server, tmp_path, 30, tasks=2)
    assert numbers(tmp_path) == list(range(30)) and len(server.requests) == 30
    assert {path.name[:5] for path in (tmp_path / "work" / "captions").glob("*.jsonl")} == {"00000", "00001"}
    execute(server, tmp_path, 36, tasks=3, workers=1)
    assert numbers(tmp_path) == list(range(36)) and len(server.requests) == 36


@pytest.mark.parametrize(("failures", "message"), [(1, "task 0: .*1 failed.*run it again"), (30, "captions stopped")])
def test_a_task_in_which_items_failed_is_started_again(server, tmp_path, failures, message):
    """datatrove never starts a completed task again: one failed item of a share is enough to leave it open."""
    server.replies[:0] = [text("seen")] * 8 + [500] * failures
    with pytest.raises(StepStopped, match=message):
        execute(server, tmp_path, 20, tasks=1, workers=1)
    assert len(numbers(tmp_path)) == 19 if failures == 1 else len(numbers(tmp_path)) in (7, 8)
    server.replies[:-1] = []
    execute(server, tmp_path, 20, tasks=1, workers=1)
    assert numbers(tmp_path) == list(range(20))
