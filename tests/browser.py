"""A real browser for tests: Chromium (Debian: `apt install chromium`), driven by playwright. Skips where there is none.

MEDSCOPE_SCREENSHOTS names a folder that keeps the pictures.
"""

import os
import shutil
from pathlib import Path

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update",
]  # fmt: skip
MINUTES = 10  # for everything that is waited for, on a machine that has much else to do


@pytest.fixture
def page():
    """An empty page of 1500 x 1300 pixels."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("there is no Chromium on this machine")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS, timeout=MINUTES * 60_000)
        opened = browser.new_page(viewport={"width": 1500, "height": 1300})
        opened.set_default_timeout(MINUTES * 60_000)
        yield opened
        browser.close()


def keep(page, name, folder):
    """A screenshot, which is no empty picture."""
    folder = Path(os.environ.get("MEDSCOPE_SCREENSHOTS") or folder)
    folder.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=folder / f"{name}.png")
    assert (folder / f"{name}.png").stat().st_size > 20_000


def until(page, condition, arg=None):
    """Wait until a condition of the page holds; asked twice a second, since a busy machine draws no frames."""
    page.wait_for_function(condition, arg=arg, polling=500)
