"""ID tokens, fetched by the real google-auth from a fake metadata server."""

import concurrent.futures
import logging
import threading

import pytest
import requests

from shared.auth import IDTokenAuth, TokenError, caller

RECEIVER = "https://receiver.example"
TEXT = {"Content-Type": "text/html"}


def prepared(url=RECEIVER):
    return requests.Request("GET", url).prepare()


def test_80_threads_on_a_cold_start_make_one_identity_request(metadata, receiver):
    token_auth = IDTokenAuth(f"http://{receiver.address}")
    start = threading.Barrier(80)

    def call(_):
        start.wait(30)
        return requests.get(f"http://{receiver.address}/", auth=token_auth, timeout=30).status_code

    with concurrent.futures.ThreadPoolExecutor(80) as pool:
        assert list(pool.map(call, range(80))) == [200] * 80
    assert len(metadata.identity_requests) == 1
    assert len({request.headers["Authorization"] for request in receiver.requests}) == 1


def test_the_token_is_for_the_audience_and_names_the_service_account(metadata):
    token_auth = IDTokenAuth(RECEIVER + "/")
    assert token_auth(prepared()).headers["Authorization"].startswith("Bearer ey")
    assert "audience=https%3A%2F%2Freceiver.example&" in metadata.identity_requests[0].path
    assert token_auth.principal == "serviceAccount:caller@example.com"


def test_the_url_may_be_another_than_the_audience(metadata):
    token_auth = IDTokenAuth(RECEIVER, "https://next---receiver.example")
    token_auth(prepared("https://next---receiver.example/"))
    assert "audience=https%3A%2F%2Freceiver.example&" in metadata.identity_requests[0].path
    with pytest.raises(TokenError, match="must not be sent elsewhere"):
        token_auth(prepared())


def test_a_hanging_metadata_server_is_given_up_on_in_time(metadata):
    metadata.identity = metadata.hang
    with pytest.raises(TokenError, match=f"no ID token for {RECEIVER}: none in 0.2 s"):
        IDTokenAuth(RECEIVER)(prepared(), longest_wait=0.2)


USELESS_ANSWERS = [
    # google-auth retries for a while; the caller does not wait for that.
    (lambda fake, request: (500, {}, "inner secret"), "none in 0.2 s; check the metadata server"),
    (lambda fake, request: (429, {}, "inner secret"), "none in 0.2 s; check the metadata server"),
    (lambda fake, request: (404, {}, "inner secret"), "check the metadata server"),
    (lambda fake, request: (200, TEXT, "inner.secret.nonsense"), "check the metadata server"),
    (lambda fake, request: (200, TEXT, ""), "check the metadata server"),
    (lambda fake, request: (200, TEXT, fake.token(aud="https://other")), "for another audience"),
    (lambda fake, request: (200, TEXT, fake.token(aud=RECEIVER, exp=1)), "or an expired one"),
    (lambda fake, request: (200, TEXT, fake.token(aud=RECEIVER, exp="x")), "and the clock"),
]


@pytest.mark.parametrize("identity, cause", USELESS_ANSWERS)
def test_where_there_is_no_token_there_is_an_error(metadata, caplog, identity, cause):
    metadata.identity = lambda request: identity(metadata, request)
    token_auth = IDTokenAuth(RECEIVER)
    with pytest.raises(TokenError, match=f"no ID token for {RECEIVER}: .*{cause}") as raised:
        token_auth(prepared(), longest_wait=0.2 if "0.2" in cause else 30)
    assert "secret" not in caplog.text + str(raised.value)
    # It recovers as soon as a token can be fetched again.
    metadata.identity = metadata.good_token
    assert token_auth(prepared(), longest_wait=30).headers["Authorization"].startswith("Bearer ey")


def test_an_agent_identity_is_named_with_its_remedy(metadata):
    subject = "spiffe://agents.global.org-1.system.id.goog/resources/run/x"
    metadata.identity = lambda request: (200, TEXT, metadata.token(aud=RECEIVER, sub=subject))
    with pytest.raises(TokenError, match="an agent identity .* impersonate one"):
        IDTokenAuth(RECEIVER)(prepared())


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
    with pytest.raises(TokenError, match="must not be sent elsewhere"):
        IDTokenAuth(RECEIVER)(prepared(url))
    assert metadata.requests == []


@pytest.mark.parametrize(
    "address", ["http://receiver.example", "http://127.0.0.1.example", "ftp://127.0.0.1", "", "a"]
)
def test_a_token_is_sent_over_https_or_on_this_machine_only(address):
    with pytest.raises(ValueError, match="over https only"):
        IDTokenAuth(address)
    with pytest.raises(ValueError, match="over https only"):
        IDTokenAuth(RECEIVER, address or "x")


def test_an_audience_with_a_path_is_not_the_whole_host(metadata):
    token_auth = IDTokenAuth("https://region-project.cloudfunctions.net/mine")
    with pytest.raises(TokenError):
        token_auth(prepared("https://region-project.cloudfunctions.net/other"))


def test_no_token_is_logged(metadata, receiver, caplog):
    caplog.set_level(logging.DEBUG)
    url = f"http://{receiver.address}"
    requests.get(url, auth=IDTokenAuth(url), timeout=30)
    assert receiver.requests[0].headers["Authorization"].startswith("Bearer ey")
    metadata.identity = lambda request: (200, TEXT, "a.b." + "eyJ" * 9)
    with pytest.raises(TokenError) as raised:
        IDTokenAuth(url)(prepared(url))
    assert caplog.records and "eyJ" not in caplog.text + str(raised.value)


def test_the_caller_is_who_the_checked_token_names(metadata):
    by = metadata.token(aud=RECEIVER, email="by@example.com")
    for_somebody = metadata.token(aud=RECEIVER, email="for@example.com")
    assert caller({"Authorization": f"Bearer {by}"}) == "by@example.com"
    both = {"X-Serverless-Authorization": f"bearer {by}", "Authorization": for_somebody}
    assert caller(both) == "by@example.com"
    no_email = metadata.token(aud=RECEIVER, email=None, sub="117")
    assert caller({"Authorization": f"Bearer {no_email}"}) == "117"
    assert caller({}) == caller({"Authorization": "Basic eyJ"}) == "nobody"
