"""Who may write what: runs by papermill, by the launcher, by DVC, on a small copy of the project."""

import json
import os
import shutil
import signal
import subprocess
import sys

import pytest
from house import build_house, call, results, write_notebook

pytestmark = pytest.mark.slow
LINE = ("papermill", "notebooks/04_ga_grpo.ipynb", "out.ipynb", "-p", "learning_rate", "1e-4", "-p", "folder", ".")
LAUNCHER = "medscope.pipeline.stage"


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory):
    """An MLflow store with its tables, which takes seconds to make."""
    import mlflow

    file = tmp_path_factory.mktemp("store") / "mlflow.db"
    mlflow.MlflowClient(f"sqlite:///{file}").search_experiments()
    return file


@pytest.fixture
def home(tmp_path, empty_store):
    home = build_house(tmp_path / "copy")
    shutil.copy(empty_store, home)
    return home


def test_the_papermill_line_of_the_docs_leaves_the_results_of_the_pipeline_alone(home):
    before = results(home)
    run = call(home, *LINE)
    assert run.returncode == 0, run.stderr[-2000:]
    assert results(home) == before
    assert (home / "runs" / "checkpoints" / "ga_grpo" / "weights").read_text() == "sft 0.0001"
    assert json.loads((home / "runs" / "metrics" / "ga_grpo.json").read_text()) == {"reward": 1e-4}


def test_papermill_with_a_name_that_the_notebook_does_not_declare_fails(home):
    run = call(home, *LINE, "-p", "learning_rat", "1")
    assert run.returncode != 0
    assert "StageError: notebook ga_grpo has no parameter learning_rat; it has folder, decoder" in run.stderr


def test_dvc_writes_in_place(home):
    run = call(home, *LINE, DVC_STAGE="ga_grpo")
    assert run.returncode == 0, run.stderr[-2000:]
    assert (home / "checkpoints" / "ga_grpo" / "weights").read_text() == "sft 0.0001"
    assert not (home / "runs").exists()


def runs_of(home, experiment):
    import mlflow

    client = mlflow.MlflowClient(f"sqlite:///{home / 'mlflow.db'}")
    found = client.search_runs([client.get_experiment_by_name(experiment).experiment_id])
    return {run.info.run_name: run for run in found}


def test_the_launcher_writes_in_place_only_when_told(home):
    before = results(home)
    words = ("ga_grpo", "--with", "ablation", "--with", "ablation_overrides.slow", "variant=ablation/slow_0")
    run = call(home, LAUNCHER, *words)
    assert run.returncode == 0, run.stderr[-2000:]
    assert results(home) == before and "Writes below runs/" in run.stdout
    assert (home / "runs" / "checkpoints" / "ablation" / "slow_0" / "weights").read_text() == "sft 1e-06"
    run = call(home, LAUNCHER, *words, "--in-place", "learning_rate=0.5")
    assert run.returncode == 0, run.stderr[-2000:]
    assert (home / "checkpoints" / "ablation" / "slow_0" / "weights").read_text() == "sft 0.5"
    page = home / "outputs" / "ablation" / "slow_0" / "04_ga_grpo.html"
    assert page.exists()
    tracked = runs_of(home, "medscope")["ablation/slow_0"]
    assert tracked.info.status == "FINISHED" and tracked.data.metrics["result.reward"] == 0.5
    assert tracked.data.tags["data.suite"] == "11.dir", "the hash by the stage that made the suite"
    assert tracked.data.tags["checkpoints.sft"] == "22.dir"
    assert runs_of(home, "medscope-runs")["ablation/slow_0"].info.status == "FINISHED"


def test_smoke_takes_overrides_and_a_failure_ends_with_its_cause(home):
    run = call(home, LAUNCHER, "--smoke", "sft", "learning_rate=0.25")
    assert run.returncode == 0, run.stderr[-2000:]
    assert (home / "smoke" / "checkpoints" / "sft" / "weights").read_text() == "nothing 0.25"
    (home / "smoke" / "checkpoints" / "sft").rename(home / "smoke" / "checkpoints" / "elsewhere")
    run = call(home, LAUNCHER, "--smoke", "ga_grpo")
    assert run.returncode == 1 and "Traceback" not in run.stdout + run.stderr
    last = run.stderr.strip().splitlines()[-3:]
    assert last[0] == "stage ga_grpo failed"
    assert last[1] == "smoke/outputs/ga_grpo/04_ga_grpo.ipynb has the whole trace."
    assert last[2].startswith("FileNotFoundError: there is no checkpoint smoke/checkpoints/sft; run the stage that")
    assert "Traceback" in (home / "smoke" / "outputs" / "ga_grpo" / "04_ga_grpo.ipynb").read_text()
    assert runs_of(home, "medscope-smoke")["ga_grpo"].info.status == "FAILED"


FULL = """\
from medscope.pipeline.parameters import begin
begin("warm_up", globals())
raise OSError(28, "No space left on device", "checkpoints/warm_up/model.safetensors")
"""


def test_a_page_that_cannot_be_written_does_not_hide_the_full_disk(home):
    write_notebook(home / "notebooks" / "02_warm_up.ipynb", 'folder = "smoke"\n', FULL)
    (home / "smoke" / "outputs" / "warm_up" / "02_warm_up.html").mkdir(parents=True)
    run = call(home, LAUNCHER, "--smoke", "warm_up")
    assert run.returncode == 1
    lines = run.stderr.strip().splitlines()
    assert any(line.startswith("the page could not be written: IsADirectoryError") for line in lines)
    assert lines[-1] == "OSError: [Errno 28] No space left on device: 'checkpoints/warm_up/model.safetensors'"


WAITING = """\
from medscope.pipeline.parameters import begin
begin("sft", globals())
import mlflow, time
mlflow.start_run()
mlflow.end_run()  # as transformers does when a training ends
print("waiting", flush=True)
time.sleep(600)
"""


def test_a_killed_run_is_called_killed(home):
    """By SIGTERM at once; by SIGKILL at the next launch, although the trainer had called it FINISHED."""
    write_notebook(home / "notebooks" / "03_sft.ipynb", 'folder = "smoke"\n', WAITING)
    (home / "params.yaml").write_text("world: {decoder: decord}\n")
    for number in (signal.SIGTERM, signal.SIGKILL):
        running = subprocess.Popen(
            [sys.executable, "-m", LAUNCHER, "sft", f"folder=by_{number.name}"],
            cwd=home, stdout=subprocess.PIPE, text=True, start_new_session=True,
            env={name: value for name, value in os.environ.items() if not name.startswith(("DVC_", "MLFLOW_"))},
        )  # fmt: skip
        assert any("waiting" in line for line in running.stdout)
        if number == signal.SIGTERM:
            os.kill(running.pid, number)
            assert running.wait(60) == 128 + number
        else:
            os.killpg(running.pid, number)
            running.wait(60)
        running.stdout.close()
    assert runs_of(home, "medscope-by_SIGTERM")["sft"].info.status == "KILLED"
    assert runs_of(home, "medscope-by_SIGKILL")["sft"].info.status == "FINISHED"
    assert call(home, LAUNCHER, "--smoke", "warm_up").returncode == 0
    assert runs_of(home, "medscope-by_SIGKILL")["sft"].info.status == "KILLED"


def test_an_experiment_in_a_copy_of_the_repository_logs_to_the_main_store(tmp_path, empty_store):
    main = tmp_path / "main"
    main.mkdir()
    shutil.copy(empty_store, main)
    home = build_house(main / ".dvc" / "tmp" / "exps" / "one")
    assert call(home, LAUNCHER, "sft", DVC_STAGE="sft", DVC_ROOT=str(main)).returncode == 0
    assert runs_of(main, "medscope")["sft"].info.status == "FINISHED"
    assert not (home / "mlflow.db").exists()
