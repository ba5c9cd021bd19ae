"""The local metadata server and token endpoint: the answers that clients rely on."""

import json
import time

import google.auth.crypt
import google.auth.jwt
import pytest
import requests
from names import LOGIN, SEARCH

from local import tokens

FLAVOR = {"Metadata-Flavor": "Google"}
DEFAULT = "instance/service-accounts/default/"


@pytest.fixture
def metadata(project):
    def get(path, headers=FLAVOR, host="LOGIN"):
        url = f"http://{project.env[host + '_METADATA_HOST']}/computeMetadata/v1/{path}"
        return requests.get(url, headers=headers, timeout=20)

    return get


@pytest.mark.parametrize(
    "path, content",
    [
        ("project/project-id", "local-project"),
        ("instance/region", "/regions/us-east1"),
        ("instance/service-accounts/", "default/\nlogin@local-project.iam.gserviceaccount.com/"),
        (DEFAULT + "email", "login@local-project.iam.gserviceaccount.com"),
        ("instance/service-accounts/login@local-project.iam.gserviceaccount.com/email", "login@"),
    ],
)
def test_it_tells_about_the_instance(metadata, path, content):
    answer = metadata(path)
    assert answer.status_code == 200
    assert content in answer.text
    assert answer.headers["Metadata-Flavor"] == "Google"
    assert answer.headers["Server"] == "Metadata Server for Serverless"


def test_the_account_comes_as_json_as_google_auth_wants_it(metadata):
    answer = metadata(DEFAULT + "?recursive=true")
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.json()["email"] == "login@local-project.iam.gserviceaccount.com"


@pytest.mark.parametrize(
    "path, headers, status",
    [
        (DEFAULT + "email", {}, 403),
        (DEFAULT + "email", {"Metadata-Flavor": "Other"}, 403),
        (DEFAULT + "email", {**FLAVOR, "X-Forwarded-For": "203.0.113.7"}, 403),
        (DEFAULT + "email", {**FLAVOR, "Host": "rebound.example"}, 403),
        (DEFAULT + "identity", FLAVOR, 400),
        (DEFAULT + "identity?audience=", FLAVOR, 400),
        (DEFAULT + "identity?audience=a&format=other", FLAVOR, 400),
        ("instance/service-account/default/email", FLAVOR, 404),
        (
            "instance/service-accounts/search@local-project.iam.gserviceaccount.com/token",
            FLAVOR,
            404,
        ),
    ],
)
def test_it_refuses_what_google_s_refuses(metadata, path, headers, status):
    answer = metadata(path, headers)
    assert answer.status_code == status
    assert "eyJ" not in answer.text


def test_a_missing_audience_is_named(metadata):
    assert metadata(DEFAULT + "identity").text == "non-empty audience parameter required"


def test_it_keeps_a_token_for_each_audience(metadata):
    first, again = (metadata(DEFAULT + "identity?audience=a").text for _ in range(2))
    other = metadata(DEFAULT + "identity?audience=b").text
    assert first == again
    assert google.auth.jwt.decode(other, verify=False)["aud"] == "b"


def test_each_function_has_an_identity_of_its_own(metadata, project):
    assert metadata(DEFAULT + "email").text == project.email(LOGIN)
    assert metadata(DEFAULT + "email", host="SEARCH").text == project.email(SEARCH)


def test_the_root_page_needs_no_header(project):
    answer = requests.get(f"http://{project.env['LOGIN_METADATA_HOST']}/", timeout=20)
    assert answer.status_code == 200
    assert answer.headers["Metadata-Flavor"] == "Google"


# ---- the exchange of a self-signed JWT


@pytest.fixture(scope="module")
def key(project, tmp_path_factory):
    file = tmp_path_factory.mktemp("keys") / "key.json"
    project.gcloud(f"iam service-accounts keys create {file} --iam-account={project.email(LOGIN)}")
    return json.loads(file.read_text())


@pytest.fixture
def exchange(key):
    """Posts an assertion signed with login's key, except for what the test changes."""

    def post(grant_type="urn:ietf:params:oauth:grant-type:jwt-bearer", assertion=None, **changes):
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
        signer = google.auth.crypt.RSASigner.from_service_account_info(key)
        assertion = assertion or google.auth.jwt.encode(signer, claims).decode()
        form = {"grant_type": grant_type, "assertion": assertion}
        return requests.post(key["token_uri"], data=form, timeout=20)

    return post


def test_a_self_signed_jwt_is_exchanged_for_an_id_token(exchange, project):
    answer = exchange()
    assert answer.status_code == 200
    claims = google.auth.jwt.decode(answer.json()["id_token"], verify=False)
    assert claims["aud"] == "https://receiver.example"
    assert claims["azp"] == claims["email"] == project.email(LOGIN)


def other_signature(key):
    private, _ = tokens.key_pair("other")
    signer = google.auth.crypt.RSASigner.from_string(private, "other")
    now = int(time.time())
    claims = {"iss": key["client_email"], "iat": now, "exp": now + 60, "target_audience": "a"}
    return google.auth.jwt.encode(signer, claims).decode()


UNREASONABLE = "Token must be a short-lived token (60 minutes) and in a reasonable timeframe."


@pytest.mark.parametrize(
    "changes, error, description",
    [
        ({"grant_type": "password"}, "unsupported_grant_type", "Invalid grant_type: password"),
        ({"assertion": "garbage"}, "invalid_request", "Bad Request"),
        ({"assertion": "a.b.c"}, "invalid_request", "Bad Request"),
        ({"assertion": other_signature}, "invalid_grant", "Invalid JWT Signature."),
        ({"iss": "nobody@example.com"}, "invalid_grant", "account not found"),
        ({"iss": None}, "invalid_grant", "account not found"),
        ({"iss": "you@example.com"}, "invalid_grant", "account not found"),
        ({"iat": None}, "invalid_grant", "iat (issued at) is not set."),
        ({"exp": None}, "invalid_grant", "exp (expiration time) is not set."),
        ({"iat": 1, "exp": 3601}, "invalid_grant", UNREASONABLE),
        ({"exp": 2**33}, "invalid_grant", UNREASONABLE),
        ({"iat": 2**33, "exp": 2**33 + 60}, "invalid_grant", UNREASONABLE),
        ({"target_audience": None}, "invalid_scope", "Invalid OAuth scope"),
        ({"aud": "https://elsewhere.example"}, "invalid_grant", "Failed audience check."),
        ({"aud": None}, "invalid_grant", "Failed audience check."),
    ],
)
def test_the_exchange_refuses_what_google_s_refuses(exchange, key, changes, error, description):
    if changes.get("assertion") is other_signature:
        changes = {"assertion": other_signature(key)}
    answer = exchange(**changes)
    assert answer.status_code == 400
    assert answer.json()["error"] == error
    assert description in answer.json()["error_description"]
