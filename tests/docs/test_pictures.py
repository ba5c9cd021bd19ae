"""The pictures in README.md and docs/tutorial.md show the pages as they are now. To take them again: tests/run --pictures tests/docs/test_pictures.py"""

import os
import re

import pytest

from names import LOGIN
from tool.testing import ROOT, succeeded

if not os.environ.get("CHROMIUM"):
    pytest.skip("left out: no Chromium or Chrome is installed", allow_module_level=True)

from test_page import Page, address, browser  # noqa: E402, F401  the last two are fixtures

PICTURES = ROOT / "tests" / "docs" / "pictures"


def test_the_pictures_show_the_page_as_it_is(project, browser, address, pytestconfig):  # noqa: F811
    page = Page(browser, address, viewport={"width": 1280, "height": 900})
    try:
        page.sign_up("ada-p")
        page.log_in("ada-p")
        compare(page.tab, page.text(), "before", pytestconfig)
        page.search()
        compare(page.tab, page.text(), "refused", pytestconfig)
    finally:
        page.context.close()


def test_the_picture_of_the_console_shows_it_as_it_is(clone, browser, pytestconfig):  # noqa: F811
    succeeded(clone.deploy_sh())
    clone.enter()
    account = {"username": "ada", "password": "a pass phrase"}
    clone.request("POST", LOGIN, "/signup", json={**account, "display_name": "Ada"})
    clone.request("POST", LOGIN, json=account)
    clone.request("GET", LOGIN, "/search")
    tab = browser.new_page(viewport={"width": 1280, "height": 700})
    try:
        tab.goto(clone.env["CONSOLE_URL"])
        tab.locator(".call", has_text="login → search").click()
        for said in ("Refused: ", "search: The request was not authenticated"):
            tab.get_by_text(said).wait_for()
        tab.locator("#map-text", has_text="login → search").wait_for()
        said = re.sub(r"\d\d:\d\d:\d\d(\.\d+)?", "TIME", tab.locator("body").inner_text())
        compare(tab, said, "console", pytestconfig)
    finally:
        tab.close()


def compare(tab, said, name, pytestconfig):
    """Compares the text of the page with its text when the picture was taken."""
    said = re.sub(r"\d+ ms", "N ms", said)
    said = re.sub(r"http://127.0.0.1:\d+", "http://127.0.0.1:PORT", said)
    said = re.sub(r"Since\n.*", "Since\nTIME", said)
    if pytestconfig.getoption("--pictures", False):
        tab.screenshot(path=PICTURES / f"{name}.png", full_page=True)
        (PICTURES / f"{name}.txt").write_text(said)
    assert said == (PICTURES / f"{name}.txt").read_text(), "to take them again: tests/run --pictures tests/docs/test_pictures.py"


