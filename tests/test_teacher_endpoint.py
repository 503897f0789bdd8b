"""The teacher behind an endpoint: prompts, content keys, and a whole suite."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from teacher_items import BUDGET, LOOK, model_of, remote_of
from teacher_server import prompt_of, teach, write_film

from medscope.environment import ClinicalVideoEnvironment
from medscope.records import Recording, Window
from medscope.remote import EndpointError, RemoteModel
from medscope.sources.source import Language
from medscope.suite.build import summarise
from medscope.suite.bulk import StepStopped
from medscope.suite.suite import Suite
from medscope.suite.teachers import endpoint as package
from medscope.suite.teachers.endpoint.build import (
    LOOK as TEACHERS_LOOK,
)
from medscope.suite.teachers.endpoint.build import (
    TeacherSettings,
    build_suite_with_teacher,
    teacher_model,
    teacher_settings,
)
from medscope.suite.teachers.endpoint.captions import CaptionStep
from medscope.suite.teachers.endpoint.prompts import PROMPTS, load_prompt
from medscope.suite.teachers.endpoint.scenes import Segment
from medscope.suite.teachers.endpoint.structured import StructuredModel
from medscope.training.examples import trajectory_example, warm_up_example

pytest_plugins = ["teacher_fixtures"]


@pytest.mark.parametrize("name", PROMPTS)
def test_prompts_are_as_they_were(name, pytestconfig):
    snapshot = pytestconfig.rootpath / "tests" / "snapshots" / f"teacher_{name}.txt"
    assert load_prompt(name).text + "\n" == snapshot.read_text(), f"copy the prompt {name} if the change is meant"


def test_every_prompt_file_is_known():
    folder = Path(package.__file__).parent / "prompts"
    assert {path.name for path in folder.iterdir()} == {f"{name}.md" for name in PROMPTS}
    with pytest.raises(ValueError, match="unknown"):
        load_prompt("../caption")


def test_a_key_changes_with_video_window_prompt_and_model(serve, store, film):
    server = serve()
    step = CaptionStep(model_of(server), store, LOOK)
    segment = Segment(film, Window(0, 3))
    other_model = StructuredModel(RemoteModel(url=server.url, model="another"))
    renamed = load_prompt("caption").__class__("caption", "another text")
    keys = [
        step.key(segment),
        step.key(replace(segment, window=Window(0, 4))),
        step.key(replace(segment, film=replace(film, sha256="b" * 64))),
        CaptionStep(other_model, store, LOOK).key(segment),
        CaptionStep(step.model, store, BUDGET).key(segment),
    ]
    step.prompt = renamed
    assert len({*keys, step.key(segment)}) == 6
    moved = replace(film, recording=replace(film.recording, path="/elsewhere.mp4"))
    assert CaptionStep(step.model, store, LOOK).key(replace(segment, film=moved)) == keys[0]


class Films:
    """Four films of 12 s, one of each split."""

    language = Language()

    def __init__(self, folder):
        self.films = [
            Recording(split, write_film(folder / f"{split}.mp4", 3 * i), 12.0, (), "films", split=split)
            for i, split in enumerate(("warm_up", "sft", "rl", "eval"))
        ]

    def recordings(self):
        return iter(self.films)


SETTINGS = TeacherSettings(look=LOOK, shortest=1.5, longest=3.2, questions=5, concurrency=4)


@pytest.fixture
def films(tmp_path):
    return Films(tmp_path)


def make(folder, films, remote, store, settings=SETTINGS):
    settings = replace(settings, work=str(folder / "work"))
    return build_suite_with_teacher(folder / "suite", films, remote, store, BUDGET, settings=settings)


@pytest.mark.slow
def test_a_suite_of_four_films(serve, store, films, policy, tmp_path):
    pytest.importorskip("scenedetect", reason="extra teacher")
    server = serve()
    funnel = make(tmp_path, films, remote_of(server), store)
    suite = Suite(tmp_path / "suite")
    assert len(suite.captions) >= 10 + 4 and len(suite.tasks) >= 10
    assert {task.split for task in suite.tasks} == {"warm_up", "sft", "rl", "eval"}
    assert {task.kind for task in suite.tasks} == {"grounding", "perception", "temporal"}
    assert any(task.challenging for task in suite.tasks) and any(not task.challenging for task in suite.tasks)
    assert suite.trajectories and all(t.task.split == "sft" for t in suite.trajectories)
    assert suite.warm_up_examples and all(e.video in ("warm_up", "") for e in suite.warm_up_examples)
    assert sum(bool(e.captions) for e in suite.warm_up_examples) == 2 * sum(
        c.video == "warm_up" and c.window.length < 12 for c in suite.captions
    )
    reasons = set(funnel.reasons)
    assert {
        "yes or no",
        "leaks its answer",
        "leaks its time",
        "window too long",
        "duplicate",
        "answerable without the video",
        "not answered from its window",
        "answered from the rest of the video",
    } <= reasons
    written = json.loads((tmp_path / "suite" / "funnel.json").read_text())
    assert [step.pop("step") for step in written] == list(funnel.steps) and written == list(funnel.steps.values())
    assert list(funnel.steps)[:5] == ["scenes", "captions", "summaries", "questions", "duplicates"]
    assert len((tmp_path / "suite" / "rejected.jsonl").read_text().splitlines()) == len(funnel.rejected)
    assert all(step["generated"] == step["kept"] + sum(step["rejected"].values()) for step in written)
    assert summarise(suite, funnel.reasons)["splits"]["sft"]["trajectories"] == len(suite.trajectories)
    for example in suite.warm_up_examples:  # what was made can be trained on
        assert warm_up_example(policy, example, store).tokens
    environment = ClinicalVideoEnvironment(store, BUDGET)
    for trajectory in suite.trajectories:
        assert trajectory_example(policy, trajectory, environment).tokens
        assert environment.trace.calls == [call for call in trajectory.calls if call.executed]
    asked = len(server.requests)
    again = make(tmp_path, films, remote_of(server), store)
    assert len(server.requests) == asked and again.steps == funnel.steps


@pytest.mark.slow
def test_an_outage_stops_the_run_and_the_next_goes_on(serve, store, films, tmp_path):
    pytest.importorskip("scenedetect", reason="extra teacher")
    server = serve()
    server.script = lambda request: 500 if len(server.requests) > 40 else teach(request)
    with pytest.raises(StepStopped, match="run the same command again"):
        make(tmp_path, films, remote_of(server), store)
    assert not (tmp_path / "suite").exists()
    server.script = teach
    before = {json.dumps(r["messages"]) for r in server.requests[:40] if r["temperature"] == 0.2}
    done = len(server.requests)
    make(tmp_path, films, remote_of(server), store)
    captioned = {json.dumps(r["messages"]) for r in server.requests[done:] if prompt_of(r) == "caption"}
    assert not captioned & before and Suite(tmp_path / "suite").tasks


def test_the_endpoint_comes_from_its_variables(monkeypatch):
    monkeypatch.delenv("MEDSCOPE_TEACHER_URL", raising=False)
    with pytest.raises(EndpointError, match="MEDSCOPE_TEACHER_URL and MEDSCOPE_TEACHER_MODEL"):
        teacher_model()
    monkeypatch.setenv("MEDSCOPE_TEACHER_URL", "https://api.example.com/v1")
    monkeypatch.setenv("MEDSCOPE_TEACHER_MODEL", "m")
    assert not teacher_model().allow_remote and teacher_model(allow_remote=True).allow_remote


def test_settings_come_from_parameters():
    read = teacher_settings({"longest": 30, "look": {"crop_frames": 8}, "work": "there"})
    assert read == TeacherSettings(longest=30.0, look=replace(TEACHERS_LOOK, crop_frames=8), work="there")
    assert teacher_settings({}) == TeacherSettings()
    with pytest.raises(ValueError, match="no setting lenght; it has allow_remote, work"):
        teacher_settings({"lenght": 3})
    with pytest.raises(ValueError, match="concurrency: Input should be a valid integer"):
        teacher_settings({"concurrency": "many"})


FAULTS = ["no JSON", {"moments": "none"}, b'{"choices": [{"mess', 429, 500, 3.0, "die"]


@pytest.mark.slow
def test_a_server_with_every_fault_loses_no_item_that_it_answers(serve, store, films, tmp_path):
    """Rubbish, another schema, truncated JSON, 429, 500, a hang, a lost line: every sixth reply is one of them."""
    pytest.importorskip("scenedetect", reason="extra teacher")
    server = serve()

    def faulty(request):
        count = len(server.requests)
        return FAULTS[count // 6 % len(FAULTS)] if count % 6 == 0 else teach(request)

    server.script = faulty
    for _ in range(20):  # an outage stops a run, which keeps what it has
        try:
            made = make(tmp_path, films, remote_of(server, retries=2, timeout=2.0), store)
            break
        except StepStopped:
            continue
    suite = Suite(tmp_path / "suite")
    assert len(suite.tasks) >= 10 and suite.trajectories
    server.script = teach
    honest = make(tmp_path / "honest", films, remote_of(server), store)
    lost = {task.id for task in Suite(tmp_path / "honest" / "suite").tasks} - {task.id for task in suite.tasks}
    assert not lost or set(made.reasons) - set(honest.reasons), "an item is kept or rejected with a reason"
