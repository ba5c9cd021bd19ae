"""Each way to get a token that works, and each kind of token that must be refused."""

import base64
import json
import subprocess
import sys
import time

import google.auth.crypt
import google.auth.jwt
import pytest
import requests
from names import LOGIN, SEARCH, USER_PROFILES
from google.auth.transport.requests import AuthorizedSession
from google.oauth2 import id_token, service_account

from local import tokens

INVALID = 'Bearer error="invalid_token" error_description="The access token could not be verified"'


def call_user_profiles(project, token, header="Authorization"):
    url = project.url(USER_PROFILES)
    return requests.options(url, headers={header: f"Bearer {token}"}, timeout=20)


def fetch_id_token(env, audience):
    """What the documentation recommends, in a process of its own, as google-auth wants it."""
    program = (
        "import sys, google.auth.transport.requests as t, google.oauth2.id_token as i\n"
        "print(i.fetch_id_token(t.Request(), sys.argv[1]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, audience], env=env, text=True, capture_output=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture(scope="module")
def key_file(project, tmp_path_factory):
    file = tmp_path_factory.mktemp("keys") / "key.json"
    project.gcloud(f"iam service-accounts keys create {file} --iam-account={project.email(LOGIN)}")
    return file


def test_impersonation_gives_a_token_that_works(project):
    token = project.token(LOGIN, project.url(USER_PROFILES))
    assert call_user_profiles(project, token).status_code == 200


def test_a_token_without_email_works_too(project):
    token = project.gcloud(
        f"auth print-identity-token --impersonate-service-account={project.email(LOGIN)}"
        " --audiences=$USER_PROFILES_URL"
    )
    assert "email" not in google.auth.jwt.decode(token, verify=False)
    assert call_user_profiles(project, token).status_code == 200


def test_the_metadata_server_gives_a_token_that_works(project):
    token = requests.get(
        f"http://{project.env['LOGIN_METADATA_HOST']}/computeMetadata/v1/instance"
        f"/service-accounts/default/identity?audience={project.url(USER_PROFILES)}",
        headers={"Metadata-Flavor": "Google"},
        timeout=20,
    )
    assert call_user_profiles(project, token.text).status_code == 200


def test_google_auth_finds_the_metadata_server(project):
    host = project.env["LOGIN_METADATA_HOST"]
    env = {**project.env, "GCE_METADATA_HOST": host, "GCE_METADATA_IP": host}
    token = fetch_id_token(env, project.url(USER_PROFILES))
    assert call_user_profiles(project, token).status_code == 200


def test_google_auth_exchanges_a_key_for_a_token_that_works(project, key_file):
    env = {**project.env, "GOOGLE_APPLICATION_CREDENTIALS": str(key_file)}
    token = fetch_id_token(env, project.url(USER_PROFILES))
    assert call_user_profiles(project, token).status_code == 200


def test_generate_id_token_needs_the_permission_on_the_account(project, key_file):
    info = json.loads(key_file.read_text())
    credentials = service_account.Credentials.from_service_account_info(
        info, scopes=["https://www.googleapis.com/auth/cloud-platform"]
    )
    endpoint = info["token_uri"].removesuffix("/token")
    url = f"{endpoint}/v1/projects/-/serviceAccounts/{project.email(SEARCH)}:generateIdToken"
    body = {"audience": project.url(USER_PROFILES), "includeEmail": True}
    grant = f"--member=serviceAccount:{project.email(LOGIN)} --condition=None"
    role = "--role=roles/iam.serviceAccountOpenIdTokenCreator"
    with AuthorizedSession(credentials) as session:
        denied = session.post(url, json=body, timeout=20)
        assert denied.status_code == 403
        assert "iam.serviceAccounts.getOpenIdToken" in denied.json()["error"]["message"]

        project.gcloud(f"projects add-iam-policy-binding $PROJECT_ID {grant} {role}")
        try:
            made = session.post(url, json=body, timeout=20)
        finally:
            project.gcloud(f"projects remove-iam-policy-binding $PROJECT_ID {grant} {role}")
    claims = google.auth.jwt.decode(made.json()["token"], verify=False)
    assert claims["email"] == project.email(SEARCH)
    # It is a good token, of an account that nobody lets in.
    assert call_user_profiles(project, made.json()["token"]).status_code == 403


def test_the_published_certificates_verify_a_token(project, key_file):
    token = project.token(LOGIN, "https://anything.example")
    endpoint = json.loads(key_file.read_text())["token_uri"].removesuffix("/token")
    request = google.auth.transport.requests.Request()
    claims = id_token.verify_token(
        token, request, "https://anything.example", certs_url=f"{endpoint}/oauth2/v1/certs"
    )
    assert claims["email"] == project.email(LOGIN)
    keys = requests.get(f"{endpoint}/oauth2/v3/certs", timeout=20).json()["keys"]
    assert [key["kid"] for key in keys] == [google.auth.jwt.decode_header(token)["kid"]]


def test_a_token_has_the_claims_of_google_s(project):
    token = project.token(LOGIN, "https://anything.example")
    assert google.auth.jwt.decode_header(token).keys() == {"alg", "kid", "typ"}
    claims = google.auth.jwt.decode(token, verify=False)
    assert claims.pop("exp") - claims.pop("iat") == 3600
    assert claims.pop("sub") == claims.pop("azp")
    assert claims == {
        "aud": "https://anything.example",
        "email": project.email(LOGIN),
        "email_verified": True,
        "iss": "https://accounts.google.com",
    }


def test_your_own_token_has_no_audience_of_your_choice(project):
    result = project.gcloud("auth print-identity-token --audiences=$LOGIN_URL", check=False)
    assert result.returncode == 1
    assert "Invalid account type for `--audiences`" in result.stderr


# ---- tokens to be refused


@pytest.fixture
def forge(project):
    """Makes tokens like login's for user-profiles, except for what the test changes."""
    state = project.state

    def make(key=None, **changes):
        good = google.auth.jwt.decode(
            project.token(LOGIN, project.url(USER_PROFILES)), verify=False
        )
        claims = {k: v for k, v in {**good, **changes}.items() if v is not None}
        private = key or (state / "key.pem").read_bytes()
        kid = tokens.key_id((state / "certificate.pem").read_bytes())
        signer = google.auth.crypt.RSASigner.from_string(private, kid)
        return google.auth.jwt.encode(signer, claims).decode()

    return make


def segment(content):
    return base64.urlsafe_b64encode(json.dumps(content).encode()).rstrip(b"=").decode()


def test_the_forge_makes_good_tokens_where_nothing_is_changed(project, forge):
    assert call_user_profiles(project, forge()).status_code == 200


@pytest.mark.parametrize(
    "changes",
    [
        {"exp": 1},
        {"iat": 2**33, "exp": 2**33 + 3600},
        {"nbf": 2**33},
        {"iss": "https://accounts.example"},
        {"iss": None},
        {"aud": "https://user-profiles.example"},
        {"aud": ["https://user-profiles.example"]},
        {"aud": None},
        {"exp": None},
        {"iat": "yesterday"},
    ],
    ids=lambda changes: ",".join(changes),
)
def test_a_signed_token_with_a_wrong_claim_is_refused(project, forge, changes):
    refused = call_user_profiles(project, forge(**changes))
    assert refused.status_code == 401
    assert refused.headers["WWW-Authenticate"] == INVALID


def without_signature(token):
    return token.rpartition(".")[0]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda token: without_signature(token) + "." + "A" * 342,
        lambda token: without_signature(token) + ".SIGNATURE_REMOVED_BY_GOOGLE",
        lambda token: without_signature(token) + ".",
        lambda token: without_signature(token),
        lambda token: segment({"alg": "none", "typ": "JWT"}) + "." + token.split(".")[1] + ".",
        lambda token: segment({"alg": "HS256", "typ": "JWT"}) + token[token.index(".") :],
        lambda token: segment(["RS256"]) + token[token.index(".") :],
        lambda token: token + "," + token,
        lambda token: "garbage",
        lambda token: "ya29.access-token",
        lambda token: "",
    ],
)
def test_a_token_that_does_not_verify_is_refused(project, forge, spoil):
    refused = call_user_profiles(project, spoil(forge()))
    assert refused.status_code == 401
    assert refused.headers["WWW-Authenticate"] == INVALID
    assert (
        "Your client does not have permission to the requested URL <code>/</code>." in refused.text
    )


def test_a_token_signed_with_another_project_s_key_is_refused(project, forge):
    another, _ = tokens.key_pair("another project")
    assert call_user_profiles(project, forge(key=another)).status_code == 401


def test_a_public_key_is_no_secret_to_sign_with(project, forge):
    """HS256, with the public certificate as its secret: the classic confusion of keys."""
    import hashlib
    import hmac

    header = {"alg": "HS256", "typ": "JWT"}
    signed = segment(header) + "." + forge().split(".")[1]
    secret = (project.state / "certificate.pem").read_bytes()
    digest = hmac.new(secret, signed.encode(), hashlib.sha256).digest()
    token = signed + "." + base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
    assert call_user_profiles(project, token).status_code == 401


def test_an_access_token_is_not_an_id_token(project):
    token = requests.get(
        f"http://{project.env['LOGIN_METADATA_HOST']}/computeMetadata/v1/instance"
        "/service-accounts/default/token",
        headers={"Metadata-Flavor": "Google"},
        timeout=20,
    ).json()["access_token"]
    assert call_user_profiles(project, token).status_code == 401


def test_a_token_for_one_function_is_refused_by_another(project):
    token = project.token(LOGIN, project.url(SEARCH))
    assert call_user_profiles(project, token).status_code == 401


def test_a_token_of_a_deleted_account_is_refused(project, forge):
    assert call_user_profiles(project, forge(sub=str(10**20))).status_code == 403


def test_an_expired_token_was_good_before(project, forge):
    now = int(time.time())
    assert call_user_profiles(project, forge(iat=now - 3600, exp=now + 60)).status_code == 200
    assert call_user_profiles(project, forge(iat=now - 3600, exp=now - 60)).status_code == 401


# ---- the header that is checked, and what the function is handed


def test_the_serverless_header_is_the_one_checked(project):
    good = project.token(LOGIN, project.url(USER_PROFILES))
    url = project.url(USER_PROFILES)
    both = {"Authorization": "Bearer garbage", "X-Serverless-Authorization": f"Bearer {good}"}
    assert requests.options(url, headers=both, timeout=20).status_code == 200
    both = {"Authorization": f"Bearer {good}", "X-Serverless-Authorization": "Bearer garbage"}
    assert requests.options(url, headers=both, timeout=20).status_code == 401


@pytest.mark.parametrize("path", ["/healthz", "/eventlog", "/_ah/health"])
def test_reserved_paths_never_reach_the_function(project, path):
    answer = project.request("GET", USER_PROFILES, path, caller=LOGIN)
    assert answer.status_code == 404
    assert "The requested URL was not found on this server." in answer.text


def test_an_unknown_host_is_not_found(project):
    token = project.token(LOGIN, project.url(USER_PROFILES))
    headers = {"Authorization": f"Bearer {token}", "Host": "rebound.example"}
    answer = requests.options(project.url(USER_PROFILES), headers=headers, timeout=20)
    assert answer.status_code == 404
