"""The reading room without a browser: videos, questions, models side by side, and every error in its place."""

import json
from dataclasses import replace
from datetime import datetime

import numpy as np
import pytest
from chat_server import ChatServer, call, text
from media import write_audio, write_mp4
from predicted import task

from medscope import models
from medscope.environment import FrameStore
from medscope.files import write_jsonl
from medscope.records import Recording, Window
from medscope.reporting.explorer import MOST_READINGS, ReadingRoom
from medscope.reporting.reading_room.reading import Failure, Reading
from medscope.sources.annotations.formats import read_annotations
from medscope.suite.suite import Suite

CROP = call("crop_video", {"start_time": 2, "end_time": 6}, "The skim shows it.")
ANSWER = text("Seen.\n<answer>from 3 to 5 s</answer>")
SCRIPT = "<script>alert('1')</script>"


@pytest.fixture
def folder(tmp_path):
    """What models/ will be: a video."""
    (tmp_path / "models").mkdir()
    write_mp4(tmp_path / "models" / "film.mp4", np.arange(12.0))
    return tmp_path / "models"


@pytest.fixture
def serve(monkeypatch):
    servers = []

    def started(*replies):
        servers.append(ChatServer(*replies))
        monkeypatch.setenv("MEDSCOPE_MODEL_MODEL", "m")
        return servers[-1]

    yield started
    for server in servers:
        server.close()


@pytest.fixture
def make(folder, tmp_path, tiny_budget):
    def made(*names, **settings):
        settings = {"folder": folder, "corrections": tmp_path / "kept", **settings}
        return ReadingRoom(FrameStore("pyav"), tiny_budget, names, **settings)

    return made


def asked(room, question="Which?"):
    """The columns of the newest reading after a click on `ask`."""
    room.question.value = question
    room.ask.click()
    assert not room.ask.disabled
    return room.readings.children[0].children[1].children


def test_several_questions_stay_and_the_cost_is_that_of_each(make, serve):
    room = make(serve(CROP, ANSWER, CROP, ANSWER).url)
    (first,), (second,) = asked(room, "Which?"), asked(room, "When?")
    assert isinstance(first, Reading) and first.session.task.question == "Which?" and second.session.answer
    assert [r.children[0].value.count("Which?") for r in room.readings.children] == [0, 1]  # the newest first
    assert [reading.session.cost["requests"] for reading in (first, second)] == [2, 2]
    assert (second.start.value, second.end.value) == (3, 5)


@pytest.mark.slow  # an untrained policy that never ends its turns
def test_two_models_answer_side_by_side_and_a_dead_one_hides_no_other(make, serve, policy, tiny_budget, tmp_path):
    """A checkpoint of the pipeline, which holds no budget.json, and an endpoint that dies after its first call."""
    policy.save(tmp_path / "checkpoint")
    server = serve(CROP, 500)
    local, dead = asked(make(str(tmp_path / "checkpoint"), server.url))
    assert isinstance(local, Reading) and local.session.turns and local.session.confidence is not None
    assert local.session.environment.budget == tiny_budget
    assert "fails (HTTP 500)" in dead.children[0].value and "There is no answer." in dead.children[0].value
    assert dead.play.options[0] == "1 crop_video" and len(dead.session.turns) == 1


def test_a_server_that_comes_back_is_tried_anew(make, serve):
    server = serve(500)
    room = make(server.url)
    for _ in range(6):  # the circuit of one client opens after five
        asked(room)
    server.replies[:] = [ANSWER]
    assert asked(room)[0].session.answer == "from 3 to 5 s"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "question", "message"),
    [
        ("/no/such/folder", "Which?", "no checkpoint folder"),
        ("https://api.example.com/v1", "Which?", "nothing was sent"),
        ("http://127.0.0.1:9/v1", " ", "the question is empty"),
        ("http://127.0.0.1:9/v1", "x" * 5000, "at most 4000"),
        ("http://127.0.0.1:9/v1", "a\udcff", "UTF-8"),
        ("http://127.0.0.1:9/v1", "Which?", "cannot be reached"),
    ],
)
def test_an_error_of_a_question_is_shown_in_its_place(make, monkeypatch, model, question, message):
    monkeypatch.setenv("MEDSCOPE_MODEL_MODEL", "m")
    room = make(model)
    (column,) = asked(room, question)
    assert message in column.children[0].value
    assert len(room.readings.children[0].children[0].value) < 700  # the title holds the beginning of a long question


def test_an_unexpected_error_and_an_interruption_are_shown_too(make, monkeypatch):
    room = make("broken")
    for error in (RuntimeError(f"out of memory {SCRIPT}"), KeyboardInterrupt()):

        def fail(_, error=error):
            raise error

        monkeypatch.setattr(
            "medscope.reporting.explorer.open_model", lambda *_, f=fail: models.Model("broken", room.budget, f)
        )
        (column,) = asked(room)
        assert isinstance(column, Reading) and "There is no answer." in column.children[0].value
        assert "out of memory &lt;script" in column.children[0].value or "KeyboardInterrupt" in column.children[0].value


def test_a_file_by_its_path_and_an_upload_are_chosen_and_bad_ones_are_named(make, tmp_path):
    room = make("m")
    own = write_mp4(tmp_path / "own.mp4", [0, 1, 2])
    room.path.value = str(own)
    assert room.video.value.path == str(own) and len(room.video.options) == 2
    (tmp_path / "text.mp4").write_text("hello")
    write_audio(tmp_path / "sound.mp4")
    for bad in ("text.mp4", "sound.mp4", "none.mp4", "<b>.mp4"):
        room.path.value = str(tmp_path / bad)
        assert room.video.value.path == str(own) and bad.replace("<", "&lt;").replace(">", "&gt;") in room.message.value
    file = {"type": "video/mp4", "size": 1, "last_modified": datetime.now()}
    room.upload.value = [{**file, "name": "case 7.mp4", "content": memoryview(own.read_bytes())}]
    assert room.video.value.name == "case 7.mp4" and len(room.video.options) == 3 and not room.upload.value
    room.upload.value = [{**file, "name": "case 8.mp4", "content": memoryview(b"hello")}]
    assert room.video.value.name == "case 7.mp4" and 'class="error"' in room.message.value


def test_the_suite_offers_its_held_out_tasks_and_a_correction_finds_its_task(make, serve, tmp_path):
    recordings, tasks = [], []
    for video in ("a", "b"):
        path = str(write_mp4(tmp_path / f"{video}.mp4", np.arange(12.0)))
        recordings.append(Recording(video, path, 12, (), "set", split="eval"))
        found = task(f"{video}1", "yes", Window(8, 10), video=video)
        tasks.append(replace(found, path=path, question=f"What in {video}?"))
    tasks += [
        replace(tasks[0], id="set:a2", question="When in a?"),
        replace(tasks[0], id="set:a3", free_text=True, question="Describe a."),
        replace(tasks[0], id="set:a4", split="sft", question="What was taught?"),
    ]
    write_jsonl(tmp_path / "suite" / "recordings.jsonl", recordings)
    write_jsonl(tmp_path / "suite" / "tasks.jsonl", tasks)
    room = make(serve(CROP, ANSWER).url, suite=Suite(tmp_path / "suite"))
    assert [label for label, _ in room.video.options][1:] == ["a", "b"] and not room.question.options
    room.video.value = room.video.options[1][1]
    assert room.question.options == ("What in a?", "When in a?")
    (column,) = asked(room, "When in a?")
    assert "evidence of the suite" in column.play.options
    column.save.click()
    assert read_annotations(tmp_path / "kept", "webvtt")[0][0].annotation.id == "set:a2"


@pytest.mark.slow  # an untrained policy that never ends its turns
def test_the_models_own_budget_and_the_words_of_its_card_count(make, policy, tmp_path, folder):
    policy.save(tmp_path / "m" / "card")
    (tmp_path / "m" / "card" / "budget.json").write_text(json.dumps({"skim_frames": 3, "skim_pixels": 784}))
    (tmp_path / "m" / "card" / "README.md").write_text(f"> Knows nothing of {SCRIPT}\n")
    room = make(str(tmp_path / "m" / "card"))
    (column,) = asked(room)
    opened = list(room.opened.values())
    asked(room, " ")  # an error of the question: the weights are not loaded again
    assert list(room.opened.values()) == opened
    assert column.session.environment.budget.skim_frames == 3
    assert "Knows nothing of &lt;script&gt;" in column.children[0].value


def test_what_is_not_there_yet_is_said(tmp_path, tiny_budget, monkeypatch):
    monkeypatch.setattr("medscope.reporting.explorer.TINY", tmp_path / "none" / "tiny")
    monkeypatch.setattr(models, "TINY", tmp_path / "none" / "tiny")
    room = ReadingRoom(FrameStore(), tiny_budget, (str(tmp_path / "none" / "tiny"),), tmp_path / "none")
    assert "holds no video: name a file or upload one" in room.message.value
    assert "name a folder of weights or the URL of an endpoint" in room.message.value
    room.ask.click()
    assert "choose a video" in room.message.value and not room.readings.children
    room.path.value = str(write_mp4(tmp_path / "own.mp4", [0, 1, 2]))
    (column,) = asked(room)
    assert isinstance(column, Failure) and "fetch it" in column.children[0].value
    room.fields[0].model.value = " "
    room.ask.click()
    assert "name a model" in room.message.value


def test_the_oldest_readings_make_room(make, serve):
    room = make("http://127.0.0.1:9/v1")
    for number in range(MOST_READINGS + 2):
        asked(room, " " * (number + 1))  # fails at once
    assert len(room.readings.children) == MOST_READINGS
