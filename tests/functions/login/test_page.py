"""The demo page in a real browser, as a person uses it: through the proxy, to the refused search."""

import os
import re
import subprocess

import pytest

from names import LOGIN, SEARCH, USER_PROFILES
from tool.testing import FUNCTIONS, free_port
from visitor import Visitor

if not os.environ.get("CHROMIUM"):  # tests/run sets it, and then also installs what drives the browser
    pytest.skip("left out: no Chromium or Chrome is installed", allow_module_level=True)

from axe_playwright_python.sync_playwright import Axe  # noqa: E402
from playwright.sync_api import expect, sync_playwright  # noqa: E402

QUIET = (
    "--disable-gpu --disable-quic --no-first-run --disable-background-networking"
    " --disable-component-update --disable-sync"
).split()


@pytest.fixture(scope="module")
def address(project):
    """Where login is open to a browser: the proxy runs as a person would run it."""
    port = free_port()
    process = subprocess.Popen(
        ["gcloud", "run", "services", "proxy", LOGIN]
        + [f"--region={project.env['REGION']}", f"--port={port}"],
        env=project.env,
        text=True,
        stderr=subprocess.PIPE,
    )
    try:
        said = [process.stderr.readline(), process.stderr.readline()]
        assert said[1] == f"http://127.0.0.1:{port} proxies to {project.url(LOGIN)}\n"
        yield f"http://localhost:{port}"
    finally:
        process.terminate()
        process.wait(30)
        process.stderr.close()


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=os.environ["CHROMIUM"], args=QUIET)
        yield browser
        browser.close()


class Page:
    """What a person sees and does."""

    def __init__(self, browser, address, **context):
        self.context = browser.new_context(**context)
        self.tab = self.context.new_page()
        self.errors, self.requests = [], []
        self.tab.on("console", lambda message: self.errors.append(message.text))
        self.tab.on("pageerror", lambda error: self.errors.append(str(error)))
        self.tab.on("request", lambda request: self.requests.append(request.url))
        self.tab.goto(address)

    def sign_up(self, username, display_name="Ada Lovelace", password="a pass phrase"):
        self.step("1. Sign up")
        self.tab.get_by_label("New username").fill(username)
        self.tab.get_by_label("Display name").fill(display_name)
        self.tab.get_by_label("New password").fill(password)
        self.press("Sign up")

    def log_in(self, username, password="a pass phrase"):
        self.step("2. Log in")
        self.tab.get_by_label("Username", exact=True).fill(username)
        self.tab.get_by_label("Password", exact=True).fill(password)
        self.press("Log in")

    def step(self, name):
        """Chooses the form beside the map."""
        self.tab.get_by_role("button", name=name).click()

    def search(self):
        self.step("3. Search")
        self.press("Search")

    def press(self, button):
        """Presses a button, and waits until it can be pressed again."""
        button = self.tab.get_by_role("button", name=button, exact=True)
        button.click()
        expect(button).to_be_enabled()

    def edges(self):
        """The state and the status of each edge of the map whose call was made."""
        edges = self.tab.locator('.edge:not([data-state="idle"], [data-state="forbidden"])')
        return {
            edge.get_attribute("id"): (
                edge.get_attribute("data-state"),
                edge.locator(".status").text_content(),
            )
            for edge in edges.all()
        }

    def text(self):
        return self.tab.locator("body").inner_text()


with_search = pytest.mark.skipif(SEARCH not in FUNCTIONS, reason="left out: there is no search")


@pytest.fixture
def page(browser, address):
    page = Page(browser, address)
    yield page
    # Chromium logs every answer with status 400 or above in its console; that is not an error of the page.
    assert [e for e in page.errors if not e.startswith("Failed to load resource")] == []
    assert {url.partition("?")[0].removeprefix(address) for url in page.requests} <= {
        "/",
        "/signup",
        "/search",
    }
    assert "eyJ" not in page.tab.content()
    page.context.close()


def test_signing_up_and_logging_in_lights_what_was_called(project, page):
    assert page.edges() == {}
    page.sign_up("ada-l")
    expect(page.tab.get_by_role("heading", name="Signed up")).to_be_visible()
    page.step("2. Log in")
    page.press("Log in")  # the form already has the values of the sign-up
    expect(page.tab.get_by_role("heading", name="Logged in")).to_be_visible()
    expect(page.tab.locator(".answer:visible").filter(has_text=re.compile("."))).to_contain_text("Ada Lovelace")
    assert page.edges() == {LOGIN: ("allowed", "let in"), USER_PROFILES: ("allowed", "let in")}
    expect(page.tab.locator("#why")).to_contain_text(
        f"{LOGIN} asked as serviceAccount:{project.email(LOGIN)}. A binding of roles/run.invoker"
        f" in the policy of {USER_PROFILES} names it"
    )


@with_search
def test_from_the_refused_search_to_the_opened_door(project, page):
    page.search()
    refused = {LOGIN: ("allowed", "let in"), SEARCH: ("refused", "refused")}
    assert page.edges() == refused
    expect(page.tab.locator("#why")).to_contain_text(
        f"No binding in the policy of {SEARCH} names it"
    )
    said = page.tab.locator("#map-state").text_content()
    assert said == f"you to {LOGIN}: let in. {LOGIN} to {SEARCH}: refused."

    # The command that the page shows does open the door.
    command = page.tab.locator("#why pre").inner_text()
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.tab.get_by_role("button", name="Copy").click()
    expect(page.tab.get_by_role("button", name="Copied")).to_be_visible()
    assert page.tab.evaluate("navigator.clipboard.readText()") == command
    assert command.startswith(f"gcloud run services add-iam-policy-binding {SEARCH} ")
    assert f"--member=serviceAccount:{project.email(LOGIN)}" in command
    project.gcloud(command.removeprefix("gcloud "))
    try:
        page.search()
        assert page.edges() == {LOGIN: ("allowed", "let in"), SEARCH: ("allowed", "let in")}
        expect(page.tab.locator(".answer:visible").filter(has_text=re.compile("."))).to_contain_text("Choose a password")
    finally:
        project.gcloud(command.removeprefix("gcloud ").replace("add-iam", "remove-iam"))
    page.search()
    assert page.edges() == refused


def test_the_page_shows_search_where_there_is_one(page):
    there = SEARCH in FUNCTIONS
    assert page.tab.get_by_role("button", name="3. Search").count() == int(there)
    count = "Three" if there else "Two"
    expect(page.tab.get_by_role("heading", level=1)).to_have_text(f"{count} functions, two bindings")
    assert page.tab.title() == f"{count} functions, two bindings"
    assert page.tab.locator('.edge[data-state="forbidden"]').count() == int(there)


def test_what_happened_on_the_wire_can_be_read(project, page):
    page.log_in("nobody-at-all")
    first = page.tab.locator("#wire > li")
    nested = first.locator("ol > li")
    lines = [re.sub(r"\d+ ms", "N ms", line) for line in first.locator("summary").all_inner_texts()]
    assert lines == [
        f"you → {LOGIN}, POST /: let in; {LOGIN} itself answered 401 in N ms",
        f"{LOGIN} → {USER_PROFILES}: let in; {USER_PROFILES} itself answered 401 in N ms",
    ]
    assert nested.locator("summary").all_inner_texts()[0].startswith(f"{LOGIN} → {USER_PROFILES}")
    # The caller and the audience are shown only when the line is opened.
    who = nested.locator("dl")
    expect(who).not_to_be_visible()
    nested.locator("summary").click()
    said = f"as\nserviceAccount:{project.email(LOGIN)}\naudience\n{project.url(USER_PROFILES)}"
    assert who.inner_text().split() == said.split()
    first.locator("> details > summary").click()
    expect(first.locator("> details > dl")).to_contain_text("you: gcloud's proxy adds your token")


def test_who_said_no_is_told(page):
    """The platform can let a caller in, and the function can still refuse."""
    page.log_in("nobody-at-all")
    said = page.tab.locator("#why")
    expect(said).to_contain_text(f"{LOGIN} let you in")
    expect(said).to_contain_text(f"{USER_PROFILES} let {LOGIN} in, and itself said no (401).")
    expect(said).to_contain_text(f"{LOGIN} itself said no: unknown name or wrong password.")


def test_what_a_field_may_hold_is_said_before_it_is_sent(page):
    for label, rule in (
        ("New username", "3 to 32 letters a–z, digits, _ or -"),
        ("New password", "8 to 128 characters"),
        ("Display name", "1 to 80 characters"),
    ):
        described = page.tab.get_by_label(label).get_attribute("aria-describedby")
        expect(page.tab.locator(f"#{described}")).to_be_visible()
        expect(page.tab.locator(f"#{described}")).to_have_text(rule)


def test_a_user_name_with_markup_stays_text(page):
    markup = "<img src=x onerror=document.title='caught'><b>Ada</b>"
    page.sign_up("ada-markup", display_name=markup)
    expect(page.tab.locator(".answer:visible").filter(has_text=re.compile("."))).to_contain_text(markup)
    assert page.tab.locator("img, b").count() == 0
    assert page.tab.title().endswith("functions, two bindings")


@pytest.mark.parametrize(
    "account, label, sentence",
    [
        ({"username": "A"}, "New username", "username must be 3 to 32 of a-z, 0-9, _ and -."),
        ({"username": "ada-e", "password": "short"}, "New password", "password must be"),
        ({"username": "ada-e", "display_name": ""}, "Display name", "display_name must be"),
    ],
)
def test_an_error_stands_beside_the_field_that_it_names(page, account, label, sentence):
    page.sign_up(**account)
    field = page.tab.get_by_label(label)
    expect(field).to_be_focused()
    expect(field).to_have_attribute("aria-invalid", "true")
    error = page.tab.locator(f"#{field.get_attribute('aria-describedby')}")
    expect(error).to_contain_text(sentence)
    assert page.tab.locator("label:has(input[aria-invalid]) + .error").count() == 1


def test_a_taken_name_is_said_beside_it_and_a_wrong_password_below_the_form(page):
    page.sign_up("ada-taken")
    page.sign_up("ada-taken", password="another pass phrase")
    beside = page.tab.locator("label:has(input[name=username]) + .error")
    expect(beside).to_have_text("This username is taken.")
    page.log_in("ada-taken", "a wrong pass phrase")
    expect(page.tab.get_by_role("alert")).to_have_text("Unknown name or wrong password.")
    expect(beside).to_have_count(0)  # the error of the other form is gone
    page.log_in("ada-taken")
    expect(page.tab.get_by_role("alert")).to_have_count(0)


def test_a_refusal_of_login_itself_is_shown(project, page):
    you = "--member=user:you@example.com --role=roles/run.invoker --region=$REGION"
    project.gcloud(f"run services remove-iam-policy-binding {LOGIN} {you}")
    try:
        page.log_in("ada-r")
    finally:
        project.gcloud(f"run services add-iam-policy-binding {LOGIN} {you}")
    assert page.edges() == {LOGIN: ("refused", "refused")}
    expect(page.tab.locator("#why")).to_contain_text("The platform refused you")


def test_an_answer_that_is_not_login_s_is_no_refusal(page):
    bad_gateway = {"status": 502, "body": "<h1>Bad Gateway"}
    page.tab.route("**/signup", lambda route: route.fulfill(**bad_gateway))
    page.press("Sign up")
    assert page.edges() == {LOGIN: ("failed", "no answer")}
    expect(page.tab.get_by_role("alert")).to_have_text(f"{LOGIN} gave no answer of its own (502).")
    expect(page.tab.locator("#why")).to_have_text(f"{LOGIN} gave no answer of its own (502).")


def test_no_answer_is_said_so(page):
    page.context.set_offline(True)
    page.log_in("ada-n")
    expect(page.tab.get_by_role("alert")).to_have_text(
        f"{LOGIN} could not be reached. Does gcloud's proxy still run?"
    )
    assert page.edges() == {}


def test_it_can_be_used_by_keyboard(page):
    page.tab.get_by_label("New username").focus()
    for field in ("ada-keys", "Ada", "a pass phrase"):
        page.tab.keyboard.type(field)
        page.tab.keyboard.press("Tab")
    page.tab.keyboard.press("Enter")
    expect(page.tab.get_by_role("heading", name="Signed up")).to_be_visible()


@pytest.mark.parametrize(
    "scheme, size",
    [("light", (1280, 800)), ("dark", (1280, 800)), ("dark", (640, 400)), ("light", (320, 640))],
    ids=["light", "dark", "at 200 %", "on a phone"],
)
def test_it_is_accessible_in_every_size_and_scheme(browser, address, scheme, size):
    viewport = {"width": size[0], "height": size[1]}
    page = Page(browser, address, viewport=viewport, color_scheme=scheme)
    for act in (lambda: page.press("Sign up"), *([page.search] if SEARCH in FUNCTIONS else [])):
        act()
        found = Axe().run(page.tab)
        assert found.violations_count == 0, found.generate_report()
        width = page.tab.evaluate("document.documentElement.scrollWidth")
        assert width <= size[0], "it has to be scrolled sideways"
    page.context.close()


@pytest.mark.parametrize("size", [(390, 844), (1280, 800)], ids=["on a phone", "on a desk"])
@with_search
def test_nothing_jumps_and_the_map_stays_in_view_when_a_refusal_is_shown(browser, address, size):
    page = Page(browser, address, viewport={"width": size[0], "height": size[1]})
    page.step("3. Search")
    button = page.tab.get_by_role("button", name="Search", exact=True)
    button.scroll_into_view_if_needed()
    still = [button, page.tab.locator("svg"), *([page.tab.locator("#calls")] if size[0] > 800 else [])]
    before = [each.bounding_box() for each in still]
    page.press("Search")
    expect(page.tab.locator("#why pre")).to_be_attached()
    after = [each.bounding_box() for each in still]
    assert [(box["x"], box["y"]) for box in after] == [(box["x"], box["y"]) for box in before]
    picture = page.tab.locator("svg").bounding_box()
    assert picture["y"] >= 0 and picture["y"] + picture["height"] <= size[1]
    words = page.tab.locator("svg text").all()
    drawn = [w.evaluate("e => e.getBBox().height && e.getScreenCTM().a * parseFloat(getComputedStyle(e).fontSize)") for w in words]
    assert min(size for size in drawn if size) >= 12
    page.context.close()


def test_without_javascript_it_says_so(browser, address):
    page = Page(browser, address, java_script_enabled=False)
    assert "This page needs JavaScript" in page.text()
    page.context.close()


def test_the_page_may_load_and_be_framed_by_nothing(project):
    with Visitor(project) as visitor:
        answer = visitor.get("/")
    policy = dict(
        part.split(maxsplit=1) for part in answer.headers["Content-Security-Policy"].split("; ")
    )
    nonce = policy.pop("script-src")
    assert policy.pop("style-src") == nonce and re.fullmatch(r"'nonce-[\w-]{43}'", nonce)
    assert answer.headers["Cache-Control"] == "no-store"  # otherwise a nonce could be used twice
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert policy.pop("img-src") == "data:" and policy.pop("connect-src") == "'self'"
    assert policy == dict.fromkeys(
        ("default-src", "base-uri", "form-action", "frame-ancestors"), "'none'"
    )
    # The markup has no inline handlers or script URLs, and no code parses text as markup.
    assert not re.search(
        r"\son\w+=|javascript:|innerHTML|outerHTML|insertAdjacent|eval\(", answer.text
    )
