"""make: the version of Python is checked before anything is installed; cleaning keeps what was paid for."""

import os
import shutil
import subprocess
import sys

from medscope.pipeline.parameters import ROOT


def make(folder, *words):
    shutil.copy(ROOT / "Makefile", folder)
    return subprocess.run(["make", *words], cwd=folder, capture_output=True, text=True)


def test_another_python_is_refused_first(tmp_path):
    python = tmp_path / "python3.12"
    python.write_text(
        f'#!/bin/sh\nexec {sys.executable} -c "import sys; sys.version_info = (3, 12, 0); exec(sys.argv[1])" "$2"\n'
    )
    python.chmod(0o755)
    for name in ("requirements.lock", "pyproject.toml"):
        (tmp_path / name).touch()
    run = make(tmp_path, "install", f"PYTHON={python}")
    assert run.returncode != 0 and f"MedScope needs Python 3.11; '{python}' is not" in run.stdout + run.stderr
    assert not (tmp_path / ".venv").exists()


def test_clean_keeps_verdicts_and_runs(tmp_path):
    for name in (".cache/judge", "runs", "scratch", "smoke", "checkpoints"):
        (tmp_path / name).mkdir(parents=True)
    assert make(tmp_path, "clean").returncode == 0
    assert {path.name for path in tmp_path.iterdir()} == {".cache", "runs", "checkpoints", "Makefile"}


def test_a_relative_path_means_the_folder_that_make_is_called_from(tmp_path):
    """A Python that tells where it is run, and with which words."""
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    python.write_text('#!/bin/sh\npwd; for word in "$@"; do echo "$word"; done\n')
    python.chmod(0o755)
    (tmp_path / "the user's").mkdir()
    words = ["make", "-s", "--no-print-directory", "-C", str(ROOT), "ask", f"BIN={python.parent}", "READY="]
    words += ["VIDEO=my film.mp4", 'QUESTION=When is "it" $$HOME?', "OUT=out"]
    here = tmp_path / "the user's"
    run = subprocess.run(words, cwd=here, env={**os.environ, "PWD": str(here)}, capture_output=True, text=True)
    asked = ["-m", "medscope.ask", "my film.mp4", 'When is "it" $HOME?', "--out", "out"]
    assert run.returncode == 0 and run.stdout.splitlines() == [str(here), *asked], run.stderr


def test_help_lists_every_target():
    text = (ROOT / "Makefile").read_text()
    phony = text.split(".PHONY:")[1].split("\n\n")[0].replace("\\", " ").split()
    told = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True).stdout
    assert {line.split()[1] for line in told.splitlines() if line.startswith("  make ")} == set(phony)
