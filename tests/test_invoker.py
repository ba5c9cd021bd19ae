"""The invoker check alone: what it hands to the function behind it."""

import google.auth.jwt
import pytest
from names import LOGIN, USER_PROFILES
from werkzeug.test import Client


@pytest.fixture
def echo(project, monkeypatch):
    """A client of the check in front of a function that answers with what it was handed."""
    from local import invoker
    from local import project as state

    monkeypatch.setattr(state, "STATE", project.state)
    monkeypatch.setattr(invoker.tokens, "STATE", project.state)

    def function(environ, start_response):
        start_response("200 OK", [(k[5:], v) for k, v in environ.items() if k.startswith("HTTP_")])
        return [b""]

    client = Client(invoker.InvokerCheck(function, USER_PROFILES))
    token = project.token(LOGIN, project.url(USER_PROFILES))

    def call(**headers):
        given = {
            "Authorization": f"Bearer {token}",
            **{k.replace("_", "-"): v for k, v in headers.items()},
        }
        return client.get("/", base_url=project.url(USER_PROFILES), headers=given).headers

    call.token = token
    return call


def test_the_function_gets_the_token_without_its_signature(echo):
    handed = echo()["AUTHORIZATION"].removeprefix("Bearer ")
    head, _, signature = handed.rpartition(".")
    assert signature == "SIGNATURE_REMOVED_BY_GOOGLE"
    assert head == echo.token.rpartition(".")[0]
    assert google.auth.jwt.decode(handed, verify=False)["email"].startswith("login@")


def test_the_header_that_was_not_checked_passes_untouched(echo):
    handed = echo(X_Serverless_Authorization=f"bearer {echo.token}", Authorization="Basic mine")
    assert handed["AUTHORIZATION"] == "Basic mine"
    assert handed["X_SERVERLESS_AUTHORIZATION"].endswith(".SIGNATURE_REMOVED_BY_GOOGLE")


def test_the_function_learns_where_the_request_came_from(echo):
    handed = echo(X_Forwarded_For="203.0.113.7", X_Forwarded_Proto="gopher")
    assert handed["X_FORWARDED_FOR"] == "203.0.113.7,127.0.0.1"
    assert handed["X_FORWARDED_PROTO"] == "https"
    assert handed["FORWARDED"] == 'for="127.0.0.1";proto=https'


def test_a_trace_goes_on_and_a_new_one_begins_where_there_is_none(echo):
    trace = "0af7651916cd43dd8448eb211c80319c"
    handed = echo(Traceparent=f"00-{trace}-b7ad6b7169203331-01")
    assert handed["TRACEPARENT"].split("-")[1] == trace
    assert handed["X_CLOUD_TRACE_CONTEXT"].startswith(f"{trace}/")
    assert len(echo()["TRACEPARENT"].split("-")[1]) == 32
