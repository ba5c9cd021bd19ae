"""The console: what it shows of each call, and what it never does."""

import json
import os
import re
import secrets
import shutil
import signal
import time
import urllib.request

import pytest
import requests

from tool.testing import assert_no_secret, succeeded
from toys import call, raw


@pytest.fixture(scope="module")
def console(local):
    """The URL of the console."""
    return console_of(local)


def console_of(local):
    project = json.loads((local.state / "project.json").read_text())
    return f"http://127.0.0.1:{project['console_port']}"


def calls(console, **asked):
    return requests.get(f"{console}/calls", params=asked, timeout=20).json()


def newest(console):
    return calls(console)[0]


def test_a_call_that_is_let_in_shows_its_binding_and_what_would_end_it(console, local, inner, token):
    assert call(inner, token, "/some/path?secret=question", "POST", data="body").status_code == 200
    found = newest(console)
    assert found["grant"] == {"role": "roles/run.invoker", "member": local.member("outer"), "resource": "inner"}
    assert (found["caller"], found["function"]) == (local.member("outer"), "inner")
    assert (found["method"], found["path"], found["status"]) == ("POST", "/some/path", 200)
    assert found["outcome"] == "let in" and found["by_function"] and found["milliseconds"] > 0
    assert found["why"] == (
        f"{local.member('outer')} may call inner, by the binding of roles/run.invoker in the policy of service inner"
    )
    assert found["command"].startswith("gcloud run services remove-iam-policy-binding inner ")


def test_a_refused_call_shows_what_is_missing_and_the_command_lets_it_in(console, local, inner):
    token = local.token("closed", inner)
    assert call(inner, token).status_code == 403
    found = newest(console)
    assert (found["outcome"], found["status"], found["by_function"]) == ("no binding", 403, False)
    assert found["why"].startswith(f"{local.member('closed')} may not call inner")
    try:
        local.gcloud(found["command"].removeprefix("gcloud "))
        assert call(inner, token).status_code == 200
        assert newest(console)["outcome"] == "let in"
        assert edge(console, "closed") == {"allowed": True, "last_let_in": True}
    finally:
        local.put_out(local.member("closed"), "inner")
    assert edge(console, "closed") == {"allowed": False, "last_let_in": True}


def test_who_is_let_in_as_a_member_of_a_group_sees_the_binding_of_the_group(console, local, inner):
    token, group = local.token("closed", inner), "group:friends@example.com"
    file = local.state.parent / ".groups" / "friends@example.com"
    file.parent.mkdir(exist_ok=True)
    file.write_text(local.member("closed") + "\n")
    local.let_in(group, "inner")
    try:
        assert call(inner, token).status_code == 200
        found = newest(console)
        assert found["why"].startswith(f"{local.member('closed')} may call inner (as {group}), by the binding of")
        assert edge(console, "closed") == {"allowed": True, "last_let_in": True}
        assert edge(console, group) == {"allowed": True, "last_let_in": None}
        local.gcloud(found["command"].removeprefix("gcloud "))
        assert call(inner, token).status_code == 403
        assert edge(console, "closed") == {"allowed": False, "last_let_in": False}
    finally:
        file.unlink()
        local.gcloud(
            f"run services remove-iam-policy-binding inner REGION --member={group} --role=roles/run.invoker", check=False
        )


def test_a_binding_of_the_project_lets_in_at_every_function(console, local, inner):
    token, member = local.token("closed", inner), local.member("closed")
    change = f"iam-policy-binding local-project --member={member} --role=roles/run.invoker"
    local.gcloud(f"projects add-{change}")
    try:
        assert call(inner, token).status_code == 200
        found = newest(console)
        assert found["why"].endswith("by the binding of roles/run.invoker in the policy of the project")
        assert edge(console, "closed")["allowed"] and edge(console, "closed", "outer")["allowed"]
        local.gcloud(found["command"].removeprefix("gcloud "))
        assert call(inner, token).status_code == 403
    finally:
        local.gcloud(f"projects remove-{change}", check=False)


def test_a_refused_call_draws_an_edge_unless_deploy_sh_verify_made_it(console, local, inner):
    name, token = "outer", local.token("inner", local.url("outer"))
    call(local.url(name), token, headers={"User-Agent": "deploy.sh-verify"})
    assert newest(console)["measured"] and edge(console, "inner", name) == {}
    call(local.url(name), token)
    assert edge(console, "inner", name) == {"allowed": False, "last_let_in": False}


def edge(console, caller, function="inner"):
    """The edge of this caller on the map; {} if there is none."""
    edges = requests.get(f"{console}/map", timeout=20).json()["edges"]
    found = [e for e in edges if (e["caller"], e["function"]) == (caller, function)]
    return {key: e[key] for e in found for key in ("allowed", "last_let_in")}


@pytest.mark.parametrize(
    "headers, outcome, why",
    [
        ({}, "no token", "no token came, and inner does not let in everyone"),
        ({"Authorization": "Bearer a.b.c"}, "bad token", "the token is not valid: it cannot be read as a token"),
        ({"Authorization": "Basic x"}, "bad token", "the token is not valid: it is not a bearer token"),
    ],
)
def test_why_a_token_did_not_count_is_said_and_the_token_is_not(console, inner, headers, outcome, why):
    call(inner, headers=headers)
    found = newest(console)
    assert (found["outcome"], found["why"]) == (outcome, why)
    assert "a.b.c" not in json.dumps(found)


def test_who_has_no_token_gets_every_command_that_it_takes(console, local):
    closed = local.url("closed")
    assert call(closed).status_code == 403
    first, second = newest(console)["command"].splitlines()
    token = local.gcloud(first.removeprefix("gcloud "))
    assert call(closed, token).status_code == 403
    local.gcloud(second.removeprefix("gcloud "))
    try:
        assert call(closed, token).status_code == 200
        call(closed)
        assert newest(console)["command"] == first
    finally:
        local.put_out("user:you@example.com", "closed")


@pytest.mark.parametrize("resource", ["run services {} closed REGION", "projects {} local-project"])
def test_its_commands_work_where_bindings_have_conditions(console, local, resource):
    closed, change = local.url("closed"), f"--member={local.member('closed')} --role=roles/run.invoker"
    token, condition = local.token("closed", closed), '--condition=\'title=t,expression=request.path == "/"\''
    local.gcloud(f"{resource.format('add-iam-policy-binding')} {change} {condition}")
    try:
        assert call(closed, token).status_code == 200
        local.gcloud(newest(console)["command"].removeprefix("gcloud "))
        assert call(closed, token).status_code == 403
        local.gcloud(f"{resource.format('add-iam-policy-binding')} --member=user:x@example.com --role=roles/run.viewer {condition}")
        call(closed, token)
        local.gcloud(newest(console)["command"].removeprefix("gcloud "))
        assert call(closed, token).status_code == 200
        local.gcloud(newest(console)["command"].removeprefix("gcloud "))
        assert call(closed, token).status_code == 403
    finally:
        for member in ("user:x@example.com --role=roles/run.viewer", change.removeprefix("--member=")):
            local.gcloud(f"{resource.format('remove-iam-policy-binding')} --member={member} --all", check=False)


def test_for_an_account_or_a_function_that_is_gone_there_is_no_command(other):
    other.up("once")
    succeeded(other.deploy("once"))
    console, once = console_of(other), other.url("once")
    other.gcloud("iam service-accounts create leaving-sa")
    token = other.token("leaving", once)
    other.let_in(other.member("leaving"), "once")
    other.gcloud(f"iam service-accounts delete {other.email('leaving')} --quiet")
    assert call(once, token).status_code == 403
    found = newest(console)
    assert (found["outcome"], found["command"]) == ("no binding", "")
    assert found["why"] == "the account that the token names was deleted, or made anew"
    edges = requests.get(f"{console}/map", timeout=20).json()["edges"]
    assert not [e for e in edges if "leaving" in e["caller"] and e["allowed"]]

    call(once)
    assert newest(console)["command"]
    other.gcloud("run services delete once REGION --quiet")
    assert [c["command"] for c in calls(console, function="once")] == ["", ""]


def test_the_log_of_a_trace_is_that_of_the_whole_trace(console, inner):
    call(inner)
    trace = newest(console)["trace"]
    assert requests.get(f"{console}/log", params={"trace": trace}, timeout=20).json()
    for part in ("", "a", trace[:-1], "message"):
        assert requests.get(f"{console}/log", params={"trace": part}, timeout=20).json() == []


def test_a_call_that_a_call_led_to_has_its_span_as_parent(console, local, inner, token):
    trace, span = secrets.token_hex(16), "b7ad6b7169203331"
    call(inner, token, headers={"Traceparent": f"00-{trace}-{span}-01"})
    [found] = calls(console, trace=trace)
    assert found["parent"] == span and found["span"] != span


def test_calls_are_filtered(console, inner, token):
    call(inner, token)
    call(inner)
    assert {c["function"] for c in calls(console, function="inner")} == {"inner"}
    assert calls(console, function="nothing") == []
    assert {c["outcome"] for c in calls(console, refused="")} <= {"no token", "bad token", "no binding", "nowhere"}


def test_what_is_kept_holds_no_secret(console, local, inner, token):
    secret = "a pass phrase"
    call(inner, token, f"/x?password={secret}", "POST", headers={"Cookie": secret}, data=secret)
    log = (local.state / "logs" / "requests.log").read_text()
    for text in (json.dumps(calls(console)), log):
        assert_no_secret(text, [token])


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_it_changes_nothing(console, method):
    answer = requests.request(method, console, timeout=20)
    assert (answer.status_code, answer.headers["Allow"]) == (405, "GET, HEAD")


def test_an_answer_to_head_ends(console):
    lines = (f"Host: {console.removeprefix('http://')}", "Connection: close")
    for path in ("/", "/events", "/calls"):
        head, _, body = raw(console, f"HEAD {path} HTTP/1.1", *lines, read_all=True).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 ") and not body


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1", "127.0.0.1:1", "localhost.evil.example"])
def test_it_answers_to_its_own_name_alone(console, host):
    assert requests.get(f"{console}/calls", headers={"Host": host}, timeout=20).status_code == 404
    port = console.rpartition(":")[2]
    named = requests.get(f"{console}/calls", headers={"Host": f"localhost:{port}"}, timeout=20)
    assert named.status_code == 200


def test_no_page_elsewhere_can_read_or_frame_it(console):
    answer = requests.get(console, headers={"Origin": "https://evil.example"}, timeout=20)
    assert not any(name.lower().startswith("access-control") for name in answer.headers)
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy
    nonce = re.search("script-src 'nonce-([^']+)'", policy)[1]
    assert answer.text.count(f'nonce="{nonce}"') == 2 and "NONCE" not in answer.text


def test_events_bring_each_call_once_without_being_asked_again(console, inner):
    call(inner, path="/the/one/before")
    with urllib.request.urlopen(f"{console}/events", timeout=20) as stream:
        seen = list(of_event(stream))
        assert seen[-1]["path"] == "/the/one/before"
        for n in range(3):
            call(inner, path=f"/brought/by/an/event/{n}")
        while seen[-1]["path"] != "/brought/by/an/event/2":
            seen += of_event(stream)
    assert [c["path"] for c in seen[-4:]] == ["/the/one/before", *(f"/brought/by/an/event/{n}" for n in range(3))]
    assert len({c["span"] for c in seen}) == len(seen)


def of_event(stream):
    while not (line := stream.readline()).startswith(b"data: "):
        assert line  # otherwise the stream has ended
    return json.loads(line.removeprefix(b"data: "))


def test_after_a_restart_it_finds_the_calls_in_the_request_log(other):
    other.up("once")
    succeeded(other.deploy("once"))
    call(other.url("once"), path="/before")
    pid = int((other.state / "run" / "servers").read_text().split()[0])
    os.kill(pid, signal.SIGKILL)
    other.up("once")
    console = console_of(other)
    found = newest(console)
    assert found["path"] == "/before"
    call(other.url("once"), path="/after")
    after, before, *_ = calls(console)
    assert (after["path"], before) == ("/after", found)


def test_a_line_that_is_no_call_breaks_nothing(other):
    other.up("once")
    succeeded(other.deploy("once"))
    call(other.url("once"))
    log = other.state / "logs" / "requests.log"
    good = json.loads(log.read_text().splitlines()[-1])
    odd = [{**good, field: value} for field in good if field != "grant" for value in ({}, [None])]
    odd += [{**good, "grant": {"role": 1, "member": 2, "resource": 3}}, {**good, "outcome": "odd"}, [], 5, "x", None]
    with log.open("a") as file:
        file.write("".join(f"{json.dumps(line)}\n" for line in odd) + "[" * 100_000 + "\n\0\xff\n{\n")
    os.kill(int((other.state / "run" / "servers").read_text().split()[0]), signal.SIGKILL)
    other.up("once")
    console = console_of(other)
    assert [c["span"] for c in calls(console)] == [good["span"]]
    assert runs(console) == {"once": True}
    assert other.gcloud("logging read httpRequest.status=403 --freshness=1h --format='value(spanId)'") == good["span"]


def test_the_map_shows_at_once_that_a_function_does_not_run(other):
    other.up("once")
    succeeded(other.deploy("once"))
    console = console_of(other)
    assert runs(console) == {"once": True}
    pid = int(next((other.state / "run").glob("once-*")).read_text().split()[0])
    os.killpg(pid, signal.SIGKILL)
    end = time.monotonic() + 20
    while runs(console) != {"once": False}:  # its lock is released when the process has ended
        assert time.monotonic() < end
        time.sleep(0.02)


def runs(console):
    return {one["name"]: one["runs"] for one in requests.get(f"{console}/map", timeout=20).json()["functions"]}


# ---- in a browser


def browser():
    sync_api = pytest.importorskip("playwright.sync_api", reason="left out: playwright is not installed")
    program = shutil.which("chromium-headless-shell") or shutil.which("chromium")
    if not program:
        pytest.skip("left out: chromium is not installed")
    return sync_api, program


@pytest.fixture
def page(console, inner):
    call(inner)
    sync_api, program = browser()
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        page = chromium.new_page(viewport={"width": 390, "height": 844})
        errors = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("dialog", lambda dialog: errors.append(dialog.message))
        page.goto(console)
        page.wait_for_selector(".call")
        yield page
        assert errors == []
        chromium.close()


def test_a_call_appears_without_a_reload_and_a_path_is_only_text(page, inner):
    host = inner.removeprefix("http://")
    raw(inner, "GET /<script>alert(1)</script> HTTP/1.1", f"Host: {host}", "Connection: close")
    row = page.locator(".call", has_text="<script>alert(1)</script>").first
    row.wait_for()
    assert "no token → inner" in row.inner_text()


def test_a_refused_call_tells_why_by_keyboard(page, local, inner):
    call(inner, local.token("closed", inner), path="/why")
    row = page.locator(".call", has_text="GET /why").first
    row.wait_for()
    row.focus()
    page.keyboard.press("Enter")
    box = page.locator(".why")
    box.wait_for()
    page.get_by_text("Refused: ").wait_for()
    assert "add-iam-policy-binding inner" in box.inner_text()
    box.evaluate("(box) => { box.dataset.kept = 'yes'; }")
    call(inner, path="/meanwhile")
    page.locator(".call", has_text="GET /meanwhile").first.wait_for()
    assert box.get_attribute("data-kept") == "yes"  # a new call does not make it again
    page.get_by_text("lacks {run.routes.invoke} permission").first.wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_a_chosen_call_stays_however_many_come_after_it(page, inner):
    call(inner, path="/chosen")
    page.locator(".call", has_text="GET /chosen").first.click()
    for _ in range(201):
        call(inner)
    call(inner, path="/newest")
    page.locator(".call", has_text="GET /newest").first.wait_for()
    page.locator(".why", has_text="Refused: ").wait_for()


def test_what_a_call_led_to_is_nested_below_it(page, console, local, inner, token):
    call(local.url("outer"), local.gcloud("auth print-identity-token"), path="/led-to")
    first = newest(console)
    traceparent = f"00-{first['trace']}-{first['span']}-01"
    call(inner, token, path="/led-to/this", headers={"Traceparent": traceparent})
    page.locator("li", has_text="GET /led-to").locator("ol .call", has_text="GET /led-to/this").wait_for()


def test_the_printed_command_is_run_and_the_edge_changes(page, local, inner):
    edge = page.locator("#map line", has=page.locator("title", has_text="closed → inner"))
    token = local.token("closed", inner)
    call(inner, token, path="/knock")
    row = page.locator(".call", has_text="GET /knock").first
    row.click()
    page.wait_for_function(STATE, arg=["closed → inner", "no"])
    try:
        local.gcloud(page.locator(".why pre", has_text="add-iam-policy-binding").inner_text().removeprefix("gcloud "))
        call(inner, token, path="/knock/again")
        page.wait_for_function(STATE, arg=["closed → inner", "in"])
        assert "was let in" in edge.locator("title").text_content()
    finally:
        local.put_out(local.member("closed"), "inner")
    page.wait_for_function(STATE, arg=["closed → inner", "no"])  # at once, without another call
    assert "may not call any more" in edge.locator("title").text_content()


STATE = """([edge, state]) => [...document.querySelectorAll("#map line")].some((line) =>
    line.classList.contains(state) && line.textContent.startsWith(edge))"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_axe_finds_nothing(page, local, inner, scheme, width):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="left out: axe is not installed")
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": width, "height": 844})
    call(inner, local.token("closed", inner), path="/axe")
    page.locator(".call", has_text="GET /axe").first.click()
    page.locator(".why").wait_for()
    found = axe.Axe().run(page)
    assert found.violations_count == 0, found.generate_report()


def test_thirty_functions_can_be_read(page, console):
    names = [f"function-{n}" for n in range(30)]
    callers = ["anonymous", "you", *names]
    edges = [
        {"caller": caller, "function": name, "allowed": n % 2 == 0, "last_let_in": (None, True, False)[n % 3]}
        for n, (caller, name) in enumerate(zip(callers, names, strict=False))
    ]
    drawn = {"callers": callers, "functions": [{"name": n, "url": "", "runs": True} for n in names], "edges": edges}
    page.route("**/map", lambda route: route.fulfill(json=drawn))
    page.goto(console)
    page.wait_for_function("() => document.querySelectorAll('#map text').length >= 62")
    boxes = [text.bounding_box() for text in page.locator("#map text").all()]
    assert min(box["height"] for box in boxes) >= 10
    columns = [[box for box in boxes if box["x"] < 150], [box for box in boxes if box["x"] > 150]]
    for column in columns:
        ends = [box["y"] + box["height"] for box in column]
        assert len(column) >= 31 and all(end <= box["y"] + 1 for end, box in zip(ends, column[1:], strict=False))
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
