"""The invoker check: who is let in, who is not, and what the function behind it gets."""

import google.auth.jwt
import pytest

from toys import call, raw

INVALID = 'Bearer error="invalid_token" error_description="The access token could not be verified"'
NO_PERMISSION = "Your client does not have permission"


@pytest.fixture
def handed(inner, token):
    """Sends headers to inner, and returns the headers that inner gets."""

    def send(**headers):
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        answer = call(inner, headers={"Authorization": f"Bearer {token}", **headers})
        assert answer.status_code == 200, answer.text
        return dict(answer.json()["headers"])

    return send


def test_outer_may_call_inner_and_closed_may_not(local, inner, token):
    assert call(inner, token).status_code == 200
    refused = call(inner, local.token("closed", inner))
    assert refused.status_code == 403
    assert NO_PERMISSION in refused.text


def test_who_brings_no_token_is_not_let_in(local, inner):
    refused = call(inner, path="/some/path")
    assert refused.status_code == 403
    assert refused.headers["Content-Type"] == "text/html; charset=UTF-8"
    assert "to get URL <code>/some/path</code> from this server" in refused.text
    assert local.log("inner", having="Empty Authorization header value.")


def test_a_binding_is_what_lets_in_and_its_removal_puts_out(local):
    url = local.url("closed")
    token = local.token("inner", url)
    assert call(url, token).status_code == 403
    local.let_in(local.member("inner"), "closed")
    try:
        assert call(url, token).status_code == 200
    finally:
        local.put_out(local.member("inner"), "closed")
    assert call(url, token).status_code == 403


def test_the_case_of_an_address_means_nothing(local):
    url = local.url("closed")
    local.let_in("USER:You@Example.com".replace("USER", "user"), "closed")
    try:
        you = local.gcloud("auth print-identity-token")
        assert call(url, you).status_code == 200
        policy = local.gcloud("run services get-iam-policy closed REGION")
        assert "user:You@Example.com" in policy
    finally:
        local.put_out("user:you@example.com", "closed")
    assert call(url, you).status_code == 403


def test_a_role_on_the_project_lets_in_to_every_function(local):
    url = local.url("closed")
    token = local.token("outer", url)
    what = f"local-project --member={local.member('outer')} --role=roles/writer --condition=None"
    assert call(url, token).status_code == 403
    local.gcloud(f"projects add-iam-policy-binding {what}")
    try:
        assert call(url, token).status_code == 200
    finally:
        local.gcloud(f"projects remove-iam-policy-binding {what}")
    assert call(url, token).status_code == 403


def test_a_public_function_is_handed_whatever_is_sent(local):
    url = local.url("closed")
    local.let_in("allUsers", "closed")
    try:
        assert call(url).status_code == 200
        answer = call(url, "garbage")
        assert dict(answer.json()["headers"])["Authorization"] == "Bearer garbage"
    finally:
        local.put_out("allUsers", "closed")
    assert call(url).status_code == 403


def test_all_authenticated_users_need_a_token_that_verifies(local):
    url = local.url("closed")
    local.let_in("allAuthenticatedUsers", "closed")
    try:
        assert call(url, local.token("inner", url)).status_code == 200
        assert call(url).status_code == 403
        assert call(url, "garbage").status_code == 401
    finally:
        local.put_out("allAuthenticatedUsers", "closed")


def test_the_invoker_check_can_be_switched_off_and_on(local):
    url = local.url("closed")
    local.gcloud("run services update closed REGION --no-invoker-iam-check")
    try:
        assert call(url).status_code == 200
        annotation = 'metadata.annotations."run.googleapis.com/invoker-iam-disabled"'
        shown = local.gcloud(f"run services describe closed REGION --format='value({annotation})'")
        assert shown == "True"
    finally:
        local.gcloud("run services update closed REGION --invoker-iam-check")
    assert call(url).status_code == 403


def test_a_change_of_a_binding_takes_effect_after_a_while_where_it_is_told_to(local):
    url = local.url("closed")
    token = local.token("inner", url)
    delay = local.state / "propagation.json"
    delay.write_text("3600")
    try:
        local.let_in(local.member("inner"), "closed")
        assert call(url, token).status_code == 403
        delay.unlink()
        local.let_in("user:somebody@example.com", "closed")  # another change, which takes effect at once
        assert call(url, token).status_code == 200
        delay.write_text("3600")
        local.put_out(local.member("inner"), "closed")
        assert call(url, token).status_code == 200
    finally:
        delay.unlink(missing_ok=True)
        local.put_out("user:somebody@example.com", "closed")
    assert call(url, token).status_code == 403


# ---- what the function gets


def test_the_function_gets_the_token_without_its_signature(handed, token):
    given = handed()["Authorization"].removeprefix("Bearer ")
    head, _, signature = given.rpartition(".")
    assert signature == "SIGNATURE_REMOVED_BY_GOOGLE"
    assert head == token.rpartition(".")[0]
    assert google.auth.jwt.decode(given, verify=False)["email"].startswith("outer-sa@")


def test_the_serverless_header_is_the_one_checked_and_the_other_passes_untouched(
    handed, inner, token
):
    given = handed(X_Serverless_Authorization=f"bearer {token}", Authorization="Basic mine")
    assert given["Authorization"] == "Basic mine"
    assert given["X-Serverless-Authorization"].endswith(".SIGNATURE_REMOVED_BY_GOOGLE")
    headers = {"X-Serverless-Authorization": "Bearer garbage"}
    assert call(inner, token, headers=headers).status_code == 401


def test_the_function_learns_where_the_request_came_from(handed):
    given = handed(X_Forwarded_For="203.0.113.7", X_Forwarded_Proto="gopher")
    assert given["X-Forwarded-For"] == "203.0.113.7,127.0.0.1"
    assert given["X-Forwarded-Proto"] == "https"
    assert given["Forwarded"] == 'for="127.0.0.1";proto=https'


def test_a_trace_goes_on_and_a_new_one_begins_where_there_is_none(handed):
    trace = "0af7651916cd43dd8448eb211c80319c"
    given = handed(Traceparent=f"00-{trace}-b7ad6b7169203331-01")
    assert given["Traceparent"].split("-")[1] == trace
    assert given["X-Cloud-Trace-Context"].startswith(f"{trace}/")
    assert len(handed()["Traceparent"].split("-")[1]) == 32


@pytest.mark.parametrize("rest", ["", "/1", "/12345;o=1"])
def test_a_trace_in_the_older_header_alone_keeps_its_id(handed, rest):
    trace = "0af7651916cd43dd8448eb211c80319c"
    given = handed(X_Cloud_Trace_Context=trace.upper() + rest)
    assert given["Traceparent"].split("-")[1] == trace
    assert given["X-Cloud-Trace-Context"].startswith(f"{trace}/")
    other = "1" * 32
    assert handed(X_Cloud_Trace_Context=f"{trace}/{'9' * 5000}")["Traceparent"]  # no span has so many digits
    given = handed(X_Cloud_Trace_Context=trace + rest, Traceparent=f"00-{other}-{'2' * 16}-01")
    assert given["Traceparent"].split("-")[1] == other


def test_the_host_is_the_one_that_was_called(handed, inner):
    assert handed()["Host"] == inner.removeprefix("http://")


# ---- what an attacker tries


@pytest.mark.parametrize(
    "line, headers, status",
    [
        ("OPTIONS / HTTP/1.1", ["Authorization: Bearer {good}"], 200),
        ("OPTIONS / HTTP/1.1", ["Authorization: bearer {good}"], 200),
        ("OPTIONS / HTTP/1.1", ["Authorization: Bearer {good}", "Authorization: Bearer x"], 401),
        ("OPTIONS / HTTP/1.1", ["Authorization: Bearer x", "Authorization: Bearer {good}"], 401),
        ("OPTIONS / HTTP/1.1", ["Authorization: Basic {good}"], 401),
        ("OPTIONS / HTTP/1.1", ["Authorization: {good}"], 401),
        ("OPTIONS / HTTP/1.1", ["Authorization: Bearer"], 401),
        ("OPTIONS / HTTP/1.1", ["Authorization:"], 403),
        ("OPTIONS / HTTP/1.1", ["X_Serverless_Authorization: Bearer {good}"], 403),
        ("OPTIONS / HTTP/1.1", ["Proxy-Authorization: Bearer {good}"], 403),
        ("OPTIONS / HTTP/1.1", ["Cookie: Authorization=Bearer {good}"], 403),
        ("OPTIONS /?access_token={good} HTTP/1.1", [], 403),
        ("OPTIONS / HTTP/1.1", ["X-Forwarded-For: 127.0.0.1", "X-Forwarded-Host: localhost"], 403),
        ("OPTIONS / HTTP/1.1", ["X-Goog-Authenticated-User-Email: outer@example.com"], 403),
        ("GET /healthz HTTP/1.1", ["Authorization: Bearer {good}"], 404),
        ("GET /%68ealthz HTTP/1.1", ["Authorization: Bearer {good}"], 404),
        ("GET /eventlog?a=b HTTP/1.1", ["Authorization: Bearer {good}"], 404),
        ("GET /_ah/health HTTP/1.1", ["Authorization: Bearer {good}"], 404),
        ("TRACE / HTTP/1.1", ["Authorization: Bearer {good}"], 405),
        ("OPTIONS * HTTP/1.1", ["Authorization: Bearer {good}"], 400),
        ("OPTIONS / HTTP/1.1", ["Connection: Authorization", "Authorization: Bearer {good}"], 200),
    ],
)  # fmt: skip
def test_smuggled_headers_and_tricky_paths(inner, token, line, headers, status):
    host = f"Host: {inner.removeprefix('http://')}"
    lines = [part.format(good=token) for part in (line, host, *headers)]
    assert raw(inner, *lines) == status


def test_a_foreign_host_reaches_nothing(inner, token):
    address = inner.removeprefix("http://")
    for line, host in (
        ("OPTIONS http://rebound.example/ HTTP/1.1", "rebound.example"),
        ("OPTIONS / HTTP/1.1", f"rebound.example:{address.rpartition(':')[2]}"),
        ("OPTIONS / HTTP/1.1", f"{address}.rebound.example"),
        ("OPTIONS http://rebound.example/ HTTP/1.1", address),
    ):
        assert raw(inner, line, f"Host: {host}", f"Authorization: Bearer {token}") in (400, 404)


def test_an_answer_repeats_a_path_as_text(inner):
    refused = raw(
        inner,
        "GET /<script>&x HTTP/1.1",
        f"Host: {inner.removeprefix('http://')}",
        "Connection: close",
        read_all=True,
    )
    assert b"<code>/&lt;script&gt;&amp;x</code>" in refused


def test_what_verify_asked_is_marked_in_the_log(local, inner):
    before = len(local.log("inner"))
    call(inner, headers={"User-Agent": "deploy.sh-verify"})
    assert local.log("inner", before, "(asked by deploy.sh verify)")
