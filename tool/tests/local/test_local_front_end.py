"""The front end: places, timeout, ingress, framing; and bytes and headers are passed on unchanged."""

import base64
import hashlib
import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from tool.testing import succeeded
from toys import ECHO, call, raw


@pytest.fixture(scope="module")
def door(local):
    """A function that everybody may call, so that tests need no token."""
    local.up("door")
    succeeded(local.deploy("door"))
    local.let_in("allUsers", "door")
    return local.url("door")


@pytest.fixture(scope="module")
def narrow(local):
    """A function with a place for one request, and a timeout of two seconds."""
    local.up("narrow")
    succeeded(local.deploy("narrow", ECHO, "--concurrency=1", "--max-instances=1", "--timeout=2"))
    local.let_in("allUsers", "narrow")
    return local.url("narrow")


def host_of(url):
    return f"Host: {url.removeprefix('http://')}"


def wait_for(file):
    end = time.monotonic() + 20
    while not file.exists():
        assert time.monotonic() < end, f"nobody came: {file}"
        time.sleep(0.01)


# ---- passing on


@pytest.mark.parametrize(
    "target",
    [
        "/a/b?c=d",
        "/caf%C3%A9",
        "/a%2Fb?c=%20d",
        "/a//b",
        "//x",
        "/a/../b",
        "/%2e%2e/x",
        "/a;b=c?d&d&e=",
        "/x%00",
    ],
)
def test_a_path_is_handed_on_as_it_is(door, target):
    answer = raw(door, f"GET {target} HTTP/1.1", host_of(door), "Connection: close", read_all=True)
    assert f'"target":"{target}"'.encode() in answer


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "QUERY"])
def test_every_method_arrives_with_its_body(door, method):
    answer = call(door, method=method, data=b"\x00\xffbody").json()
    assert (answer["method"], base64.b64decode(answer["body"])) == (method, b"\x00\xffbody")


def test_a_body_of_unknown_length_arrives(door):
    answer = call(door, method="POST", data=iter([b"one", b"two"])).json()
    assert base64.b64decode(answer["body"]) == b"onetwo"


def test_a_large_body_arrives_and_a_large_answer_comes_back(door):
    body = bytes(range(256)) * 20_000
    answer = call(door, method="POST", data=body).json()
    assert (
        hashlib.sha256(base64.b64decode(answer["body"])).digest() == hashlib.sha256(body).digest()
    )
    assert call(door, path="/?pieces=3000").content == b"x" * 3_000_000


def test_who_waits_for_leave_to_send_a_body_gets_it(door):
    with socket.create_connection(
        ("127.0.0.1", int(door.rpartition(":")[2])), timeout=20
    ) as connection:
        lines = [
            "POST / HTTP/1.1",
            host_of(door),
            "Content-Length: 2",
            "Expect: 100-continue",
            "Connection: close",
        ]
        connection.sendall("\r\n".join([*lines, "", ""]).encode())
        answer = connection.makefile("rb")
        assert answer.readline().split()[1] == b"100"
        connection.sendall(b"{}")
        assert b"HTTP/1.1 200" in answer.read()


def test_an_answer_to_head_has_a_length_and_no_body(door):
    answer = call(door, method="HEAD")
    assert answer.status_code == 200 and answer.content == b""
    assert int(answer.headers["Content-Length"]) > 0


@pytest.mark.parametrize("status", [204, 201, 304, 302, 404, 405, 500, 503])
def test_a_status_comes_back_as_it_is(door, status):
    assert call(door, path=f"/?status={status}").status_code == status


def test_what_was_packed_stays_packed_and_two_cookies_stay_two(door):
    with requests.get(f"{door}/?gzip=1", stream=True, timeout=20) as answer:
        assert answer.headers["Content-Encoding"] == "gzip"
        assert answer.raw.read(2, decode_content=False) == b"\x1f\x8b"
    answer = requests.get(f"{door}/?cookies=2", timeout=20)
    assert answer.raw.headers.getlist("Set-Cookie") == ["c0=0", "c1=1"]


def test_repeated_headers_arrive_and_those_of_the_connection_do_not(door):
    answer = raw(
        door, "GET / HTTP/1.1", host_of(door), "Connection: close, X-Mine", "X-Mine: 1", "X-Yours: 1",
        "X-Yours: 2", "Keep-Alive: 5", "Proxy-Authorization: x", "TE: trailers", "Upgrade: h2c", read_all=True,
    )  # fmt: skip
    assert b'["X-Yours","1,2"]' in answer
    for name in (b"X-Mine", b"Keep-Alive", b"Proxy-Authorization", b'"Te"', b"Upgrade"):
        assert name not in answer


@pytest.mark.parametrize(
    "name", ["SCRIPT_NAME", "PATH_INFO", "REMOTE_USER", "X_FORWARDED_FOR", "A_B"]
)
def test_what_only_a_proxy_may_tell_gunicorn_is_not_handed_on(door, name):
    answer = raw(
        door, "GET /x HTTP/1.1", host_of(door), f"{name}: /evil", "Connection: close", read_all=True
    )
    assert answer.startswith(b"HTTP/1.1 200")
    assert b"evil" not in answer
    assert b'"root":""' in answer and b'"target":"/x"' in answer


def test_the_function_sees_plain_http_whatever_the_headers_say(door):
    for headers in (
        {"X-Forwarded-Ssl": "off"},
        {"X-Forwarded-Protocol": "ssl"},
        {"X-Forwarded-Proto": "https"},
    ):
        answer = call(door, headers=headers)
        assert (answer.status_code, answer.json()["scheme"]) == (200, "http")


@pytest.mark.parametrize(
    "headers, body",
    [
        (["Content-Length: 2", "Transfer-Encoding: chunked"], b"{}"),
        (["Content-Length: 2", "Content-Length: 3"], b"{}"),
        (["Content-Length: -1"], b"{}"),
        (["Content-Length: +2"], b"{}"),
        (["Content-Length: 0x2"], b"{}"),
        (["Transfer-Encoding: chunked, identity"], b"2\r\n{}\r\n0\r\n\r\n"),
        (["Transfer-Encoding: xchunked"], b"2\r\n{}\r\n0\r\n\r\n"),
        (["Transfer-Encoding: chunked"], b"zz\r\n{}\r\n0\r\n\r\n"),
        (["Transfer-Encoding: chunked"], b"2\r\n{}xx0\r\n\r\n"),
        (["Transfer-Encoding: chunked"], b"-2\r\n{}\r\n0\r\n\r\n"),
        (["X-Mine : 1"], b""),
        (["X\x00: 1"], b""),
        (["X: a\x00b"], b""),
    ],
    ids=str,
)
def test_odd_framing_is_the_client_s_fault(local, door, headers, body):
    before = len(local.log("door"))
    assert raw(door, "POST / HTTP/1.1", host_of(door), *headers, body=body) == 400
    assert local.log("door")[before:] == ""
    assert "Traceback" not in local.log("servers") and "Error" not in local.log("servers")


def test_nothing_is_smuggled_behind_a_request(door):
    hidden = b"GET /hidden HTTP/1.1\r\nHost: x\r\n\r\n"
    answer = raw(
        door, "POST / HTTP/1.1", host_of(door), f"Content-Length: {len(hidden)}", "Connection: close",
        body=hidden, read_all=True,
    )  # fmt: skip
    assert answer.count(b"HTTP/1.1") == 1 and base64.b64encode(hidden) in answer


# ---- the function's surroundings


def test_nothing_of_the_tool_is_in_the_function_s_process(door, local):
    answer = call(door).json()
    assert answer["modules"] == []
    names = set(answer["environ"]) - {"SERVER_SOFTWARE", "LC_CTYPE", "__CF_USER_TEXT_ENCODING"}
    assert names == {
        "CLOUD_RUN_TIMEOUT_SECONDS", "FORWARDED_ALLOW_IPS", "FUNCTION_SIGNATURE_TYPE", "FUNCTION_TARGET",
        "GCE_METADATA_HOST", "GCE_METADATA_IP", "HOME", "HOST", "K_CONFIGURATION", "K_REVISION",
        "K_SERVICE", "LANG", "LOG_EXECUTION_ID", "PATH", "PORT", "PYTHONUNBUFFERED",
    }  # fmt: skip
    assert answer["environ"]["K_SERVICE"] == "door" and answer["environ"]["K_REVISION"].startswith(
        "door-00001-"
    )


CLOUD_EVENT = """
import functions_framework
@functions_framework.cloud_event
def entry(event):
    print("an event of type", event["type"], flush=True)
"""
TYPED = """
import functions_framework
class Wish:
    def __init__(self, name): self.name = name
    @staticmethod
    def from_dict(content): return Wish(content["name"])
    def to_dict(self): return {"name": self.name}
@functions_framework.typed(Wish)
def entry(wish):
    return Wish(wish.name + "!")
"""
ASGI = """
import functions_framework.aio
from starlette.responses import PlainTextResponse
@functions_framework.aio.http
async def entry(request):
    return PlainTextResponse("async " + request.url.path)
"""


@pytest.mark.parametrize(
    "code, flags, headers, content, expected",
    [
        (
            CLOUD_EVENT,
            [],
            {"ce-id": "1", "ce-source": "s", "ce-type": "t", "ce-specversion": "1.0"},
            {},
            "OK",
        ),
        (TYPED, [], {}, {"json": {"name": "Ada"}}, '{"name": "Ada!"}'),
        (ASGI, ["--set-env-vars=FUNCTION_USE_ASGI=true"], {}, {}, "async /x"),
    ],
    ids=["cloudevent", "typed", "asgi"],
)
def test_every_kind_of_function_runs(local, code, flags, headers, content, expected):
    local.up("kind")
    succeeded(local.deploy("kind", code, *flags, entry="entry"))
    local.let_in("allUsers", "kind")
    try:
        content = content or {"json": {}}
        answer = call(local.url("kind"), path="/x", method="POST", headers=headers, **content)
        assert (answer.status_code, answer.text.strip()) == (200, expected)
    finally:
        local.gcloud("run services delete kind REGION --quiet")


# ---- places, timeout, ingress


def test_others_wait_for_a_place_and_get_it_in_turn(narrow, tmp_path):
    """The second request gets in when the first one is done."""
    inside, until = tmp_path / "inside", tmp_path / "until"
    with ThreadPoolExecutor() as pool:
        first = pool.submit(call, narrow, path=f"/?inside={inside}&until={until}")
        wait_for(inside)
        second = pool.submit(call, narrow, path="/?status=201")
        time.sleep(0.2)
        assert not second.done()
        until.touch()
        assert (first.result().status_code, second.result().status_code) == (200, 201)


def test_who_waits_too_long_is_told_that_there_are_too_many(local, narrow, tmp_path):
    """A request waits no longer than its timeout. Of two that wait, one gets the place of the first."""
    inside, until = tmp_path / "inside", tmp_path / "until"
    with ThreadPoolExecutor() as pool:
        stuck = pool.submit(call, narrow, path=f"/?inside={inside}&until={until}")
        wait_for(inside)
        waiting = [pool.submit(call, narrow, path=f"/?inside={inside}&until={until}") for _ in "12"]
        answers = {answer.result().status_code: answer.result() for answer in (stuck, *waiting)}
        until.touch()
    assert answers.keys() == {504, 429}
    assert answers[429].headers["Content-Type"] == "text/html; charset=UTF-8"
    assert local.log("narrow", having="no available instance")


def test_nobody_is_served_who_has_left(narrow, tmp_path):
    inside, until, never = tmp_path / "inside", tmp_path / "until", tmp_path / "never"
    with ThreadPoolExecutor() as pool:
        first = pool.submit(call, narrow, path=f"/?inside={inside}&until={until}")
        wait_for(inside)
        with socket.create_connection(("127.0.0.1", int(narrow.rpartition(":")[2]))) as leaving:
            leaving.sendall(
                f"GET /?inside={never}&until={until} HTTP/1.1\r\n{host_of(narrow)}\r\n\r\n".encode()
            )
            time.sleep(0.2)  # until it waits in line; if it does not yet, the test proves nothing
        until.touch()
        assert first.result().status_code == 200
    assert call(narrow).status_code == 200
    assert not never.exists()


def test_who_leaves_once_inside_keeps_the_place(local, tmp_path):
    local.up("slow")
    succeeded(local.deploy("slow", ECHO, "--concurrency=1", "--max-instances=1", "--timeout=60"))
    local.let_in("allUsers", "slow")
    url, inside, until = local.url("slow"), tmp_path / "inside", tmp_path / "until"
    with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2]))) as leaving:
        leaving.sendall(
            f"GET /?inside={inside}&until={until} HTTP/1.1\r\n{host_of(url)}\r\n\r\n".encode()
        )
        wait_for(inside)
    answered = threading.Event()
    with ThreadPoolExecutor() as pool:
        second = pool.submit(call, url, path="/?status=201")
        second.add_done_callback(lambda _: answered.set())
        assert not answered.wait(0.5)
        until.touch()
        assert second.result().status_code == 201
    local.gcloud("run services delete slow REGION --quiet")


def test_a_request_that_takes_too_long_is_ended(local, narrow, tmp_path):
    answer = call(narrow, path=f"/?inside={tmp_path / 'inside'}&until={tmp_path / 'never'}")
    assert answer.status_code == 504
    assert local.log("narrow", having="maximum request timeout")
    (tmp_path / "never").touch()


def test_a_function_for_inside_is_not_found_from_outside(local):
    url = local.url("closed")
    local.gcloud("run services update closed REGION --ingress=internal")
    try:
        for token in (None, "garbage", local.token("inner", url)):
            refused = call(url, token)
            assert refused.status_code == 404
            assert "The requested URL was not found on this server." in refused.text
    finally:
        local.gcloud("run services update closed REGION --ingress=all")
    assert call(url).status_code == 403


@pytest.mark.parametrize(
    "body, said", [(b"", "without an answer"), (b"x" * 5_000_000, "before it had read the whole request")]
)
def test_a_function_that_hangs_up_is_unavailable_and_its_log_says_what_is_known(local, door, body, said):
    before = len(local.log("door"))
    assert call(door, path="/?exit", method="POST", data=body).status_code == 503
    assert local.log("door", before, f"The function hung up {said}.")


BREAKS_OFF = """
import flask

def pieces():
    yield "a piece"
    raise RuntimeError

def echo(request):
    return flask.Response(pieces())
"""


def test_an_answer_that_the_function_breaks_off_looks_cut_off_and_the_log_says_why(local):
    local.up("breaking")
    succeeded(local.deploy("breaking", BREAKS_OFF))
    local.let_in("allUsers", "breaking")
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        call(local.url("breaking"))
    assert local.log("breaking", having="The function broke off its answer.")
    kept = local.log("requests", having='"function": "breaking"').splitlines()
    assert [c["status"] for c in map(json.loads, kept) if c["function"] == "breaking"] == [200]
    assert "ClientPayloadError" not in (local.state / "logs" / "servers.log").read_text()
    local.gcloud("run services delete breaking REGION --quiet")


def test_a_function_that_fails_answers_as_on_cloud_run_and_its_traceback_is_one_entry(local, door):
    before = len(local.log("door"))
    answer = call(door, path="/?raise=broken")
    assert (answer.status_code, answer.headers["X-Google-Status"]) == (500, "crash")
    assert "broken" not in answer.text
    logged = local.log("door", before, "RuntimeError: broken").splitlines()
    [entry] = [line for line in logged if "RuntimeError: broken" in line]
    assert "Traceback (most recent call last)" in entry


def test_lines_of_the_front_end_and_of_the_function_come_in_their_order(local, door):
    before = len(local.log("door"))
    for number in range(6):
        assert call(door, path=f"/?said=number+{number}").status_code == 200
        assert call(door, path="/?exit").status_code == 503
    lines = local.log("door", before).splitlines()
    said = [m["message"] for line in lines if (m := json.loads(line))["message"].startswith(("number", "The func"))]
    assert [m[:6] for m in said] == ["number", "The fu"] * 6
