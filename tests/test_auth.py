"""The auth helper alone, with google-auth in it, against a metadata server of the tests."""

import concurrent.futures
import logging
import threading
import time

import google.auth.compute_engine._metadata as google_metadata
import pytest
import requests
from fakes import FakeMetadata

from shared import auth
from shared.auth import IDTokenAuth, TokenError
from shared.calls import Function, TimedOut

RECEIVER = "https://receiver.example"
TEXT = {"Content-Type": "text/html"}


@pytest.fixture
def metadata(monkeypatch):
    fake = FakeMetadata()
    # google-auth reads the first of these when it is imported, so it is told directly.
    monkeypatch.setattr(google_metadata, "_GCE_METADATA_HOST", fake.address)
    monkeypatch.setenv("GCE_METADATA_IP", fake.address)
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    yield fake
    fake.close()


def test_80_threads_on_a_cold_start_make_one_identity_request(metadata, receiver):
    token_auth = IDTokenAuth(f"http://{receiver.address}")
    start = threading.Barrier(80)

    def call():
        start.wait()
        return requests.get(f"http://{receiver.address}/", auth=token_auth, timeout=30).status_code

    with concurrent.futures.ThreadPoolExecutor(80) as pool:
        calls = [pool.submit(call) for _ in range(80)]
        assert [c.result() for c in calls] == [200] * 80
    assert len(metadata.identity_requests) == 1
    assert len({request.headers["Authorization"] for request in receiver.requests}) == 1


def test_a_token_is_renewed_before_it_expires_and_no_call_waits(metadata, receiver, monkeypatch):
    url = f"http://{receiver.address}/"
    token_auth = IDTokenAuth(url)
    metadata.lifetime = 200  # inside the window of renewal from the beginning
    requests.get(url, auth=token_auth, timeout=30)
    monkeypatch.setattr(token_auth, "_renew_at", 0)

    asked, release = threading.Event(), threading.Event()

    def slow(request):
        asked.set()
        release.wait(30)
        return metadata.good_token(request)

    metadata.identity, metadata.lifetime = slow, 3600
    # The renewal is under way, and unanswered: calls go on with the old token.
    for _ in range(10):
        assert requests.get(url, auth=token_auth, timeout=30).status_code == 200
    assert asked.wait(30)
    old = receiver.requests[0].headers["Authorization"]
    assert {request.headers["Authorization"] for request in receiver.requests} == {old}
    renewal = token_auth._fetch
    release.set()
    renewal.result(30)
    requests.get(url, auth=token_auth, timeout=30)
    assert receiver.requests[-1].headers["Authorization"] != old
    assert len(metadata.identity_requests) == 2


def test_a_server_that_repeats_an_old_token_is_not_asked_by_every_call(metadata, receiver):
    metadata.lifetime = 100
    url = f"http://{receiver.address}/"
    token_auth = IDTokenAuth(url)
    for _ in range(50):
        requests.get(url, auth=token_auth, timeout=30)
    assert len(metadata.identity_requests) == 1


def test_a_hanging_metadata_server_is_given_up_on(metadata, monkeypatch):
    monkeypatch.setattr(auth, "LONGEST_WAIT", 0.5)
    metadata.identity = metadata.hang
    token_auth = IDTokenAuth("https://receiver.example")
    prepared = requests.Request("GET", "https://receiver.example/").prepare()
    started = time.monotonic()
    with pytest.raises(TokenError, match="no ID token for https://receiver.example: none in 0.5 s"):
        token_auth(prepared)
    assert time.monotonic() - started < 10
    # The next call does not wait for the one that hangs: it asks again.
    metadata.identity = metadata.good_token
    assert token_auth(prepared).headers["Authorization"].startswith("Bearer ey")


USELESS_ANSWERS = [
    lambda fake, request: (500, {}, "inner secret"),
    lambda fake, request: (429, {}, "inner secret"),
    lambda fake, request: (404, {}, "inner secret"),
    lambda fake, request: (200, TEXT, "inner.secret.nonsense"),
    lambda fake, request: (200, TEXT, ""),
    lambda fake, request: (200, TEXT, fake.token(aud="https://other")),
    lambda fake, request: (200, TEXT, fake.token(aud=RECEIVER, exp=1)),
    lambda fake, request: (200, TEXT, fake.token(aud=RECEIVER, exp="x")),
]


@pytest.mark.parametrize("identity", [*USELESS_ANSWERS, lambda fake, request: fake.hang()])
def test_no_call_notices_that_a_renewal_fails_while_the_token_is_good(
    metadata, receiver, monkeypatch, identity
):
    monkeypatch.setattr(auth, "LONGEST_WAIT", 0.5)
    url = f"http://{receiver.address}/"
    token_auth = IDTokenAuth(url)
    requests.get(url, auth=token_auth, timeout=30)
    kept, asked = receiver.requests[0].headers["Authorization"], threading.Event()

    def answer(request):
        asked.set()
        return identity(metadata, request)

    metadata.identity = answer
    monkeypatch.setattr(token_auth, "_renew_at", 0)
    for n in range(10):
        assert requests.get(url, auth=token_auth, timeout=30).status_code == 200
        assert n or asked.wait(30)
    assert {request.headers["Authorization"] for request in receiver.requests} == {kept}


def test_a_failed_renewal_is_tried_again_after_a_while_and_logged(
    metadata, receiver, monkeypatch, caplog
):
    url = f"http://{receiver.address}/"
    token_auth = IDTokenAuth(url)
    requests.get(url, auth=token_auth, timeout=30)
    metadata.requests.clear()
    metadata.identity = lambda request: (200, TEXT, "inner.secret.nonsense")
    monkeypatch.setattr(token_auth, "_renew_at", 0)
    requests.get(url, auth=token_auth, timeout=30)
    while token_auth._fetch:
        pass
    for _ in range(10):
        requests.get(url, auth=token_auth, timeout=30)
    # Fifteen seconds have not passed.
    assert len(metadata.identity_requests) == 1
    [record] = caplog.records
    assert record.levelname == "WARNING" and "Nobody waits for this token now" in record.message
    assert "check the metadata server" in record.message and "secret" not in record.message


@pytest.mark.parametrize("identity", USELESS_ANSWERS)
def test_where_there_is_no_token_there_is_an_error(metadata, monkeypatch, caplog, identity):
    monkeypatch.setattr(auth, "LONGEST_WAIT", 0.5)
    metadata.identity = lambda request: identity(metadata, request)
    with pytest.raises(TokenError, match=f"no ID token for {RECEIVER}") as raised:
        IDTokenAuth(RECEIVER)(requests.Request("GET", RECEIVER).prepare())
    assert "secret" not in caplog.text + str(raised.value)


@pytest.mark.parametrize(
    "url",
    [
        "https://receiver.example.evil.example/",
        "https://receiver.example@evil.example/",
        "https://receiver.example:444/",
        "http://receiver.example/",
        "https://evil.example/https://receiver.example/",
        "https://evil.example/",
    ],
)
def test_a_token_is_sent_to_its_audience_only(metadata, url):
    token_auth = IDTokenAuth("https://receiver.example")
    with pytest.raises(TokenError, match="must not be sent elsewhere"):
        token_auth(requests.Request("GET", url).prepare())
    assert metadata.requests == []


@pytest.mark.parametrize(
    "audience", ["http://receiver.example", "http://127.0.0.1.example", "ftp://127.0.0.1", "", "a"]
)
def test_a_token_is_sent_over_https_or_on_this_machine_only(audience):
    with pytest.raises(ValueError, match="over https only"):
        IDTokenAuth(audience)


def test_an_audience_with_a_path_is_not_the_whole_host(metadata):
    token_auth = IDTokenAuth("https://region-project.cloudfunctions.net/mine")
    other = requests.Request("GET", "https://region-project.cloudfunctions.net/other").prepare()
    with pytest.raises(TokenError):
        token_auth(other)


def test_no_token_is_logged(metadata, receiver, caplog):
    caplog.set_level(logging.DEBUG)
    token_auth = IDTokenAuth(f"http://{receiver.address}")
    requests.get(f"http://{receiver.address}/", auth=token_auth, timeout=30)
    metadata.identity = lambda request: (200, {"Content-Type": "text/html"}, "a.b." + "eyJ" * 9)
    token_auth._claims = {"exp": 0}
    with pytest.raises(TokenError) as raised:
        token_auth(requests.Request("GET", f"http://{receiver.address}/").prepare())
    assert "eyJ" not in caplog.text + str(raised.value)
    assert "no ID token for http://127.0.0.1" in str(raised.value)


def test_an_answer_that_drips_is_given_up_on(metadata, receiver, monkeypatch):
    """Each drop comes in time, but there is no end of them."""
    monkeypatch.setenv("RECEIVER_URL", f"http://{receiver.address}")
    receiver.drip = True
    started = time.monotonic()
    with pytest.raises(TimedOut, match="receiver did not answer in time."):
        Function("receiver", timeout=(0.5, 1)).call("GET", "/")
    assert time.monotonic() - started < 10
