"""The token endpoint: the exchange of a self-signed JWT, and impersonation."""

import base64
import json
import time

import google.auth.jwt
import pytest
import requests
from google.auth import impersonated_credentials
from google.auth.transport.requests import AuthorizedSession, Request
from google.oauth2 import service_account

from tool.local import tokens
from toys import call, signer_of

GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
UNREASONABLE = "Token must be a short-lived token (60 minutes) and in a reasonable timeframe."


@pytest.fixture(scope="module")
def key(local, tmp_path_factory):
    file = tmp_path_factory.mktemp("keys") / "key.json"
    local.gcloud(f"iam service-accounts keys create {file} --iam-account={local.email('outer')}")
    return json.loads(file.read_text())


def encoded(content):
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def signed_with(private, claims, header=()):
    head = {"alg": "RS256", "typ": "JWT", **dict(header)}
    text = ".".join(encoded(json.dumps(part).encode()) for part in (head, claims))
    return text + "." + encoded(signer_of(private).sign(text))


@pytest.fixture
def exchange(key):
    """Posts an assertion signed with outer's key, except for what the test changes."""

    def post(grant_type=GRANT, assertion=None, header=(), private=key["private_key"], **changes):
        now = int(time.time())
        claims = {
            "iss": key["client_email"],
            "aud": "https://oauth2.googleapis.com/token",
            "iat": now,
            "exp": now + 3600,
            "target_audience": "https://receiver.example",
            **changes,
        }
        claims = {name: value for name, value in claims.items() if value is not None}
        assertion = assertion or signed_with(private, claims, header)
        form = {"grant_type": grant_type, "assertion": assertion}
        return requests.post(key["token_uri"], data=form, timeout=20)

    return post


def test_a_self_signed_jwt_is_exchanged_for_an_id_token(exchange, local):
    answer = exchange()
    assert answer.status_code == 200
    claims = google.auth.jwt.decode(answer.json()["id_token"], verify=False)
    assert claims["aud"] == "https://receiver.example"
    assert claims["azp"] == claims["email"] == local.email("outer")


def test_one_with_a_scope_is_exchanged_for_an_access_token(exchange):
    answer = exchange(target_audience=None, scope="https://www.googleapis.com/auth/cloud-platform")
    assert answer.json()["access_token"].startswith("ya29.")


@pytest.mark.parametrize(
    "changes, error, description",
    [
        ({"grant_type": "password"}, "unsupported_grant_type", "Invalid grant_type: password"),
        ({"grant_type": ""}, "unsupported_grant_type", "Invalid grant_type: "),
        ({"assertion": "garbage"}, "invalid_request", "Bad Request"),
        ({"assertion": "a.b.c"}, "invalid_request", "Bad Request"),
        ({"assertion": "e30.e30"}, "invalid_request", "Bad Request"),
        ({"assertion": "e30.W10.AA"}, "invalid_request", "Bad Request"),
        ({"assertion": "e30.e30.AA="}, "invalid_request", "Bad Request"),
        ({"assertion": "A" * 20000}, "invalid_request", "Bad Request"),
        ({"assertion": "ü.ü.ü"}, "invalid_request", "Bad Request"),
        ({"header": {"crit": ["x"]}}, "invalid_request", "Bad Request"),
        ({"header": {"alg": "none"}}, "invalid_grant", "Invalid JWT Signature."),
        ({"header": {"alg": "HS256"}}, "invalid_grant", "Invalid JWT Signature."),
        ({"header": {"kid": "another"}}, "invalid_grant", "Invalid JWT Signature."),
        ({"iss": "nobody@example.com"}, "invalid_grant", "account not found"),
        ({"iss": None}, "invalid_grant", "account not found"),
        ({"iss": "you@example.com"}, "invalid_grant", "account not found"),
        ({"iss": "x" * 300}, "invalid_grant", "account not found"),
        ({"iss": "../project"}, "invalid_grant", "account not found"),
        ({"iss": "a\u0000b"}, "invalid_grant", "account not found"),
        ({"iss": ["a"]}, "invalid_grant", "account not found"),
        ({"iss": 5}, "invalid_grant", "account not found"),
        ({"iat": None}, "invalid_grant", "iat (issued at) is not set."),
        ({"exp": None}, "invalid_grant", "exp (expiration time) is not set."),
        ({"exp": True}, "invalid_grant", "exp (expiration time) is not set."),
        ({"exp": "soon"}, "invalid_grant", "exp (expiration time) is not set."),
        ({"exp": 10**300}, "invalid_grant", "exp (expiration time) is not set."),
        ({"iat": 1, "exp": 3601}, "invalid_grant", UNREASONABLE),
        ({"exp": 2**33}, "invalid_grant", UNREASONABLE),
        ({"iat": 2**33, "exp": 2**33 + 60}, "invalid_grant", UNREASONABLE),
        ({"nbf": 2**33}, "invalid_grant", UNREASONABLE),
        ({"iat": -(2**33)}, "invalid_grant", UNREASONABLE),
        ({"exp": float("nan")}, "invalid_request", "Bad Request"),
        ({"iat": float("-inf")}, "invalid_request", "Bad Request"),
        ({"target_audience": None}, "invalid_scope", "Invalid OAuth scope"),
        ({"target_audience": ""}, "invalid_scope", "Invalid OAuth scope"),
        ({"target_audience": " "}, "invalid_scope", "Invalid OAuth scope"),
        ({"target_audience": ["a"]}, "invalid_scope", "Invalid OAuth scope"),
        ({"target_audience": None, "scope": ""}, "invalid_scope", "Invalid OAuth scope"),
        ({"target_audience": None, "scope": 5}, "invalid_scope", "Invalid OAuth scope"),
        ({"target_audience": "a" * 4000}, "invalid_scope", "Invalid OAuth scope"),
        ({"aud": "https://elsewhere.example"}, "invalid_grant", "Failed audience check."),
        ({"aud": None}, "invalid_grant", "Failed audience check."),
        (
            {"aud": ["https://oauth2.googleapis.com/token"]},
            "invalid_grant",
            "Failed audience check.",
        ),
        ({"sub": "somebody@example.com"}, "unauthorized_client", "unauthorized"),
    ],
    ids=lambda given: str(given)[:50],
)
def test_the_exchange_refuses_what_google_s_refuses(exchange, changes, error, description):
    answer = exchange(**changes)
    assert answer.status_code == 400
    assert answer.json()["error"] == error
    assert description in answer.json()["error_description"]


def test_an_assertion_signed_with_another_key_is_refused(exchange):
    another, _ = tokens.key_pair("another")
    answer = exchange(private=another.decode())
    assert (answer.status_code, answer.json()["error_description"]) == (
        400,
        "Invalid JWT Signature.",
    )


@pytest.mark.parametrize(
    "body",
    [
        f"grant_type={GRANT}&grant_type={GRANT}&assertion=x",
        f"grant_type={GRANT}&assertion=x&assertion=y",
        b"\xff\xfe",
        "&".join(f"a{n}=1" for n in range(200)),
        "",
    ],
)
def test_a_form_that_is_none_is_refused(local, body):
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = requests.post(f"{local.token_url()}/token", data=body, headers=headers, timeout=20)
    assert answer.status_code == 400
    assert answer.json()["error"] in ("invalid_request", "unsupported_grant_type")


def test_a_body_without_end_is_cut_off(local):
    answer = requests.post(f"{local.token_url()}/token", data=b"a" * 1_000_000, timeout=20)
    assert answer.status_code == 413


def test_an_exchanged_token_is_not_exchanged_again(local, token):
    form = {"grant_type": GRANT, "assertion": token}
    answer = requests.post(f"{local.token_url()}/token", data=form, timeout=20)
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant")


def test_it_answers_no_foreign_host(local):
    url = f"{local.token_url()}/oauth2/v1/certs"
    assert requests.get(url, timeout=20).status_code == 200
    assert requests.get(url, headers={"Host": "rebound.example"}, timeout=20).status_code == 404


def test_it_knows_no_other_path(local):
    for path in ("/", "/token/", "/v1/projects/-/serviceAccounts/x:signJwt"):
        assert requests.post(local.token_url() + path, timeout=20).status_code == 404
    assert requests.get(f"{local.token_url()}/token", timeout=20).status_code == 404


# ---- impersonation


@pytest.fixture(scope="module")
def generate(local):
    """Asks for a token of a service account, with an access token; without one, with yours."""
    yours = local.gcloud("auth print-access-token")

    def post(kind, email, body, access=yours):
        url = f"{local.token_url()}/v1/projects/-/serviceAccounts/{email}:generate{kind}Token"
        headers = {"Authorization": f"Bearer {access}"}
        more = {"data": body} if isinstance(body, (str, bytes)) else {"json": body}
        return requests.post(url, headers=headers, timeout=20, **more)

    return post


def test_you_may_make_tokens_of_an_account(local, inner, generate):
    email = local.email("outer")
    made = generate("Id", email, {"audience": inner, "includeEmail": True})
    assert call(inner, made.json()["token"]).status_code == 200
    made = generate(
        "Access",
        email,
        {"scope": ["https://www.googleapis.com/auth/cloud-platform"], "lifetime": "60s"},
    )
    assert made.json()["accessToken"].startswith("ya29.") and made.json()["expireTime"].endswith(
        "Z"
    )


def test_google_auth_impersonates(local, inner, generate, key):
    """Uses source credentials to get an access token of the target, and with that an ID token of the target."""
    member, email = local.member("outer"), local.email("closed")
    role = "--role=roles/iam.serviceAccountTokenCreator"
    local.gcloud(f"iam service-accounts add-iam-policy-binding {email} --member={member} {role}")
    source = service_account.Credentials.from_service_account_info(
        key, scopes=["https://www.googleapis.com/auth/iam"]
    )
    target = impersonated_credentials.Credentials(
        source, email, ["https://www.googleapis.com/auth/cloud-platform"],
        iam_endpoint_override=f"{local.token_url()}/v1/projects/-/serviceAccounts/{email}:generateAccessToken",
    )  # fmt: skip
    target.refresh(Request())
    source.refresh(Request())
    assert (
        generate("Id", email, {"audience": "a"}, target.token).status_code == 403
    )  # closed may not make tokens of itself
    local.gcloud(f"iam service-accounts remove-iam-policy-binding {email} --member={member} {role}")
    assert generate("Id", email, {"audience": "a"}, source.token).status_code == 403


def test_the_permission_on_the_account_is_needed_and_enough(local, inner, key):
    scopes = ["https://www.googleapis.com/auth/cloud-platform"]
    credentials = service_account.Credentials.from_service_account_info(key, scopes=scopes)
    email = local.email("closed")
    url = f"{local.token_url()}/v1/projects/-/serviceAccounts/{email}:generateIdToken"
    body = {"audience": inner, "includeEmail": True}
    flags = f"--member={local.member('outer')} --role=roles/iam.serviceAccountOpenIdTokenCreator"
    with AuthorizedSession(credentials) as session:
        denied = session.post(url, json=body, timeout=20)
        assert denied.status_code == 403
        assert "iam.serviceAccounts.getOpenIdToken" in denied.json()["error"]["message"]
        local.gcloud(f"iam service-accounts add-iam-policy-binding {email} {flags}")
        try:
            made = session.post(url, json=body, timeout=20)
            # The role allows only ID tokens.
            access = url.replace("generateId", "generateAccess")
            assert session.post(access, json={"scope": scopes}, timeout=20).status_code == 403
        finally:
            local.gcloud(f"iam service-accounts remove-iam-policy-binding {email} {flags}")
    token = made.json()["token"]
    assert google.auth.jwt.decode(token, verify=False)["email"] == email
    # The token is valid, but no policy lets this service account in.
    assert call(inner, token).status_code == 403


def test_an_id_token_is_no_access_token(local, inner, token, generate):
    """Nobody can use it in place of an access token."""
    for credential in (token, "ya29." + token, "ya29.", "x"):
        assert (
            generate("Id", local.email("closed"), {"audience": inner}, credential).status_code
            == 401
        )


@pytest.mark.parametrize(
    "email", ["nobody@example.com", "you@example.com", "x" * 300, "..", "%2e%2e%2fproject", "%00"]
)
def test_there_are_no_tokens_of_nobody(generate, email):
    refused = generate("Id", email, {"audience": "a"})
    assert refused.status_code == 403
    assert refused.json()["error"]["status"] == "PERMISSION_DENIED"


@pytest.mark.parametrize(
    "kind, body",
    [
        ("Id", {}),
        ("Id", {"audience": ""}),
        ("Id", {"audience": " "}),
        ("Id", {"audience": ["a"]}),
        ("Id", {"audience": "a" * 4000}),
        ("Id", {"audience": "a", "includeEmail": "yes"}),
        ("Id", {"audience": "a", "delegates": ["projects/-/serviceAccounts/x"]}),
        ("Id", "no json"),
        ("Id", "[" * 9000),
        ("Id", b"\xff"),
        ("Id", []),
        ("Access", {}),
        ("Access", {"scope": []}),
        ("Access", {"scope": [""]}),
        ("Access", {"scope": "https://www.googleapis.com/auth/cloud-platform"}),
        ("Access", {"scope": ["a"], "lifetime": "3601s"}),
        ("Access", {"scope": ["a"], "lifetime": "0s"}),
        ("Access", {"scope": ["a"], "lifetime": "-1s"}),
        ("Access", {"scope": ["a"], "lifetime": "1h"}),
        ("Access", {"scope": ["a"], "lifetime": True}),
    ],
    ids=lambda given: str(given)[:50],
)
def test_a_wish_that_makes_no_sense_is_refused(local, generate, kind, body):
    refused = generate(kind, local.email("outer"), body)
    assert refused.status_code == 400
    assert refused.json()["error"]["status"] == "INVALID_ARGUMENT"
