"""explore.ipynb in JupyterLab, in a real browser, in a copy of the project that no pipeline has run in."""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from urllib.request import urlopen

import pytest
from browser import MINUTES, keep, until
from chat_server import ChatServer, call, text

from medscope.pipeline.parameters import ROOT
from medscope.sources.annotations.formats import read_annotations

pytestmark = pytest.mark.slow
HOSTILE = "When? <img src=x onerror='window.hacked=1'>"
THINKS = "It shows <b>there</b>."


@pytest.fixture
def project(tmp_path):
    """A fresh clone as far as explore needs it: the package, its notebook, and what lies in models/."""
    for folder in ("medscope", "models"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "notebooks").mkdir()
    shutil.copy(ROOT / "notebooks" / "explore.ipynb", tmp_path / "notebooks")
    return tmp_path


@pytest.fixture
def lab(project):
    """The address of a JupyterLab in the project."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folders = {f"JUPYTER_{kind}_DIR": str(project / ".jupyter" / kind) for kind in ("CONFIG", "DATA", "RUNTIME")}
    command = [
        sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", f"--ServerApp.port={port}",
        "--ServerApp.port_retries=0", "--IdentityProvider.token=t", "--LabApp.expose_app_in_browser=True",
        "--LabApp.news_url=", "--ServerApp.ip=127.0.0.1",
    ]  # fmt: skip
    environment = {**os.environ, **folders, "PYTHONPATH": str(project)}
    with (project / "lab.log").open("w") as log:
        process = subprocess.Popen(command, cwd=project, env=environment, stdout=log, stderr=log)
    try:
        began = time.monotonic()
        while not answers(f"http://127.0.0.1:{port}/api/status?token=t"):
            assert process.poll() is None and time.monotonic() - began < MINUTES * 60, (project / "lab.log").read_text()
            time.sleep(0.5)
        yield f"http://127.0.0.1:{port}/lab/tree/notebooks/explore.ipynb?token=t&reset"
    finally:
        process.terminate()
        process.wait(30)


def answers(address):
    try:
        return urlopen(address, timeout=5).status == 200
    except OSError:
        return False


@pytest.fixture
def server():
    """A model that looks once and answers."""
    served = ChatServer(
        call("crop_video", {"start_time": 2, "end_time": 6}, THINKS), text(f"{THINKS}<answer>from 3 to 5 s</answer>")
    )
    yield served
    served.close()


def test_a_reader_asks_two_models_watches_and_corrects_a_window(page, lab, project, server):
    page.goto(lab)
    until(page, "window.jupyterapp?.shell?.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'")
    page.evaluate("void window.jupyterapp.commands.execute('notebook:run-all-cells')")
    ask = page.locator("button.jupyter-button", has_text=re.compile(r"^\s*ask\s*$"))
    ask.wait_for()
    keep(page, "1_room", project / "shots")

    page.get_by_placeholder("type a question").fill(HOSTILE)
    page.get_by_placeholder("a folder, http").nth(1).fill(server.url)
    page.get_by_placeholder("an endpoint's model").nth(1).fill("scripted")
    ask.click()
    until(page, "document.querySelectorAll('.medscope .answer').length === 2")
    answers_ = page.locator(".medscope .answer").all_inner_texts()
    assert answers_[0] not in ("", "There is no answer.") and answers_[1] == "from 3 to 5 s"
    page.locator("h3", has_text="<img src=x").wait_for()  # the question as text
    assert page.evaluate("window.hacked === undefined") and THINKS in page.locator(".thought").last.inner_text()
    page.locator("hr").scroll_into_view_if_needed()
    keep(page, "2_answers", project / "shots")

    film = page.locator(".medscope video").last
    film.evaluate("film => film.readyState || new Promise(done => film.addEventListener('loadedmetadata', done))")
    began = film.evaluate("film => film.currentTime")
    film.evaluate("film => { film.muted = true; return film.play() }")
    until(page, "t => [...document.querySelectorAll('.medscope video')].pop().currentTime > t", arg=began)

    start = page.locator("img[alt='start of the window']").last
    before, lines = start.get_attribute("src"), page.locator(".medscope .marked").count()
    page.locator(".widget-readout").nth(-2).fill("4.25")
    page.keyboard.press("Enter")
    until(
        page, "old => [...document.querySelectorAll(\"img[alt='start of the window']\")].pop().src !== old", arg=before
    )
    page.locator(".noUi-handle").last.focus()
    page.keyboard.press("ArrowRight")
    until(page, "[...document.querySelectorAll('.widget-readout')].pop().textContent.startsWith('5.1')")
    assert page.locator(".medscope .marked").count() == lines == 2
    page.locator("button.jupyter-button", has_text="save").last.click()
    page.get_by_text("saved 4.25 to 5.1 s").wait_for()
    page.get_by_text("saved 4.25 to 5.1 s").scroll_into_view_if_needed()
    keep(page, "3_corrected", project / "shots")
    stated, bad = read_annotations(project / "runs" / "outputs" / "explore" / "corrections", "csv")
    assert not bad and [(s.annotation.video, s.annotation.start, s.annotation.end) for s in stated] == [
        ("models/example.mp4", 4.25, 5.1)]  # fmt: skip
