"""Whatever is sent: JSON from the functions, and never a status of 500 or above."""

import base64
import json
import string

import pytest
import requests
from names import LOGIN, USER_PROFILES
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

some = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
fields = st.sampled_from(["username", "password", "display_name"])
bodies = json_values | st.dictionaries(fields, json_values)
paths = st.text(string.printable.replace("#", "").replace("?", ""), max_size=40)
header_text = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=80)


@pytest.fixture(scope="module")
def session():
    with requests.Session() as session:
        yield session


def is_proper(answer):
    """Holds for every answer of a function."""
    assert answer.status_code < 500, answer.text
    assert answer.headers["Content-Type"] == "application/json"
    if answer.status_code >= 400 and answer.request.method != "HEAD":
        assert answer.json().keys() == {"error"}


@pytest.fixture(params=[(LOGIN, "you"), (USER_PROFILES, LOGIN)], ids=[LOGIN, USER_PROFILES])
def let_in(request, project, session):
    """Calls a function as somebody who is let in."""
    name, caller = request.param
    token = project.token(caller, None if caller == "you" else project.url(name))

    def call(method, path, headers=None, **content):
        headers = {"Authorization": f"Bearer {token}", **(headers or {})}
        url = project.url(name) + path
        return session.request(
            method, url, headers=headers, timeout=30, allow_redirects=False, **content
        )

    return call


@some
@given(path=st.sampled_from(["/", "/signup", "/profiles", "/profiles/verify"]), body=bodies)
def test_any_json_body(let_in, path, body):
    is_proper(let_in("POST", path, {"Content-Type": "application/json"}, data=json.dumps(body)))


@some
@given(body=st.binary(max_size=200), kind=st.sampled_from(["application/json", "text/plain"]))
def test_any_bytes(let_in, body, kind):
    is_proper(let_in("POST", "/", {"Content-Type": kind}, data=body))


@some
@given(path=paths, method=st.sampled_from("GET POST PUT DELETE PATCH OPTIONS HEAD".split()))
def test_any_path_and_method(let_in, path, method):
    is_proper(let_in(method, "/x" + path))


@some
@given(
    name=st.sampled_from(["Accept", "Traceparent", "X-Forwarded-For", "Cookie", "Range"]),
    value=header_text,
)
def test_any_header(let_in, name, value):
    is_proper(let_in("OPTIONS", "/", {name: value}))


@some
@given(q=st.text(max_size=60))
def test_any_question_to_search(let_in, q):
    is_proper(let_in("GET", "/search", params={"q": q}))


@some
@given(
    credential=header_text, header=st.sampled_from(["Authorization", "X-Serverless-Authorization"])
)
def test_any_credential_is_refused(project, session, credential, header):
    url = project.url(USER_PROFILES)
    answer = session.options(url, headers={header: credential}, timeout=30)
    assert answer.status_code == (401 if credential else 403)


@some
@given(segments=st.lists(st.binary(max_size=40), min_size=3, max_size=3))
def test_any_three_segments_are_no_token(project, session, segments):
    token = b".".join(base64.urlsafe_b64encode(s).rstrip(b"=") for s in segments).decode()
    headers = {"Authorization": f"Bearer {token}"}
    assert (
        session.options(project.url(USER_PROFILES), headers=headers, timeout=30).status_code == 401
    )
