"""The pictures in README.md show the page as it is now. To take them anew: tests/run --pictures tests/docs/test_pictures.py"""

import os
import re

import pytest

from tool.testing import ROOT

if not os.environ.get("CHROMIUM"):
    pytest.skip("left out: no Chromium or Chrome is installed", allow_module_level=True)

from test_page import Page, address, browser  # noqa: E402, F401  the last two are fixtures

PICTURES = ROOT / "tests" / "docs" / "pictures"


def test_the_pictures_show_the_page_as_it_is(project, browser, address, pytestconfig):  # noqa: F811
    page = Page(browser, address, viewport={"width": 1280, "height": 900})
    try:
        page.sign_up("ada-p")
        page.log_in("ada-p")
        compare(page, "before", pytestconfig)
        page.search()
        compare(page, "refused", pytestconfig)
    finally:
        page.context.close()


def compare(page, name, pytestconfig):
    """What the page says, and what it said when the picture was taken."""
    said = re.sub(r"\d+ ms", "N ms", page.text())
    said = re.sub(r"http://127.0.0.1:\d+", "http://127.0.0.1:PORT", said)
    said = re.sub(r"Since\n.*", "Since\nTIME", said)
    if pytestconfig.getoption("--pictures", False):
        page.tab.screenshot(path=PICTURES / f"{name}.png", full_page=True)
        (PICTURES / f"{name}.txt").write_text(said)
    assert said == (PICTURES / f"{name}.txt").read_text(), "to take them anew: tests/run --pictures tests/docs/test_pictures.py"


