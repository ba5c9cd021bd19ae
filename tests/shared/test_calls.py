"""Calls from one function to another, with every kind of answer from a fake receiver."""

import concurrent.futures
import gc
import io
import itertools
import json
import os
import socket
import sys
import threading
import time

import flask
import pytest

from fakes import Fake, as_json
from shared import connections, logs
from shared.calls import Busy, Function, NoToken, Refused, TimedOut, Unreachable, call_made
from tool.testing import run

JSON = {"Content-Type": "application/json"}
HTML = {"Content-Type": "text/html; charset=UTF-8"}
REFUSAL = (
    "<html><head><title>403 Forbidden</title></head><body><h1>Error: Forbidden</h1><h2>Your client"
    " does not have permission to get URL <code>/</code> from this server.</h2></body></html>"
)


@pytest.fixture
def function(metadata, receiver, monkeypatch):
    monkeypatch.setenv("OTHER_ONE_URL", f"http://{receiver.address}")
    return Function("other-one")


@pytest.mark.parametrize(
    "status, headers, body, value",
    [
        (200, JSON, '{"a": 1}', {"a": 1}),
        (200, {"Content-Type": "application/json; charset=utf-8"}, "[1, 2]", [1, 2]),
        (200, {"Content-Type": "application/hal+json"}, '"text"', "text"),
        (201, JSON, "null", None),
        (202, {}, "", None),
        (204, {}, "", None),
        (404, {}, "", None),
    ],
)
def test_every_json_value_is_an_answer_and_so_is_none(function, receiver, status, headers, body, value):  # fmt: skip
    receiver.answer = lambda request: (status, headers, body)
    assert function.call("PUT", "/things/1", json={"a": 1}, expect=(404,)) == (status, value)
    assert receiver.requests[0].method == "PUT" and receiver.requests[0].path == "/things/1"
    assert json.loads(receiver.requests[0].body) == {"a": 1}


def test_query_headers_and_trace_are_sent(function, receiver):
    function.call("GET", "/find", params={"q": "a b"}, headers={"Accept-Language": "de"})
    [request] = receiver.requests
    assert request.path == "/find?q=a+b"
    assert request.headers["Accept-Language"] == "de"
    assert request.headers["Authorization"].startswith("Bearer ey")


def test_two_calls_at_once_are_one_trace_and_need_one_token(function, receiver, metadata, own_logging):
    together = threading.Barrier(2)  # neither call is answered before both have arrived

    def answer(request):
        together.wait(30)
        return 200, JSON, "{}"

    logs.to_standard_output()
    own_logging()
    receiver.answer = answer
    header = {"Traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
    with flask.Flask("small").test_request_context(headers=header):
        with concurrent.futures.ThreadPoolExecutor() as pool:
            calls = [pool.submit(function.call, "GET", path) for path in ("/a", "/b")]
    assert [call.result()[0] for call in calls] == [200, 200]
    assert {request.path for request in receiver.requests} == {"/a", "/b"}
    sent = {r.headers["Traceparent"] for r in receiver.requests}
    assert sent == set(header.values())
    assert len(metadata.identity_requests) == 1


def test_an_expected_status_is_an_answer_with_its_value(function, receiver):
    receiver.answer = as_json(409, {"error": "taken"})
    assert function.call("POST", "/", json={}, expect=(409,)) == (409, {"error": "taken"})


def test_the_audience_may_be_another_than_the_url(metadata, receiver, monkeypatch):
    monkeypatch.setenv("OTHER_ONE_URL", f"http://{receiver.address}")
    Function("other-one", audience="https://audience.example").call("GET", "/")
    assert "audience=https%3A%2F%2Faudience.example&" in metadata.identity_requests[0].path


NO_USABLE_ANSWER = "other-one gave no usable answer."


@pytest.mark.parametrize(
    "status, headers, body, kind, sentence, reason",
    [
        (500, JSON, '{"error": "inner"}', Unreachable, NO_USABLE_ANSWER, "status 500; its own log says"),
        (400, JSON, '{"error": "inner"}', Unreachable, NO_USABLE_ANSWER, "status 400; its own log says"),
        (200, HTML, "<p>inner", Unreachable, NO_USABLE_ANSWER, "status 200; not JSON: text/html"),
        (200, {}, "inner", Unreachable, NO_USABLE_ANSWER, "status 200; not JSON: no content type"),
        (500, HTML, "<p>inner", Unreachable, NO_USABLE_ANSWER, "status 500; not JSON: text/html"),
        (401, HTML, "<p>inner", Unreachable, NO_USABLE_ANSWER, "is its audience the function's own URL?"),
        (404, HTML, "<p>inner", Unreachable, NO_USABLE_ANSWER, "perhaps not from its code: is it deployed"),
        (403, HTML, "<p>inner", Unreachable, NO_USABLE_ANSWER, "perhaps from ingress, IAP or VPC Service"),
        (404, {}, "", Unreachable, NO_USABLE_ANSWER, "status 404; its own log says more"),
        (304, {}, "", Unreachable, NO_USABLE_ANSWER, "status 304; its own log says more"),
        (403, JSON, '{"error": "inner"}', Unreachable, NO_USABLE_ANSWER, "status 403; its own log says"),
        (307, {**JSON, "Location": "/"}, "{}", Unreachable, NO_USABLE_ANSWER, "redirects are not followed"),
        (200, JSON, "[" * 99999, Unreachable, NO_USABLE_ANSWER, "status 200; not valid JSON"),
        (200, JSON, '{"inner', Unreachable, NO_USABLE_ANSWER, "status 200; not valid JSON"),
        (200, JSON, " " * (1024 * 1024 + 1), Unreachable, NO_USABLE_ANSWER, "larger than 1 MiB"),
        (200, {"Content-Length": "99", "Connection": "close"}, "{}", Unreachable,
         "other-one gave no whole answer.", "the connection broke before the whole answer came"),
        (403, HTML, REFUSAL, Refused, "other-one does not let this function in.",
         "status 403; write front into the second column of other-one in trust-map, if it is meant"),
        (429, HTML, "inner", Busy, "other-one is busy.", "status 429; more instances help"),
        (503, {"Retry-After": "9"}, "inner", Busy, "other-one is busy.", "status 503; more instances"),
        (429, JSON, '{"error": "inner"}', Busy, "other-one is busy.", "status 429; its own log says more"),
        (200, {**JSON, "Content-Encoding": "gzip"}, "inner", Unreachable, NO_USABLE_ANSWER,
         "it is no HTTP that can be read (DecodeError)"),
    ],
)  # fmt: skip
def test_an_error_names_its_true_cause(
    function, receiver, monkeypatch, caplog, status, headers, body, kind, sentence, reason
):
    monkeypatch.setenv("K_SERVICE", "front")  # the name that the platform gives to the calling function
    receiver.answer = lambda request: (status, headers, body)
    with pytest.raises(kind) as raised:
        function.call("GET", "/")
    assert raised.type is kind
    assert raised.value.description == sentence
    assert raised.value.code == (503 if kind is Busy else 502)
    [record] = [r for r in caplog.records if r.name == "shared.calls"]
    assert record.message.startswith(f"{sentence} Reason: ") and reason in record.message
    assert "inner" not in record.message
    if "log says" not in reason:
        assert "log says" not in record.message


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # urllib3 leaves its socket to the garbage collector
def test_an_answer_that_is_no_http_is_named(function, receiver, caplog):
    receiver.answer = lambda request: (200, {**JSON, "Content-Length": "2, 5"}, "inner")
    with pytest.raises(Unreachable, match=NO_USABLE_ANSWER):
        function.call("GET", "/")
    assert "it is no HTTP that can be read (InvalidHeader)" in caplog.text
    gc.collect()


@pytest.mark.parametrize("status", [401, 403, 404])
def test_what_is_no_page_is_not_taken_for_the_platform_s(function, receiver, caplog, status):
    receiver.answer = lambda request: (status, {"Content-Type": "text/plain"}, "inner")
    with pytest.raises(Unreachable):
        function.call("GET", "/")
    [record] = [r for r in caplog.records if r.name == "shared.calls"]
    assert record.message.endswith(f"Reason: status {status}; not JSON: text/plain")


@pytest.mark.parametrize("status, reason", [(403, "perhaps from ingress"), (404, "is it deployed")])
def test_a_page_is_no_answer_to_head_either(function, receiver, caplog, status, reason):
    receiver.answer = lambda request: (status, HTML, "")
    with pytest.raises(Unreachable):
        function.call("HEAD", "/", expect=(404,))
    assert reason in caplog.text


def test_who_is_busy_is_asked_again_later(function, receiver):
    receiver.answer = lambda request: (429, {}, "")
    with pytest.raises(Busy) as raised:
        function.call("GET", "/")
    assert ("Retry-After", "1") in raised.value.get_headers()


def test_the_sentence_of_the_other_function_can_be_had_and_is_not_passed_on(
    function, receiver, caplog
):
    receiver.answer = as_json(400, {"error": "pieces must be 1 to 9."})
    with pytest.raises(Unreachable) as raised:
        function.call("POST", "/", json={})
    assert raised.value.said == "pieces must be 1 to 9."
    assert "pieces" not in raised.value.description + caplog.text


def test_a_redirect_takes_the_token_nowhere(function, receiver):
    elsewhere = Fake()
    location = {"Location": f"http://{elsewhere.address}/"}
    receiver.answer = lambda request: (307, location, "")
    try:
        with pytest.raises(Unreachable):
            function.call("GET", "/")
        assert elsewhere.requests == []
    finally:
        elsewhere.close()


def test_cookies_are_not_kept_from_one_call_to_the_next(function, receiver):
    receiver.answer = lambda request: (200, {**JSON, "Set-Cookie": "who=grace; Path=/"}, "{}")
    function.call("GET", "/")
    function.call("GET", "/")
    assert [request.headers.get("Cookie") for request in receiver.requests] == [None] * 2


def test_neither_netrc_nor_a_proxy_has_a_part_in_it(function, receiver, monkeypatch, tmp_path):
    netrc = tmp_path / ".netrc"
    netrc.write_text("machine 127.0.0.1 login mallory password mallory")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # nothing listens there
    function.call("GET", "/")
    assert receiver.requests[0].headers["Authorization"].startswith("Bearer ey")


def test_nobody_there_is_named_with_the_address(metadata, monkeypatch, caplog):
    monkeypatch.setenv("OTHER_ONE_URL", "http://127.0.0.1:9")
    with pytest.raises(Unreachable, match="other-one cannot be reached.") as raised:
        Function("other-one").call("POST", "/", json={})
    assert raised.value.description == "other-one cannot be reached."  # no doubt: nothing can have happened
    assert "does it run, at http://127.0.0.1:9?" in caplog.text


def test_before_tls_is_agreed_on_nothing_can_have_happened(metadata, receiver, monkeypatch, caplog):
    monkeypatch.setenv("OTHER_ONE_URL", f"https://{receiver.address}")  # it speaks no TLS
    with pytest.raises(Unreachable) as raised:
        Function("other-one").call("POST", "/", json={})
    assert raised.value.description == "other-one cannot be reached."
    assert "SSLError; does it run, at https://" in caplog.text


def test_a_function_without_a_url_is_named():
    with pytest.raises(RuntimeError, match="NO_SUCH_URL is not set: where is the function no-such"):
        Function("no-such")


# ---- One deadline


class Raw(Fake):
    """Answers every request with `parts`, one every tenth of a second."""

    parts = ()

    def finish_request(self, request, client_address):
        self.read(request)
        for part in self.parts:
            request.sendall(part)
            if self.released.wait(0.1):
                break
        request.close()

    def read(self, connection):
        asked = b""
        while b"\r\n\r\n" not in asked and (part := connection.recv(65536)):
            asked += part
        if asked:
            self.requests.append(asked.split(b" ")[0].decode())
        return asked


@pytest.fixture
def raw(metadata, monkeypatch):
    server = Raw()
    monkeypatch.setenv("RAW_URL", f"http://{server.address}")
    yield server
    server.close()


@pytest.mark.parametrize("what", ["token", "answer"])
def test_one_deadline_covers_token_connection_and_answer(metadata, receiver, monkeypatch, caplog, what):  # fmt: skip
    monkeypatch.setenv("OTHER_ONE_URL", f"http://{receiver.address}")
    function = Function("other-one", timeout=60)
    if what == "token":
        metadata.identity = metadata.hang
    else:
        function.call("GET", "/")  # now it has a token
        receiver.answer = receiver.hang
    begun = time.monotonic()
    with pytest.raises(NoToken if what == "token" else TimedOut) as raised:
        function.call("GET", "/", timeout=0.7)
    assert 0.6 < time.monotonic() - begun < 30  # the other end hangs for a minute
    assert raised.value.code == (503 if what == "token" else 504)
    assert what == "answer" or "none in 0." in caplog.text  # the time that was left, not the usual 5 s


OK = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(
    "begin, drop",
    [
        (OK + b"Content-Length: 9999\r\n\r\n", b" "),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
        (b"HTTP/1.1 302 Found\r\nLocation: /\r\n\r\n", b" "),
    ],
)
def test_a_body_that_comes_drop_by_drop_is_given_up_on_in_time(raw, begin, drop):
    """Each drop comes in time, but they never end."""
    function, raw.parts = Function("raw", timeout=60), [b"HTTP/1.1 204 No Content\r\n\r\n"]
    function.call("GET", "/")  # now it has a token
    raw.parts = [begin, *itertools.repeat(drop, 600)]
    begun = time.monotonic()
    with pytest.raises(TimedOut):
        function.call("GET", "/", timeout=0.7)
    assert time.monotonic() - begun < 30


def test_the_body_of_a_redirect_has_a_bound_too(raw):
    redirect, mebibyte = b"HTTP/1.1 302 Found\r\nLocation: /\r\n\r\n", b" " * 1024 * 1024
    raw.parts = [redirect, *itertools.repeat(mebibyte, 600)]
    with pytest.raises(Unreachable, match="raw gave no usable answer."):
        Function("raw").call("GET", "/")


def test_a_slow_answer_is_asked_for_once(function, receiver):
    function.call("GET", "/")  # now it has a token and a connection
    receiver.answer = receiver.hang
    with pytest.raises(TimedOut):
        function.call("GET", "/", timeout=0.3)
    assert len(receiver.requests) <= 2  # on a slow machine the time may be over before it is sent


# ---- Connections that have died


class Dying(Raw):
    """Answers the first request of a connection, and resets it when a second one comes."""

    def finish_request(self, request, client_address):
        if self.read(request):
            request.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
                            b"Content-Length: 2\r\n\r\n{}")  # fmt: skip
            self.read(request)
            linger = b"\x01\x00\x00\x00\x00\x00\x00\x00"
            request.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        request.close()


@pytest.fixture
def dying(metadata, monkeypatch):
    server = Dying()
    monkeypatch.setenv("DYING_URL", f"http://{server.address}")
    yield server
    server.close()


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
def test_a_dead_connection_costs_a_call_that_can_be_repeated_nothing(dying, caplog, method):
    function = Function("dying")
    function.call("GET", "/")
    assert function.call(method, "/", repeatable=True if method == "POST" else None)[0] == 200
    assert "dying" not in caplog.text


def test_a_call_that_cannot_be_repeated_says_that_it_may_have_happened(dying):
    function = Function("dying")
    function.call("GET", "/")
    with pytest.raises(Unreachable) as raised:
        function.call("POST", "/")
    assert raised.value.description == (
        "dying gave no whole answer, but it may have done what it was asked."
    )
    assert dying.requests.count("POST") == 1


def test_what_was_read_from_a_file_is_not_sent_again(dying):
    function = Function("dying")
    function.call("GET", "/")
    with pytest.raises(Unreachable, match="may have done what it was asked"):
        function.call("PUT", "/", data=io.BytesIO(b"all of it"), repeatable=True)
    assert dying.requests.count("PUT") == 1


def test_a_slow_call_that_cannot_be_repeated_says_so_too(function, receiver):
    function.call("GET", "/")  # now it has a token
    receiver.answer = receiver.hang
    with pytest.raises(TimedOut, match="in time, but it may have done what it was asked."):
        function.call("DELETE", "/", timeout=0.3)


def test_a_repetition_stays_within_the_deadline(function, receiver):
    class Broken(Exception):
        pass

    def break_first(request):
        receiver.answer = receiver.hang
        raise Broken  # closes the connection without an answer

    function.call("GET", "/")  # now it has a token
    receiver.answer = break_first
    begun = time.monotonic()
    with pytest.raises(TimedOut):
        function.call("GET", "/", timeout=2)
    assert time.monotonic() - begun < 30
    assert len(receiver.requests) == 3


def test_a_connection_that_was_kept_for_long_is_not_used(function, receiver, monkeypatch):
    """The other end may have closed it, unnoticed: the packet got lost, or the instance was frozen."""
    function.call("POST", "/")
    function.call("POST", "/")
    assert len(receiver.connections) == 1
    later = time.time() + connections.LONGEST_KEPT
    monkeypatch.setattr(time, "time", lambda: later)
    function.call("POST", "/")
    assert len(receiver.connections) == 2


def test_as_many_threads_may_call_as_the_function_has():
    code = "from shared import connections; print(connections.THREADS)"
    for threads in ("7", "120"):
        said = run(sys.executable, "-c", code, env={**os.environ, "THREADS": threads})
        assert said.stdout.strip() == threads


def test_as_many_connections_are_kept_as_threads_may_call(metadata, receiver, monkeypatch):
    threads = 120
    monkeypatch.setattr(connections, "THREADS", threads)
    monkeypatch.setattr(connections, "LONGEST_KEPT", 600)  # on a slow machine, too
    monkeypatch.setenv("OTHER_ONE_URL", f"http://{receiver.address}")
    function, together = Function("other-one"), threading.Barrier(threads)

    def answer(request):
        together.wait(30)
        return 200, JSON, "{}"

    receiver.answer = answer
    for _ in range(2):
        with concurrent.futures.ThreadPoolExecutor(threads) as pool:
            calls = [pool.submit(function.call, "GET", "/") for _ in range(threads)]
            assert [call.result()[0] for call in calls] == [200] * threads
    assert len(receiver.connections) == threads


# ---- Listeners


def test_a_listener_hears_of_each_call_how_it_ended(function, receiver):
    heard = []

    def listen(sender, outcome, seconds):
        heard.append((sender.name, outcome, seconds > 0))

    with call_made.connected_to(listen):
        function.call("GET", "/")
        receiver.answer = lambda request: (403, HTML, REFUSAL)
        with pytest.raises(Refused):
            function.call("GET", "/")
    assert heard == [("other-one", 200, True), ("other-one", "Refused", True)]
