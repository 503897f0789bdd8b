"""Pictures of suites and predictions: what is drawn, and that text from data is drawn as it is."""

from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pytest
from media import write_mp4
from PIL import Image

from medscope.environment import FrameStore, ToolBudget
from medscope.evaluation.predictions import Prediction
from medscope.files import write_jsonl
from medscope.records import Interval, Recording, Task, Text, ToolCall, Window
from medscope.reporting import charts, pictures
from medscope.reporting.share import METRICS, share_example, share_picture
from medscope.suite.suite import Suite

BUDGET = ToolBudget(skim_frames=4)
DOLLARS = "is it $1_{ or $2?"  # as mathematics this cannot be parsed: drawing it raises ValueError


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    path = write_mp4(tmp_path_factory.mktemp("video") / "v.mp4", np.arange(12.0))
    intervals = (Interval(Window(0, 6), "$a$"), Interval(Window(6, 12), "b"))
    return Recording(video="v", path=str(path), duration=12, intervals=intervals, collection="c", split="eval")


@pytest.fixture
def prediction(recording):
    task = Task(
        id="v:1", video="v", path=recording.path, question=DOLLARS, reference=Text("$5"), evidence=Window(2, 4),
        kind="price", split="eval", collection="c",
    )  # fmt: skip
    looks = (
        ToolCall("crop_video", {"start_time": 1, "end_time": 5}, Window(1, 5), (1.0, 2.0, 3.0)),
        ToolCall("crop_video", {"start_time": 7, "end_time": 6}, message="end_time 6 is before start_time 7"),
        ToolCall("crop_video", {"start_time": 2, "end_time": 4}, Window(2, 4), (2.0, 3.0)),
    )
    return Prediction(task, "rl", ("<think>$1_{a}$</think>", "<answer>$5</answer>"), looks, accuracy=1.0)


def texts(figure):
    return [text for text in figure.findobj(plt.Text) if text.get_text()]


def test_a_filmstrip_has_a_row_per_executed_call_and_draws_dollars_as_dollars(prediction, recording):
    figure = pictures.filmstrip_figure(prediction, recording, FrameStore(), BUDGET)
    written = [text.get_text() for text in texts(figure)]
    assert f"{DOLLARS}\nreference: $5 · right" in written
    assert "<think>$1_{a}$</think>\n<answer>$5</answer>" in written
    assert [label for label in written if "crop_video" in label] == ["1 crop_video", "2 crop_video"]
    assert [label for label in written if label.endswith(" s")] == [
        *("0 s", "3 s", "6 s", "9 s"), *("1 s", "2 s", "3 s"), *("2 s", "3 s")]  # fmt: skip
    assert not any(text.get_parse_math() for text in texts(figure))
    figure.canvas.draw()
    plt.close(figure)


def test_the_time_line_shows_the_evidence_above_and_the_last_crop_below(recording):
    _, axis = plt.subplots()
    pictures.time_line(axis, recording, Window(2, 4), Window(1, 5))
    bars = {
        (bar.get_x(), bar.get_width(), np.sign(round(bar.get_y() + bar.get_height() / 2, 2))) for bar in axis.patches
    }
    assert bars == {(0, 6, 0), (6, 6, 0), (2, 2, 1), (1, 4, -1)}
    plt.close()


def test_examples_are_right_answers_in_words_after_a_look_at_the_evidence_each_of_another_video(prediction):
    def of(number, video, **changes):
        task = replace(prediction.task, id=f"{video}:{number}", video=video, **changes.pop("task", {}))
        return replace(prediction, task=task, **changes)

    elsewhere = (ToolCall("crop_video", {}, Window(8, 12), (9.0,)),)
    some = [
        of(1, "a", calls=elsewhere), of(2, "b", task={"reference": Window(2, 4)}), of(3, "c"), of(4, "c"), of(5, "d"),
        of(6, "e"), of(7, "f", accuracy=0.0, calls=()), of(8, "g", accuracy=0.5),
    ]  # fmt: skip
    found = pictures.filmstrip_examples({"set": some}, each=2)
    assert {name: p.task.id for name, p in found.items()} == {
        "set_success_0": "c:3", "set_success_1": "d:5", "set_failure_0": "f:7"}  # fmt: skip


def test_a_curve_that_was_never_logged_leaves_its_plot_empty_and_smoothing_is_a_running_mean(tmp_path, monkeypatch):
    drawn = {}
    monkeypatch.setattr(plt, "show", lambda: drawn.update({axis.get_title(): axis.lines for axis in plt.gcf().axes}))
    history = [{"step": step, "loss": float(step % 2)} for step in range(1, 5)]
    pictures.curves(history, ["loss", "reward"], tmp_path / "curves.png", smooth=2)
    assert [list(line.get_ydata()) for line in drawn["loss"]] == [[1, 0, 1, 0], [0.5, 0.5, 0.5]]
    assert not drawn["reward"] and Image.open(tmp_path / "curves.png").width > 100


@pytest.mark.parametrize("systems", [2, 5])
def test_the_legend_stands_above_the_bars_and_a_metric_that_is_not_asked_has_none(tmp_path, monkeypatch, systems):
    scores = {m: 0.5 for m in charts.SHOWN} | {f"{m}_ci": [0.4, 0.7] for m in charts.SHOWN}
    unasked = {**scores, "tg_r70": None, "tg_r70_ci": None}
    table = {f"system {n}": {"long": scores, "short": unasked} for n in range(systems)}
    checked = []

    def check():
        figure = plt.gcf()
        figure.canvas.draw()
        (legend,) = figure.legends
        checked.append(all(legend.get_window_extent().y0 >= axis.get_window_extent().y1 for axis in figure.axes))
        heights = [bar.get_height() for bar in figure.axes[charts.SHOWN.index("tg_r70")].patches]
        checked.append(sorted(heights) == [0.0] * systems + [0.5] * systems)

    monkeypatch.setattr(plt, "show", check)
    charts.system_bars(table, tmp_path / "bars.png")
    assert checked == [True, True]


def test_the_picture_to_share_shows_scores_and_one_right_answer_with_its_looks(
    prediction, recording, tmp_path, monkeypatch
):
    write_jsonl(tmp_path / "recordings.jsonl", [recording])
    scores = dict.fromkeys(METRICS, 0.5) | {f"{name}_ci": [0.25, 0.75] for name in METRICS}
    table = {"blind": {"long": {**scores, "accuracy": None, "accuracy_ci": None}}, "rl": {"long": scores}}
    written, suite = [], Suite(tmp_path)
    monkeypatch.setattr(plt, "show", lambda: written.append([text.get_text() for text in texts(plt.gcf())]))
    for found in (prediction, None):
        share_picture(table, "long", found, suite, FrameStore(), BUDGET, "Drawn videos.", tmp_path / "share.png")
        assert Image.open(tmp_path / "share.png").size == (1200, 630)
    answered, alone = written
    assert {DOLLARS, "answer: $5 (reference: $5)", "skim", "look 1", "look 2", "Drawn videos."} <= set(answered)
    assert "skim" not in alone and {"blind", "rl", "0.50"} <= set(alone)


def test_the_answer_to_share_is_right_after_a_look_at_the_evidence_with_most_looks(prediction):
    one, wrong = replace(prediction, calls=prediction.calls[2:]), replace(prediction, accuracy=0.0)
    blind = replace(prediction, calls=())
    assert share_example([wrong, one, prediction, blind]) is prediction and share_example([wrong, blind]) is None


def test_charts_of_one_eval_set_take_the_first_of_the_table_unless_told(tmp_path, monkeypatch):
    scores = dict.fromkeys(charts.RADAR.values(), 0.5)
    titles = []
    monkeypatch.setattr(plt, "show", lambda: titles.append(plt.gca().get_title()))
    table = {"rl": {"long": scores, "short": scores}}
    charts.radar(table, tmp_path / "radar.png")
    charts.radar(table, tmp_path / "radar.png", "short")
    assert titles == ["long", "short"]
