"""The export for lmms-eval. What needs the real lmms-eval runs in its own environment (`make lmms-test`)."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from chat_server import ChatServer, call, text
from media import write_mp4
from predicted import crop, prediction, task

from medscope.evaluation.benchmark import benchmark_table
from medscope.evaluation.judge import exact_judge, text_of
from medscope.exports.__main__ import main
from medscope.exports.lmms_eval.export import NAMES
from medscope.exports.lmms_eval.replies import prediction_of, quarantined_text, reply_text
from medscope.exports.lmms_eval.scores import GROUNDING, VQA, mean, metrics_of, scores
from medscope.files import write_jsonl
from medscope.records import Recording, Text, Timestamp, ToolCall, Window


def asked(folder, count=40):
    """Tasks of all three kinds of reference about one film, and predictions that are right, near, wrong and none."""
    film = str(write_mp4(folder / "film.mp4", range(24)))
    rng, found = np.random.default_rng(0), []
    for n in range(count):
        start = float(rng.uniform(0, 15))
        window = Window(start, start + float(rng.uniform(1, 8)))
        reference = (window, Text("hook"), Timestamp(start))[n % 3]
        asked = replace(task(n, reference, evidence=window), path=film)
        near = Window(max(0.0, start + float(rng.normal(0, 1.5))), window.end + float(rng.uniform(0, 2)))
        answer = {Window: text_of(near), Text: ("hook", "a blade")[n % 2], Timestamp: f"{start + n % 4:g} s"}[
            type(reference)
        ]
        refused = ToolCall("crop_video", {}, message="no")
        calls = ((crop(near.start, near.end), refused), (), (crop(0, 1), crop(near.start, near.end)))[n % 3]
        made = prediction(asked, answer, exact_judge(answer, reference), calls, system="rl")
        found.append(replace(made, turns=("no answer",), accuracy=0.0) if n % 10 == 9 else made)
    return found


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """(folder for --include_path, file of predictions, predictions)."""
    folder = tmp_path_factory.mktemp("lmms")
    found = asked(folder)
    write_jsonl(folder / "suite" / "tasks.jsonl", [p.task for p in found])
    film = found[0].task.path
    write_jsonl(folder / "suite" / "recordings.jsonl", [Recording("a", film, 24.0, (), "set", "in", "eval")])
    assert main(["lmms_eval", str(folder / "suite"), "--out", str(folder / "tasks")]) == 0
    write_jsonl(folder / "rl.jsonl", found)
    return folder / "tasks", folder / "rl.jsonl", found


def rows(folder):
    return [json.loads(line) for file in sorted(folder.glob("*.jsonl")) for line in file.read_text().splitlines()]


def test_the_scores_of_the_replies_are_those_of_the_benchmark(exported):
    folder, _, found = exported
    docs = {json.loads(row["task"])["id"]: row for row in rows(folder)}
    assert docs.keys() == {p.task.id for p in found}
    for metrics, some in kinds(found).items():
        scored = [scores(docs[p.task.id], [reply_text(p.turns, p.calls).strip()]) for p in some]
        ours = benchmark_table({"rl": some})["rl"]["set"]
        assert {name: mean([row[name] for row in scored]) for name in metrics} == pytest.approx(
            {name: ours[name] for name in metrics}, abs=1e-9
        )
        assert all(0 < ours[name] < 1 for name in metrics), "the predictions tell the metrics apart"


def kinds(found):
    """Predictions by the metrics that count for them."""
    sets = {GROUNDING: [], VQA: []}
    for p in found:
        sets[metrics_of(p.task)].append(p)
    return sets


def test_a_reply_of_another_model_is_its_answer_and_one_in_quarantine_counts_in_no_mean(exported):
    asked = task(1, Text("hook"))
    assert prediction_of(asked, "A hook.").accuracy == 1 == prediction_of(asked, "so <answer>hook</answer>").accuracy
    assert prediction_of(asked, "<answer>hook</answer><answer>blade</answer>").accuracy == 0
    assert prediction_of(asked, quarantined_text("HTTP 400\nno")) is None
    doc = rows(exported[0])[0]
    left_out = scores(doc, [quarantined_text("no")])
    assert left_out.pop("quarantined") == 1 and set(left_out.values()) == {None}
    assert mean([None, 0.5, 1.0]) == 0.75 and np.isnan(mean([None]))


def test_a_suite_without_an_eval_set_is_an_error(tmp_path, capsys):
    write_jsonl(tmp_path / "suite" / "tasks.jsonl", [])
    assert main(["lmms_eval", str(tmp_path / "suite"), "--out", str(tmp_path / "out")]) == 2
    assert "no challenging task of split eval" in capsys.readouterr().err


def run_lmms_eval(folder, out, **arguments):
    """{task: results} of the real lmms-eval's command line with the model `medscope`."""
    pytest.importorskip("lmms_eval", reason="lmms-eval has an environment of its own: make lmms-test")
    given = ",".join(f"{name}={value}" for name, value in arguments.items())
    words = ["--model", "medscope", "--model_args", given, "--tasks", ",".join(NAMES), "--include_path", str(folder)]
    done = subprocess.run(
        [sys.executable, "-m", "lmms_eval", *words, "--output_path", str(out), "--verbosity", "DEBUG"],
        capture_output=True, text=True, cwd=out.parent,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(out.parent / "hf"), "HF_DATASETS_OFFLINE": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    (file,) = Path(out).rglob("*results.json")
    return json.loads(file.read_text())["results"]


def same(results, found):
    """Whether lmms-eval's numbers are ours to 1e-6, for every metric that a task shows."""
    for name, (metrics, some) in zip(NAMES, kinds(found).items(), strict=True):
        ours = benchmark_table({"rl": some})["rl"]["set"]
        shown = {metric: results[name][f"{metric},none"] for metric in metrics}
        assert shown == pytest.approx({metric: ours[metric] for metric in metrics}, abs=1e-6)


@pytest.mark.slow
def test_the_real_lmms_eval_gives_our_numbers_for_our_predictions(exported, tmp_path):
    folder, file, found = exported
    same(run_lmms_eval(folder, tmp_path / "out", predictions=file), found)


@pytest.mark.slow
def test_the_real_lmms_eval_plays_our_rollout(exported, tmp_path):
    """A scripted endpoint crops and answers: the window that the call showed is the evidence that lmms-eval scores.

    Its replies to the first task that it is asked cannot be read: that one counts in no mean.
    """
    folder, _, found = exported
    answer = "from 4 s to 10 s"
    dialogue = [call("crop_video", {"start_time": 4, "end_time": 10}), text(f"<answer>{answer}</answer>")]
    server = ChatServer(text("rubbish"), text("rubbish"), *dialogue * len(found))
    try:
        results = run_lmms_eval(folder, tmp_path / "out", name=server.url, model_name="m", in_flight=1, decoder="pyav")
    finally:
        server.close()
    made = [
        replace(p, turns=(f"<think></think><answer>{answer}</answer>",), calls=(crop(4, 10),),
                accuracy=exact_judge(answer, p.task.reference)) for p in found
    ]  # fmt: skip
    shares = [results[name]["quarantined,none"] for name in NAMES]
    (unread,) = [number for number, share in enumerate(shares) if share]
    parts = list(kinds(made).values())
    assert shares[unread] == pytest.approx(1 / len(parts[unread]))
    same(results, parts[0][not unread :] + parts[1][unread:])
    assert len(server.requests) == 2 * len(found)
