"""A script on a developer's machine, which calls as the person who is logged in to gcloud."""

import pytest

from shared.calls import Function, NoToken, Refused, Unreachable
from shared.gcloud import GcloudAuth

GCLOUD = "32555940559.apps.googleusercontent.com"  # the audience of every person's token
HTML = {"Content-Type": "text/html; charset=UTF-8"}
NOT_LET_IN = "<h2>Your client does not have permission to get URL <code>/</code> from this server.</h2>"


@pytest.fixture
def gcloud(monkeypatch, tmp_path):
    """Makes a gcloud that runs these lines of sh."""

    def make(script):
        (tmp_path / "gcloud").write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "gcloud").chmod(0o700)

    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.delenv("K_SERVICE", raising=False)
    return make


@pytest.fixture
def other(receiver, monkeypatch):
    monkeypatch.setenv("OTHER_URL", f"http://{receiver.address}")
    return lambda: Function("other", auth=GcloudAuth)


def test_the_token_is_the_person_s_and_is_fetched_once(gcloud, other, receiver, metadata, tmp_path):
    token = metadata.token(aud=GCLOUD, email="ada@example.com")
    gcloud(f'echo "$@" >> {tmp_path}/asked; echo {token}')
    function = other()
    for _ in range(2):
        assert function.call("GET", "/") == (200, {})
    assert {r.headers["Authorization"] for r in receiver.requests} == {f"Bearer {token}"}
    assert (tmp_path / "asked").read_text() == "auth print-identity-token\n"
    assert metadata.identity_requests == []


def test_gcloud_is_never_asked_unless_it_was_chosen(gcloud, receiver, metadata, monkeypatch, tmp_path):
    gcloud(f"touch {tmp_path}/asked")
    metadata.identity = lambda request: (404, {}, "")
    monkeypatch.setenv("OTHER_URL", f"http://{receiver.address}")
    with pytest.raises(NoToken):
        Function("other").call("GET", "/")
    assert not (tmp_path / "asked").exists() and receiver.requests == []


@pytest.mark.parametrize("script", ["echo inner secret >&2; exit 1", "echo nonsense", ""])
def test_where_gcloud_has_no_token_the_next_command_is_named(gcloud, other, receiver, caplog, script):
    gcloud(script)
    with pytest.raises(NoToken):
        other().call("GET", "/")
    assert "`gcloud auth print-identity-token` print one? If not: gcloud auth login" in caplog.text
    assert "secret" not in caplog.text and receiver.requests == []


def test_whoever_is_refused_is_named_as_the_map_names_a_person(gcloud, other, receiver, metadata, caplog):
    gcloud(f"echo {metadata.token(aud=GCLOUD, email='ada@example.com')}")
    receiver.answer = lambda request: (403, HTML, NOT_LET_IN)
    with pytest.raises(Refused):
        other().call("GET", "/")
    assert "write user:ada@example.com into the second column of other in trust-map" in caplog.text


def test_where_the_audience_is_refused_its_rules_are_explained(gcloud, other, receiver, metadata, caplog):
    gcloud(f"echo {metadata.token(aud=GCLOUD, email='ada@example.com')}")
    receiver.answer = lambda request: (401, HTML, "")
    with pytest.raises(Unreachable):
        other().call("GET", "/")
    assert "a person's token has gcloud's own audience, which Cloud Run accepts" in caplog.text
    assert "impersonate a service account" in caplog.text
