"""The parts of the reading room: corrections that the sources read, uploads, and what a reading shows and plays."""

import re
from dataclasses import replace
from multiprocessing import get_context

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from media import write_mp4
from predicted import task

from medscope.environment import FrameStore, ToolBudget
from medscope.records import Task, Text, Timestamp, ToolCall, Window
from medscope.reporting.reading_room.corrections import LOCK, correction, save_correction
from medscope.reporting.reading_room.reading import YOURS, Reading
from medscope.reporting.reading_room.videos import Choice, choices_of, keep_upload, own_choice
from medscope.session import open_session
from medscope.sources.annotations.check import check
from medscope.sources.annotations.formats import read_annotations
from medscope.sources.annotations.review import corrected
from medscope.sources.folder import find_videos
from medscope.sources.manifest import make_manifest

FORMATS = {"csv": "corrections.csv", "jsonl": "corrections.jsonl", "webvtt": "webvtt"}
SCRIPT = "<script>alert('1')</script>"


def stretches(folder, kind):
    """What a source reads of the saved files: nothing may be quarantined."""
    stated, bad = read_annotations(folder / FORMATS[kind], kind)
    assert not bad
    return [(s.annotation.start, s.annotation.end, s.annotation.label) for s in stated]


@pytest.fixture
def video(tmp_path):
    """12 s, a frame a second, a key frame every eight."""
    (tmp_path / "cases").mkdir()
    return str(write_mp4(tmp_path / "cases" / "film.mp4", np.arange(12.0)))


@pytest.mark.parametrize("kind", FORMATS)
def test_a_saved_window_becomes_an_interval_of_its_video(tmp_path, video, kind):
    """From the room through the readers and their checks to the interval of the video that was watched."""
    choice = own_choice(video)
    save_correction(tmp_path / "kept", correction(choice.name, 2.5, 6.1234, "the hook, seen"))
    stated, _ = read_annotations(tmp_path / "kept", kind)
    videos, _ = make_manifest(find_videos(tmp_path / "cases"), tmp_path / "manifest")
    checked = check(stated, videos)
    assert not checked.impossible and not checked.unknown
    (interval,) = checked.intervals["film"]
    assert interval.window == Window(2.5, 6.123) and interval.label == "the hook, seen" and not interval.attributes


def test_a_corrected_task_of_the_suite_is_found_again_by_its_id(tmp_path):
    asked = task(1, Window(2, 4), video="a")
    save_correction(tmp_path, correction("a", 3, 5.5, asked.question, asked.id))
    stated, _ = read_annotations(tmp_path, "webvtt")
    kept, _ = corrected([asked], [item.annotation for item in stated], {})
    assert kept == [replace(asked, evidence=Window(3, 5.5), reference=Window(3, 5.5))]


def test_saving_again_moves_the_window_and_leaves_the_others(tmp_path):
    first = correction("a.mp4", 1, 2, "cut")
    save_correction(tmp_path, first)
    save_correction(tmp_path, correction("a.mp4", 1, 2, "burn"))
    save_correction(tmp_path, correction("b.mp4", 1, 2, "cut"))
    save_correction(tmp_path, correction("a.mp4", 1, 3, "cut"), before=first)
    for kind in ("csv", "jsonl"):
        assert stretches(tmp_path, kind) == [(1, 2, "burn"), (1, 2, "cut"), (1, 3, "cut")]
    stated, _ = read_annotations(tmp_path, "webvtt")
    assert [(s.annotation.video, s.annotation.end, s.annotation.label) for s in stated] == [
        ("a", 2, "burn"), ("a", 3, "cut"), ("b", 2, "cut")]  # fmt: skip


def save_some(folder, begin, seconds):
    begin.wait()
    for second in seconds:
        save_correction(folder, correction("film.mp4", second, second + 0.5, f"seen at {second}"))


def test_two_processes_that_save_at_once_lose_nothing(tmp_path):
    forked = get_context("fork")  # two kernels in small: the modules are imported already
    begin, seconds = forked.Barrier(2), [range(0, 20), range(20, 40)]
    kernels = [forked.Process(target=save_some, args=(tmp_path, begin, some)) for some in seconds]
    for kernel in kernels:
        kernel.start()
    for kernel in kernels:
        kernel.join(100)
    assert [kernel.exitcode for kernel in kernels] == [0, 0]
    for kind in FORMATS:
        assert sorted(start for start, _, _ in stretches(tmp_path, kind)) == list(range(40))


def test_columns_that_a_reader_has_added_stay(tmp_path):
    (tmp_path / "corrections.csv").write_text("label;video;start;end;surgeon\ncut;a.mp4;0:01;2,5;B\n")
    save_correction(tmp_path, correction("a.mp4", 3, 4, "burn"))
    lines = (tmp_path / "corrections.csv").read_text().splitlines()
    assert lines == ["video,start,end,label,surgeon", "a.mp4,1.0,2.5,cut,B", "a.mp4,3,4,burn,"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("corrections.csv", "a,b\n1,2\n"),
        ("corrections.csv", "video,start,end,label\na,one,2,cut\n"),
        ("corrections.jsonl", "{\n"),
        ("webvtt/a.vtt", "hello"),
    ],
)
def test_a_file_that_cannot_be_read_is_named_and_nothing_is_written_over_it(tmp_path, name, text):
    (tmp_path / "webvtt").mkdir()
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=re.escape(name)):
        save_correction(tmp_path, correction("a.mp4", 1, 2, "cut"))
    assert [str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file() and p.name != LOCK] == [name]
    assert (tmp_path / name).read_text() == text


@pytest.mark.parametrize(("start", "end", "label"), [(2, 2, "x"), (3, 2, "x"), (-1, 2, "x"), (1, 2, " \n")])
def test_what_is_no_correction_is_refused(start, end, label):
    with pytest.raises(ValueError, match=r"window|label"):
        correction("a", start, end, label)


@given(st.text(st.characters(codec="utf-8"), min_size=1), st.text(st.characters(codec="utf-8"), min_size=1))
@example(SCRIPT, "../../../etc/passwd")
@example("00:01 --> 00:02\n\nNOTE x", "a\\..\\b.mp4")
@example('=1+1;"a",b', "C:/x.mp4")
@example("&lt;b&gt; <b>", "..")
def test_any_label_and_name_come_back_and_stay_in_the_folder(tmp_path_factory, label, video):
    folder = tmp_path_factory.mktemp("kept")
    try:
        made = correction(video, 1, 2, label)
        files = save_correction(folder, made)
    except (ValueError, OSError) as error:  # a name that no file can have, a label without a visible character
        assert str(error) and not [file for file in folder.rglob("*") if file.suffix in (".csv", ".jsonl", ".vtt")]
        return
    assert all(file.resolve().is_relative_to(folder.resolve()) for file in files)
    for kind in FORMATS:
        assert stretches(folder, kind) == [(1, 2, made.label)]


@pytest.mark.parametrize("label", [SCRIPT, "a --> b", '=1+1;"a",b', "&lt;b&gt; <b>", "-", "名前 é", "a\n\nb"])
def test_common_and_hostile_labels_are_saved(tmp_path, label):
    made = correction("a.mp4", 1, 2, label)
    save_correction(tmp_path, made)
    assert [stretches(tmp_path, kind) for kind in FORMATS] == [[(1, 2, " ".join(label.split()))]] * 3


def test_videos_of_a_folder_are_offered_and_their_names_hold_the_folder(tmp_path, video):
    (tmp_path / "cases" / "notes.txt").write_text("x")
    (choice,) = choices_of(tmp_path / "cases")
    assert choice.path == video and choice.name == "cases/film.mp4" and choice == own_choice(f" {video} ")
    assert choices_of(tmp_path / "none") == []


@pytest.mark.parametrize("name", ["../../evil.mp4", "C:\\x\\evil.MP4", "evil.mp4"])
def test_an_upload_stays_in_its_folder_and_keeps_its_name(tmp_path, name):
    choice = keep_upload(name, b"film", tmp_path / "uploads")
    assert choice.name.lower() == "evil.mp4" and choice.path.startswith(str(tmp_path / "uploads"))
    assert [p.read_bytes() for p in tmp_path.rglob("*.mp4")] == [b"film"]


def test_an_upload_that_is_no_video_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no kind of video"):
        keep_upload("page.html", b"<script>", tmp_path)
    assert not list(tmp_path.iterdir())


def reading(video, folder, *turns, calls=(), tasks=None, error=None, question="Which?"):
    """A reading of a session that went as told."""
    store = FrameStore("pyav")
    session = open_session(video, question, store, ToolBudget(skim_frames=4))
    session.turns += turns
    session.environment.trace.calls.extend(calls)
    return Reading("m", session, Choice("film", video, "film.mp4", tasks or {}), store, folder, error)


CROP = ToolCall("crop_video", {}, Window(3, 6), (3.0, 5.0))
GIVEN = "<think>Seen.</think><answer>from 2 to 5 s</answer>"


def test_the_sliders_begin_at_the_answers_window_and_show_the_frames_there(tmp_path, video):
    shown = reading(video, tmp_path, "<think>look</think>", GIVEN, calls=[CROP])
    assert (shown.start.value, shown.end.value, shown.end.max) == (2, 5, 12)
    assert shown.play.options == ("answer", "1 crop_video", YOURS)
    before = shown.edges.value
    assert ">2 s<" in before and ">5 s<" in before and before.count("data:image/jpeg") == 2
    shown.start.value = 4.0
    assert shown.edges.value != before and ">4 s<" in shown.edges.value
    assert re.search(r'class="marked" x="333.3" width="83.3"', shown.line.value)  # 4 to 5 of 12 s


def test_sliders_never_cross(tmp_path, video):
    shown = reading(video, tmp_path, GIVEN)
    shown.start.value = 9.0
    assert (shown.start.value, shown.end.value) == (9, 9)
    shown.end.value = 1.0
    assert (shown.start.value, shown.end.value) == (1, 1)


def test_the_player_plays_what_is_chosen(tmp_path, video):
    """From the key frame before (every eighth), and the player begins at the window."""
    shown = reading(video, tmp_path, GIVEN, calls=[ToolCall("get_frame", {}, Timestamp(9), (9.0,))])
    assert "#t=2.00" in shown.player.value and "<video controls" in shown.player.value
    shown.play.value = "1 get_frame"
    assert "8 to 10 s" in shown.player.value and "#t=0.00" in shown.player.value
    shown.play.value = YOURS
    shown.end.value = 4.5
    assert "2 to 4.5 s" in shown.player.value


def test_a_click_saves_and_a_second_one_moves_what_was_saved(tmp_path, video):
    shown = reading(video, tmp_path / "kept", GIVEN)
    shown.save.click()
    shown.start.value, shown.label.value = 3.5, "the cut"
    shown.save.click()
    assert stretches(tmp_path / "kept", "csv") == stretches(tmp_path / "kept", "webvtt") == [(3.5, 5, "the cut")]
    assert "saved 3.5 to 5 s" in shown.note.value
    shown.end.value = 3.5
    shown.save.click()
    assert "end must lie behind its start" in shown.note.value and len(stretches(tmp_path / "kept", "csv")) == 1


def test_a_task_of_the_suite_shows_its_evidence_and_saves_its_id(tmp_path, video):
    asked = Task("set:7", "film", video, "Which?", Text(SCRIPT), Window(8, 10), "detail", "eval", "set")
    shown = reading(video, tmp_path / "kept", "<answer>none</answer>", tasks={"Which?": asked})
    assert (shown.start.value, shown.end.value) == (8, 10) and "evidence" in shown.line.value
    shown.save.click()
    assert read_annotations(tmp_path / "kept", "webvtt")[0][0].annotation.id == "set:7"
    assert SCRIPT not in shown.children[0].value and "&lt;script&gt;" in shown.children[0].value


def test_text_of_models_and_errors_is_escaped(tmp_path, video):
    turns = (f"<think>{SCRIPT}</think>", f"<answer>{SCRIPT}</answer>")
    calls = [ToolCall(f"crop{SCRIPT}", {}, message=f"refused {SCRIPT}")]
    shown = reading(video, tmp_path, *turns, calls=calls, error=ValueError(SCRIPT), question=f"{SCRIPT}?")
    texts = "".join(child.value for child in shown.children if hasattr(child, "value") and isinstance(child.value, str))
    assert "<script" not in texts and texts.count("&lt;script&gt;") >= 5


def test_what_was_done_before_a_failure_is_shown(tmp_path, video):
    shown = reading(video, tmp_path, "<think>look</think>", calls=[CROP], error=ConnectionError("the line was cut"))
    assert "There is no answer." in shown.children[0].value and "the line was cut" in shown.children[0].value
    assert (shown.start.value, shown.end.value) == (3, 6) and "look" in shown.children[-1].value


def test_a_session_without_any_look_offers_the_whole_video(tmp_path, video):
    shown = reading(video, tmp_path)
    assert (shown.start.value, shown.end.value) == (0, 12) and shown.play.options == ("whole video", YOURS)


def test_a_window_past_the_end_is_cut_to_the_video(tmp_path, video):
    shown = reading(video, tmp_path, "<answer>from 10 to 99 s</answer>")
    assert (shown.start.value, shown.end.value) == (10, 12)
