"""Slow: the whole chain of notebooks at smoke scale, TRL's trainer on our environment, and resume after kill -9."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from safetensors.torch import load_file

from medscope.agents.policy import tiny_policy
from medscope.environment import ClinicalVideoEnvironment
from medscope.pipeline.parameters import ROOT

pytestmark = pytest.mark.slow
EVAL_SETS = {"procedures", "clips", "composition", "view", "duration"}


def run_stage(*words: str) -> subprocess.Popen:
    """`python -m medscope.pipeline.stage --smoke ..` in a process group of its own, its MLflow runs kept in smoke/."""
    return subprocess.Popen(
        [sys.executable, "-m", "medscope.pipeline.stage", "--smoke", *words],
        cwd=ROOT,
        env={**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{ROOT / 'smoke' / 'mlflow.db'}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


@pytest.fixture(scope="module")
def smoke() -> Path:
    """The smoke chain, run once."""
    shutil.rmtree(ROOT / "smoke", ignore_errors=True)
    (ROOT / "smoke").mkdir()
    running = run_stage("all")
    output, _ = running.communicate()
    assert running.returncode == 0, output[-5000:]
    return ROOT / "smoke"


def test_the_chain_ends_in_a_table_of_all_systems_and_eval_sets(smoke):
    table = json.loads((smoke / "metrics" / "evaluate.json").read_text())
    assert set(table) == {"blind", "no_tools", "sft", "rl", "oracle"}
    for sets in table.values():
        assert set(sets) == EVAL_SETS
        for scores in sets.values():
            for name in ("tg_r30", "tg_r50", "tg_r70", "tg_miou", "vqa_miou", "vqa_acc", "evidence_miou", "accuracy"):
                value = scores[name]
                assert value is None or 0 <= scores[f"{name}_ci"][0] <= value <= scores[f"{name}_ci"][1] <= 1
    assert table["oracle"]["procedures"]["evidence_recall"] > 0.9, "the oracle looks as the teacher does"


def test_the_report_is_one_page_to_read_offline(smoke):
    """Tables and pictures, no code, no progress bars, nothing fetched."""
    page = (smoke / "outputs" / "report" / "07_report.html").read_text().replace("<wbr/>", "")
    assert page.count("data:image/png;base64,") >= 6 and page.count("<table") >= 8
    assert "benchmark_table(" not in page and "task/s" not in page
    assert not re.findall(r"<(?:script|link|img)[^>]*(?:src|href)=.https?:", page)
    for words in ("Evidence audit", "BLEU-4", "crop_frames", "synthesize_data"):
        assert words in page


def client_of(smoke):
    import mlflow

    return mlflow.MlflowClient(f"sqlite:///{smoke / 'mlflow.db'}")


def tracked(smoke):
    client = client_of(smoke)
    return client.search_runs([client.get_experiment_by_name("medscope-smoke").experiment_id])


def test_every_stage_left_one_mlflow_run_with_parameters_and_curves(smoke):
    client, runs = client_of(smoke), tracked(smoke)
    by_name = {run.info.run_name: run for run in runs}
    stages = {"synthesize_data", "warm_up", "sft", "ga_grpo", "ablations", "report"}
    assert stages | {"ablation/full_0", "evaluate/rl", "evaluate/ablation/full_0"} <= set(by_name)
    assert any(name.startswith("system/") for name in by_name["ga_grpo"].data.metrics), "memory and load are logged"
    assert all(run.info.status == "FINISHED" and run.data.tags["git_commit"] for run in runs)
    assert by_name["ga_grpo"].data.params["stage.modulation"] == "binary"
    for name in ("reward", "reward_crop", "tool_call_rate", "tool_failure_rate", "iou", "entropy"):
        history = client.get_metric_history(by_name["ga_grpo"].info.run_id, name)
        assert len(history) == 3, f"{name} has {len(history)} points for 3 updates"


def test_a_study_compares_the_variants_of_the_chain_without_a_model(smoke):
    """Notebook 08 with its own values reads what the evaluation of two variants left."""
    running = run_stage("studies")
    output, _ = running.communicate()
    assert running.returncode == 0, output[-3000:]
    table = json.loads((smoke / "metrics" / "studies" / "figure5.json").read_text())
    variants = json.loads((smoke / "metrics" / "ablations.json").read_text())["table"]
    for name, arms in table["arms"].items():
        assert set(arms) == set(variants) == {"full", "no_modulation"}
        for arm, scores in arms.items():
            assert scores["accuracy"]["mean"] == pytest.approx(variants[arm][f"{name} accuracy"])
    assert set(table["arms"]) == EVAL_SETS >= set(table["withheld"])
    assert (smoke / "outputs" / "studies" / "figure5" / "table" / "curves.png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("words", "moment", "steps"), [(("sft",), "checkpoint-3", 6), (("ga_grpo", "save_steps=1"), "checkpoint-1", 3)]
)
def test_a_killed_stage_loses_nothing_and_continues_from_its_checkpoint(smoke, words, moment, steps):
    """And its MLflow run, which nobody could end, is called KILLED at the next launch."""
    name = words[0]
    saved = smoke / "checkpoints" / name / "model.safetensors"
    before, weights = saved.read_bytes(), load_file(saved)
    running = run_stage(*words)
    deadline = time.time() + 300
    while not list((smoke / "scratch" / name).glob(f"*/{moment}/trainer_state.json")):
        assert time.time() < deadline and running.poll() is None, "no resume checkpoint before the stage ended"
        time.sleep(0.02)
    os.killpg(running.pid, signal.SIGKILL)
    running.communicate()
    assert saved.read_bytes() == before, "a killed stage must not touch the last whole checkpoint"
    again = run_stage(*words)
    output, _ = again.communicate()
    assert again.returncode == 0, output[-3000:]
    assert f"| 0/{steps} [" not in output, "the training bar must not start at the beginning"
    assert {"KILLED", "FINISHED"} == {run.info.status for run in tracked(smoke) if run.info.run_name == name}
    for parameter, value in load_file(saved).items():
        torch.testing.assert_close(
            value, weights[parameter], atol=1e-5, rtol=0, msg=f"{parameter} differs after resume"
        )


def test_the_environment_works_unchanged_in_stock_trl(store, tiny_budget, operation, tmp_path):
    """TRL's GRPOTrainer resets it with the dataset's columns, lists its tools and trains a step."""
    from trl import GRPOConfig, GRPOTrainer

    policy = tiny_policy()  # its own: TRL trains it
    made = []

    def factory() -> ClinicalVideoEnvironment:
        made.append(ClinicalVideoEnvironment(store, tiny_budget))
        return made[-1]

    question = [{"role": "user", "content": "When does the incision take place?"}]
    trainer = GRPOTrainer(
        model=policy.model,
        reward_funcs=lambda completions, **_: [float(len(str(c)) % 3) for c in completions],
        args=GRPOConfig(str(tmp_path), max_steps=1, per_device_train_batch_size=2, num_generations=2, beta=0.0,
                        max_completion_length=8, report_to=[], use_cpu=True, bf16=False, save_strategy="no"),
        train_dataset=Dataset.from_list([{"prompt": question, "path": operation.path}] * 4),
        processing_class=policy.processor,
        environment_factory=factory,
    )  # fmt: skip
    assert {tool.__name__ for tool in trainer._env_tools[None]} == {"crop_video", "get_frame"}
    trainer.train()
    assert any(environment.path == operation.path for environment in made)
    blocks = made[-1].crop_video(start_time=1.0, end_time=3.0)
    assert blocks[0]["type"] == "image"
