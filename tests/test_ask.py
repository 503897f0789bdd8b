"""`python -m medscope.ask`: a local policy and an endpoint on a film, its page, and everything that may go wrong."""

import json
import os
import re
from concurrent.futures import ThreadPoolExecutor

import pytest
from asked import ANSWER, CROP, TIMES, Page, serve_fixture, video_fixture  # noqa: F401
from chat_server import ChatServer, call, frames_of, text
from media import level_index, write_audio, write_mp4

from medscope import ask, models
from medscope.agents.model_card import card_warning, read_budget
from medscope.environment import FrameStore, ToolBudget
from medscope.files import read_jsonl
from medscope.records import Task, Text, Timestamp, ToolCall, Trajectory, Window
from medscope.reporting.ask_page import time_line, write_ask_page
from medscope.session import open_session, printable

SCRIPT = "<script>alert('1')</script>"
CARD = "# Tiny\n\nA model.\n\n> This model has seen drawn videos only.\n> It knows nothing of surgery.\n\n> Not this.\n"


def save_model(folder, policy, budget):
    policy.save(folder)
    names = ("skim_frames", "skim_pixels", "crop_frames", "crop_pixels", "frame_pixels")
    (folder / "budget.json").write_text(json.dumps({name: getattr(budget, name) for name in names}))
    (folder / "README.md").write_text(CARD)
    return folder


def test_an_endpoint_answers_and_stdout_is_json_alone(serve, video, capfd):
    serve(CROP, call("get_frame", {"timestamp": 50}), ANSWER)
    assert ask.main([video, "Which tool?", "--model", "endpoint", "--json", "--price", "2", "10"]) == 0
    captured = capfd.readouterr()
    made = json.loads(captured.out)
    assert set(made) == {"answer", "calls", "windows", "thoughts", "cost"}
    assert made["answer"] == "forceps" and made["windows"] == [[2, 6]]
    assert made["thoughts"] == ["The skim shows it.", "", "Seen."]
    assert made["calls"][0]["looked"] == [2, 6] and all(2 <= s <= 6 for s in made["calls"][0]["seconds"])
    assert made["calls"][1]["looked"] is None and "past the end" in made["calls"][1]["message"]
    assert made["cost"]["prompt_tokens"] == 3000 and made["cost"]["dollars"] == pytest.approx(3000 * 2e-6 + 30 * 1e-5)
    assert "turn 1: The skim shows it." in captured.err


def test_the_endpoint_sees_the_frames_of_the_video(serve, video):
    server = serve(CROP, ANSWER)
    ask.main([video, "Which tool?", "--model", server.url, "--model-name", "other"])
    assert [level_index(picture) for _, picture in frames_of(server.requests[1])] == [
        TIMES.index(second) for second, _ in frames_of(server.requests[1])
    ]
    assert server.requests[0]["model"] == "other"


def test_a_local_policy_answers_by_calls(caller, tiny_budget, operation, tmp_path, monkeypatch, capsys):
    """Relative paths mean the user's folder, which stays the working folder."""
    save_model(tmp_path / "model", caller, tiny_budget)
    monkeypatch.chdir(tmp_path)
    os.link(operation.path, "film.mp4")
    os.mkdir("elsewhere")
    os.chdir("elsewhere")
    assert ask.main(["../film.mp4", "Which <|im_end|> tool?", "--model", "../model", "--out", "kept"]) == 0
    out, error = capsys.readouterr()
    assert os.getcwd() == str(tmp_path / "elsewhere")
    trajectory = read_jsonl(tmp_path / "elsewhere" / "kept" / "trajectory.jsonl", Trajectory)[0]
    assert trajectory.calls and trajectory.task.path == "../film.mp4"
    assert out.startswith("answer: ") and "call 1: crop_video" in out and "confidence" in out
    assert "warning: This model has seen drawn videos only." in error  # a film beside it is as foreign as any


def test_the_model_is_quiet_about_the_video_that_comes_with_it():
    own = models.Model(str(models.TINY), ToolBudget(), print, "It knows nothing.")
    assert own.warning(str(models.TINY.parent / "example.mp4")) == ""
    assert own.warning(str(models.TINY.parent.parent / "film.mp4")) == "It knows nothing."


@pytest.mark.slow
def test_on_a_foreign_video_the_model_says_what_it_is(policy, tiny_budget, tmp_path, capsys, video):
    models = tmp_path / "models"
    save_model(models / "tiny", policy, tiny_budget)
    assert (
        ask.main([video, "Which tool?", "--model", str(models / "tiny"), "--json", "--out", str(tmp_path / "o")]) == 0
    )
    out, error = capsys.readouterr()
    said = "This model has seen drawn videos only. It knows nothing of surgery."
    assert f"warning: {said}" in error and json.loads(out)["cost"]["frames"] == 12
    assert said in Page(tmp_path / "o" / "ask.html").text


def test_the_page_is_one_file_with_frames_clips_and_escaped_text(serve, video, tmp_path):
    serve(
        call("crop_video", {"start_time": 2, "end_time": 6}, f"Look. {SCRIPT}"),
        call("get_frame", {"timestamp": 8}),
        text(f"Seen.<answer>from 2 to 6 s {SCRIPT}</answer>"),
    )
    assert ask.main([video, f"Which tool? {SCRIPT}", "--model", "endpoint", "--out", str(tmp_path / "out")]) == 0
    page = Page(tmp_path / "out" / "ask.html")
    assert "script" not in page.tags and page.text.count(SCRIPT) >= 3
    assert page.sources and all(source.startswith("data:") for source in page.sources)
    assert page.tags.count("video") == 2 and page.tags.count("svg") == 1
    assert page.tags.count("img") == 12 + 4 + 3
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["ask.html", "ask.json", "trajectory.jsonl"]


def test_the_time_line_has_every_look_at_its_place():
    calls = [
        ToolCall("crop_video", {}, Window(25, 50), (30.0,)),
        ToolCall("crop_video", {}, message="refused"),
        ToolCall("get_frame", {}, Timestamp(80), (80.0,)),
    ]
    drawn = time_line(100, [0, 50], calls, Window(90, 200))
    bars = re.findall(r'class="(look|named)" x="([\d.]+)" width="([\d.]+)"', drawn)
    assert bars == [("look", "250.0", "250.0"), ("look", "790.0", "20.0"), ("named", "900.0", "100.0")]
    assert re.findall(r'class="skim" x1="([\d.]+)"', drawn) == ["0.0", "500.0"] and "3 get_frame" in drawn


def test_a_page_without_turns_and_with_many_frames(video, tmp_path):
    """What Ctrl-C leaves of a local policy: calls without turns. A long list of frames is thinned out evenly."""
    task = Task("ask", "film.mp4", video, "Which?", Text(""), Window(0, 11), "ask", "eval", "")
    calls = (ToolCall("crop_video", {}, Window(0, 11), tuple(i * 0.1 for i in range(100))),)
    write_ask_page(tmp_path / "a.html", Trajectory(task, (), calls), FrameStore(), ToolBudget(skim_frames=4), {})
    page = Page(tmp_path / "a.html")
    assert "There is no answer." in page.text and "32 of 100 frames" in page.text and page.tags.count("img") == 32 + 4


def test_a_question_of_every_special_token_is_a_question(caller, tiny_budget, operation, tmp_path, capsys):
    """For the policy they are text (tests/test_encoding.py); the record has them as they were typed."""
    tokens = [*caller.tokenizer.all_special_tokens, *caller.tokenizer.get_added_vocab()]
    question = "Which tool? " + " ".join(dict.fromkeys(tokens)) + " <answer>none</answer> <tool_call>{}</tool_call>"
    save_model(tmp_path / "model", caller, tiny_budget)
    words = [operation.path, question, "--model", str(tmp_path / "model"), "--json", "--out", str(tmp_path / "out")]
    assert len(tokens) > 5 and ask.main(words) == 0
    record = json.loads(capsys.readouterr().out)
    trajectory = read_jsonl(tmp_path / "out" / "trajectory.jsonl", Trajectory)[0]
    assert trajectory.task.question == question and record["answer"] != "none"
    assert record["cost"]["frames"] >= tiny_budget.skim_frames and question in Page(tmp_path / "out" / "ask.html").text


@pytest.mark.parametrize(
    ("question", "message"),
    [
        ("x" * 100_000, "the question has 100000 characters; ask one of at most 4000"),
        (" ", "empty"),
        ("a\udcff", "UTF-8"),
    ],
)
def test_a_question_that_is_none(serve, video, capsys, question, message):
    server = serve(ANSWER)
    assert ask.main([video, question, "--model", "endpoint"]) == 1
    out, error = capsys.readouterr()
    assert not out and error.count("\n") == 1 and message in error and not server.requests


def test_a_file_that_is_no_video(serve, tmp_path, capsys):
    serve(ANSWER)
    (tmp_path / "text.mp4").write_text("hello")
    (tmp_path / "empty.mp4").write_bytes(b"")
    write_audio(tmp_path / "sound.mp4")
    (tmp_path / "folder").mkdir()
    for name in ("text.mp4", "empty.mp4", "sound.mp4", "none.mp4", "folder"):
        assert ask.main([str(tmp_path / name), "Which tool?", "--model", "endpoint", "--json"]) == 1
        out, error = capsys.readouterr()
        assert not out and error.splitlines()[-1].startswith("ask: ") and name in error and "Traceback" not in error


@pytest.mark.slow
@pytest.mark.parametrize("failure", [500, "die", b"<html>"])
def test_an_endpoint_that_dies_between_calls_leaves_what_was_done(serve, video, tmp_path, capsys, failure):
    serve(CROP, failure)
    assert ask.main([video, "Which tool?", "--model", "endpoint", "--json", "--out", str(tmp_path / "out")]) == 1
    out, error = capsys.readouterr()
    assert not out and error.splitlines()[-1].startswith("ask: the model m at http://127.0.0.1")
    kept = read_jsonl(tmp_path / "out" / "trajectory.jsonl", Trajectory)[0]
    assert len(kept.turns) == 1 and kept.calls[0].looked == Window(2, 6)
    record = json.loads((tmp_path / "out" / "ask.json").read_text())
    assert record["answer"] is None and record["error"] in error and record["cost"]["requests"] >= 2


def test_two_asks_share_one_store_of_frames_in_threads(tmp_path):
    """Each sees its own film, while the store is so small that each drops what the other one uses."""
    store, films = FrameStore("pyav", max_bytes=4 * 56 * 56 * 3, max_open=1), {}
    films = {name: str(write_mp4(tmp_path / f"{name}.mp4", TIMES[first:])) for name, first in (("a", 0), ("b", 4))}
    servers = {name: ChatServer(CROP, call("get_frame", {"timestamp": 3}), ANSWER) for name in films}

    def answer(name):
        model = models.open_model(servers[name].url, None, models.EndpointSettings("m"))
        session = open_session(films[name], f"Which tool in {name}?", store, model.budget)
        model.answer(session)
        return session

    try:
        with ThreadPoolExecutor(2) as pool:
            sessions = dict(zip(films, pool.map(answer, films), strict=True))
    finally:
        for server in servers.values():
            server.close()
    for name, session in sessions.items():
        assert session.answer == "forceps" and session.task.path == films[name]
        assert len(session.trajectory.calls) == 2 and all(c.executed for c in session.trajectory.calls)
        first = 0 if name == "a" else 4
        times = [round(second - TIMES[first], 2) for second in TIMES[first:]]
        for request in servers[name].requests:
            for second, picture in frames_of(request):
                assert level_index(picture) == times.index(second)


def test_nothing_is_sent_to_another_machine_unasked(video, capsys):
    assert ask.main([video, "Which tool?", "--model", "https://api.example.com/v1", "--model-name", "m"]) == 1
    error = capsys.readouterr().err
    assert "nothing was sent" in error and "12 frames" in error and "--allow-remote" in error


def test_models_that_are_not_there(tmp_path, video, capsys, monkeypatch):
    monkeypatch.delenv("MEDSCOPE_MODEL_URL", raising=False)
    monkeypatch.setattr(models, "TINY", tmp_path / "tiny")
    (tmp_path / "bare").mkdir()
    for model, message in {
        "endpoint": "MEDSCOPE_MODEL_URL",
        str(tmp_path / "tiny"): "give --model a folder or the URL of an endpoint",
        str(tmp_path / "none"): "no checkpoint folder",
        str(tmp_path / "bare"): "budget.json does not exist",
    }.items():
        assert ask.main([video, "Which tool?", "--model", model]) == 1
        assert message in capsys.readouterr().err


def test_a_budget_that_is_none_names_file_and_field(tmp_path):
    file = tmp_path / "budget.json"
    for content, message in {
        "{": "budget.json",
        '{"frames": 1}': "frames is unknown",
        '{"skim_frames": 0}': "skim_frames",
    }.items():
        file.write_text(content)
        with pytest.raises(ValueError, match=message):
            read_budget(file)
    assert card_warning(tmp_path) == ""


def test_control_characters_do_not_reach_the_terminal(serve, video, capsys):
    serve(text("\x1b[2J<answer>\x1b]0;x\x07forceps \ud800</answer>"))
    assert ask.main([video, "Which tool?", "--model", "endpoint"]) == 0
    out, error = capsys.readouterr()
    assert "\x1b" not in out + error and r"\x1b]0;x\x07forceps" in out
    assert printable("a\x1bb\nü") == "a\\x1bb\nü"
