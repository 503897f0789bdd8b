"""The report and the page of an ask in a real browser: what fits, what is readable, what plays, and what is loaded."""

import re

import parts
import pytest
from browser import keep, until
from chat_server import ChatServer, call, text
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output

from medscope import ask
from medscope.pipeline.parameters import ROOT
from medscope.reporting import charts, pictures
from medscope.reporting.page import export

pytestmark = pytest.mark.slow
METRICS = [
    "tg_r30", "tg_r50", "tg_r70", "tg_miou", "vqa_miou", "vqa_acc", "evidence_miou", "evidence_recall",
    "evidence_precision", "accuracy", "format", "calls", "two_looks", "calls_over_minimum", "recovery", "revision",
]  # fmt: skip
PAPER = 1032  # px: A4 across without its margins
OUTSIDE = """right => [...document.querySelectorAll('main *')].filter(
  one => one.getBoundingClientRect().right > right + 1 || one.scrollWidth > one.clientWidth + 1 && one.clientWidth
    && getComputedStyle(one).overflowX !== 'visible').map(one => one.outerHTML.slice(0, 80))"""
COLOUR = "name => getComputedStyle(document.querySelector(name)).backgroundColor"


@pytest.fixture
def report(tmp_path):
    """A report with the widest table of notebook 07, its bars, and two sections."""
    import nbformat

    InteractiveShell.instance()
    scores = {name: 0.875 for name in METRICS} | {f"{name}_ci": [0.75, 1.0] for name in METRICS}
    table = {system: {"long": scores} for system in ("blind", "no_tools", "sft", "rl", "oracle")}
    cells = [
        parts.new_markdown_cell("# A report\n\nWhat it is."),
        parts.new_markdown_cell("## First: tables"),
        parts.new_code_cell("t()"),
    ]
    with capture_output() as shown:
        pictures.table({system: pictures.short(sets["long"]) for system, sets in table.items()}, "long")
        charts.system_bars(table, tmp_path / "bars.png")
        pictures.show_saved(tmp_path / "bars.png")
    cells[-1].outputs = [parts.new_output("display_data", dict(output.data)) for output in shown.outputs]
    cells.append(parts.new_markdown_cell("## Second\n\n" + "words " * 3000))
    nbformat.write(parts.new_notebook(cells=cells), tmp_path / "report.ipynb")
    return export(tmp_path / "report.ipynb", finished=True)


def test_a_report_fits_on_screens_and_paper_light_and_dark_and_loads_nothing(page, report, tmp_path):
    loaded, complaints = [], []
    page.on("request", lambda request: loaded.append(request.url))
    page.on("console", lambda message: complaints.append(message.text))
    page.goto(report.as_uri())
    assert page.locator("table").count() == 2 and page.locator("img").count() == 1
    for width in (1200, 800, 600):
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate(OUTSIDE, width) == [] and page.evaluate("document.documentElement.scrollWidth") == width
    assert page.evaluate(COLOUR, "main") == "rgb(255, 255, 255)"
    page.emulate_media(color_scheme="dark")
    assert page.evaluate(COLOUR, "main") == "rgb(23, 25, 28)" and page.evaluate(COLOUR, "img") == "rgb(255, 255, 255)"
    keep(page, "report_dark", tmp_path)
    page.locator("nav a", has_text="Second").click()
    until(page, "document.querySelectorAll('h2')[1].getBoundingClientRect().top < 50")
    page.emulate_media(media="print", color_scheme="dark")  # paper is light
    page.set_viewport_size({"width": PAPER, "height": 700})
    assert page.evaluate(OUTSIDE, PAPER) == [] and page.evaluate(COLOUR, "nav") == "rgb(241, 241, 241)"
    assert len(re.findall(rb"/Type\s*/Page\b", page.pdf(prefer_css_page_size=True))) >= 2
    assert not complaints and all(url.startswith(("file:", "data:")) for url in loaded)


def test_the_page_of_an_ask_plays_its_film_from_the_evidence(page, tmp_path):
    server = ChatServer(
        call("crop_video", {"start_time": 40, "end_time": 50}, "It must be <b>there</b>."),
        text("<think>Seen.</think><answer>from 42 to 48 s</answer>"),
    )
    video = str(ROOT / "models" / "example.mp4")
    try:
        words = [video, "When?", "--model", server.url, "--model-name", "m", "--out", str(tmp_path)]
        assert ask.main(words) == 0
    finally:
        server.close()
    loaded, complaints = [], []
    page.on("request", lambda request: loaded.append(request.url))
    page.on("console", lambda message: complaints.append(message.text))
    page.goto((tmp_path / "ask.html").as_uri())
    assert page.locator(".answer").inner_text() == "from 42 to 48 s"
    film = page.locator("video")
    until(page, "document.querySelector('video').readyState >= 2")
    began = film.evaluate("film => film.currentTime")
    film.evaluate("film => { film.muted = true; return film.play() }")
    until(page, "began => document.querySelector('video').currentTime > began + 0.2", arg=began)
    assert film.evaluate("film => film.videoWidth") > 0
    assert began > 0 or page.get_by_text("the film begins at 40 s").count() == 1
    for width in (1200, 700):
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth") == width
    keep(page, "ask", tmp_path)
    assert not complaints and all(url.startswith(("file:", "data:", "about:")) for url in loaded)
