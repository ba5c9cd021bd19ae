"""Each way to get a token that works, and each kind of token that must be refused."""

import base64
import hashlib
import hmac
import json
import subprocess
import sys
import time

import google.auth.crypt
import google.auth.jwt
import google.auth.transport.requests
import pytest
import requests
from google.oauth2 import id_token

from tool.local import tokens
from toys import call, signer_of

INVALID = 'Bearer error="invalid_token" error_description="The access token could not be verified"'
FLAVOR = {"Metadata-Flavor": "Google"}


def fetch_id_token(env, audience):
    """The call that the documentation recommends. In its own process: google-auth reads settings on import."""
    program = (
        "import sys, google.auth.transport.requests as t, google.oauth2.id_token as i\n"
        "print(i.fetch_id_token(t.Request(), sys.argv[1]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, audience],
        env=env,
        text=True,
        capture_output=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture(scope="module")
def key_file(local, tmp_path_factory):
    file = tmp_path_factory.mktemp("keys") / "key.json"
    local.gcloud(f"iam service-accounts keys create {file} --iam-account={local.email('outer')}")
    return file


def test_impersonation_gives_a_token_that_works(inner, token):
    assert call(inner, token).status_code == 200


def test_a_token_without_email_works_too(local, inner):
    token = local.gcloud(
        f"auth print-identity-token --impersonate-service-account={local.email('outer')} --audiences={inner}"
    )
    assert "email" not in google.auth.jwt.decode(token, verify=False)
    assert call(inner, token).status_code == 200


def test_gcloud_s_own_audience_works_for_a_service_account(local, inner):
    token = local.gcloud(
        f"auth print-identity-token --impersonate-service-account={local.email('outer')}"
    )
    assert google.auth.jwt.decode(token, verify=False)["aud"] == tokens.GCLOUD_CLIENT_ID
    assert call(inner, token).status_code == 200


def test_any_service_account_can_be_impersonated(local, inner):
    local.gcloud("iam service-accounts create somebody")
    email = "somebody@local-project.iam.gserviceaccount.com"
    words = f"auth print-identity-token --impersonate-service-account={email} --audiences={inner}"
    assert call(inner, local.gcloud(words)).status_code == 403
    local.let_in(f"serviceAccount:{email}", "inner")
    assert call(inner, local.gcloud(words)).status_code == 200
    local.gcloud(f"iam service-accounts delete {email} --quiet")
    assert "deleted:serviceAccount:somebody@" in local.gcloud(
        "run services get-iam-policy inner REGION"
    )


def test_the_metadata_server_gives_a_token_that_works(local, inner):
    token = requests.get(
        f"http://{local.addresses()['outer'][1]}/computeMetadata/v1/instance"
        f"/service-accounts/default/identity?audience={inner}",
        headers=FLAVOR,
        timeout=20,
    )
    assert call(inner, token.text).status_code == 200


def test_google_auth_finds_the_metadata_server(local, inner):
    host = local.addresses()["outer"][1]
    env = {**local.env, "GCE_METADATA_HOST": host, "GCE_METADATA_IP": host}
    assert call(inner, fetch_id_token(env, inner)).status_code == 200


def test_google_auth_exchanges_a_key_for_a_token_that_works(local, inner, key_file):
    assert key_file.stat().st_mode & 0o777 == 0o600
    env = {**local.env, "GOOGLE_APPLICATION_CREDENTIALS": str(key_file)}
    assert call(inner, fetch_id_token(env, inner)).status_code == 200


def test_a_deleted_key_is_of_no_use(local, tmp_path):
    file = tmp_path / "key.json"
    local.gcloud(f"iam service-accounts keys create {file} --iam-account={local.email('closed')}")
    key = json.loads(file.read_text())
    listed = local.gcloud(
        f"iam service-accounts keys list --iam-account={local.email('closed')} --format=value(name.basename())"
    )
    assert listed == key["private_key_id"]
    assert exchanged(key).status_code == 200
    local.gcloud(
        f"iam service-accounts keys delete {listed} --iam-account={local.email('closed')} --quiet"
    )
    refused = exchanged(key)
    assert (refused.status_code, refused.json()["error"]) == (400, "invalid_grant")


def exchanged(key):
    now = int(time.time())
    claims = {
        "iss": key["client_email"],
        "aud": key["token_uri"],
        "iat": now,
        "exp": now + 60,
        "target_audience": "a",
    }
    signer = google.auth.crypt.RSASigner.from_service_account_info(key)
    form = {"grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer"}
    form["assertion"] = google.auth.jwt.encode(signer, claims).decode()
    return requests.post(key["token_uri"], data=form, timeout=20)


def test_the_published_certificates_verify_a_token(local, key_file):
    token = local.token("outer", "https://anything.example")
    endpoint = local.token_url()
    claims = id_token.verify_token(
        token,
        google.auth.transport.requests.Request(),
        "https://anything.example",
        certs_url=f"{endpoint}/oauth2/v1/certs",
    )
    assert claims["email"] == local.email("outer")
    [key] = requests.get(f"{endpoint}/oauth2/v3/certs", timeout=20).json()["keys"]
    assert key["kid"] == google.auth.jwt.decode_header(token)["kid"]


def test_a_token_has_the_claims_of_google_s(local):
    token = local.token("outer", "https://anything.example")
    assert google.auth.jwt.decode_header(token).keys() == {"alg", "kid", "typ"}
    claims = google.auth.jwt.decode(token, verify=False)
    assert claims.pop("exp") - claims.pop("iat") == 3600
    assert claims.pop("sub") == claims.pop("azp")
    assert claims == {
        "aud": "https://anything.example",
        "email": local.email("outer"),
        "email_verified": True,
        "iss": "https://accounts.google.com",
    }


def test_your_own_token_has_no_audience_of_your_choice(local, inner):
    said = local.refused(f"auth print-identity-token --audiences={inner}")
    assert "Invalid account type for `--audiences`" in said


# ---- tokens to be refused


@pytest.fixture
def forge(local, token):
    """Makes tokens like those of outer for inner, except for what the test changes."""
    good = google.auth.jwt.decode(token, verify=False)
    kid = google.auth.jwt.decode_header(token)["kid"]
    real = tokens.private_key(local.state)

    def make(key=real, header=(), text=None, **changes):
        claims = {k: v for k, v in {**good, **changes}.items() if v is not None}
        head = {"alg": "RS256", "kid": kid, "typ": "JWT", **dict(header)}
        head = {name: value for name, value in head.items() if value is not None}
        signed = segment(head) + "." + segment(claims if text is None else text(claims))
        return signed + "." + encoded(signer_of(key).sign(signed))

    return make


def encoded(content):
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def segment(content):
    return encoded((content if isinstance(content, str) else json.dumps(content)).encode())


def test_the_forge_makes_good_tokens_where_nothing_is_changed(inner, forge):
    assert call(inner, forge()).status_code == 200


@pytest.mark.parametrize(
    "changes",
    [
        {"exp": 1},
        {"exp": True},
        {"exp": float("nan")},
        {"exp": float("inf")},
        {"exp": 10**400},
        {"exp": "4102444800"},
        {"exp": None},
        {"exp": []},
        {"iat": 2**33, "exp": 2**33 + 3600},
        {"iat": "yesterday"},
        {"iat": None},
        {"iat": True},
        {"nbf": 2**33},
        {"nbf": "x"},
        {"nbf": True},
        {"iss": "https://accounts.example"},
        {"iss": None},
        {"iss": ["https://accounts.google.com"]},
        {"aud": "https://inner.example"},
        {"aud": ["https://inner.example"]},
        {"aud": {}},
        {"aud": None},
        {"sub": None},
        {"sub": 5},
        {"sub": {"a": 1}},
    ],
    ids=lambda changes: str(changes)[:40],
)
def test_a_signed_token_with_a_wrong_claim_is_refused(inner, forge, changes):
    refused = call(inner, forge(**changes))
    assert refused.status_code == 401
    assert refused.headers["WWW-Authenticate"] == INVALID


@pytest.mark.parametrize("sub", ["1" * 21, "../project", "x" * 300, "", "ü", "you@example.com"])
def test_a_signed_token_of_nobody_is_not_let_in(inner, forge, sub):
    assert call(inner, forge(sub=sub)).status_code == 403


@pytest.mark.parametrize(
    "header",
    [
        {"alg": "none"},
        {"alg": "HS256"},
        {"alg": "RS512"},
        {"alg": None},
        {"alg": ["RS256"]},
        {"crit": ["exp"]},
        {"crit": []},
        {"typ": "dpop+jwt"},
        {"kid": "another"},
        {"kid": None},
        {"kid": {}},
        {"kid": 7},
    ],
    ids=str,
)
def test_a_signed_token_with_a_wrong_header_is_refused(inner, forge, header):
    assert call(inner, forge(header=header)).status_code == 401


@pytest.mark.parametrize(
    "text",
    [
        lambda claims: json.dumps(claims)[:-1] + ', "sub": "1"}',  # a name that occurs twice
        lambda claims: json.dumps([claims]),
        lambda claims: json.dumps("claims"),
        lambda claims: json.dumps(claims) + "x",
        lambda claims: "[" * 5000,
        lambda claims: "",
    ],
)
def test_a_signed_token_that_is_no_json_object_is_refused(inner, forge, text):
    assert call(inner, forge(text=text)).status_code == 401


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
        lambda token: token + "=",
        lambda token: token + "==",
        lambda token: token.replace(".", "..", 1),
        lambda token: token + ".x",
        lambda token: "." * 2,
        lambda token: "a.b.c",
        lambda token: "ü.ü.ü",
        lambda token: token + "\u00a0",
        lambda token: "A" * 20000,
        lambda token: "garbage",
        lambda token: "ya29.access-token",
        lambda token: "ya29." + token,
        lambda token: "",
    ],
)
def test_a_token_that_does_not_verify_is_refused(inner, forge, spoil):
    headers = {"Authorization": f"Bearer {spoil(forge())}".encode()}
    refused = call(inner, headers=headers)
    assert refused.status_code == 401
    assert refused.headers["WWW-Authenticate"] == INVALID
    assert "permission to the requested URL <code>/</code>." in refused.text


def test_a_token_signed_with_another_project_s_key_is_refused(inner, forge):
    another, _ = tokens.key_pair("another project")
    assert call(inner, forge(key=another)).status_code == 401


def test_a_key_that_comes_with_the_token_is_not_trusted(inner, forge):
    another, certificate = tokens.key_pair("another project")
    chain = [base64.b64encode(certificate).decode()]
    for header in (
        {"jwk": {"kty": "RSA", "n": "AQAB", "e": "AQAB"}},
        {"x5c": chain},
        {"jku": "http://127.0.0.1:9/"},
    ):
        assert call(inner, forge(key=another, header=header)).status_code == 401


def test_a_public_key_is_no_secret_to_sign_with(local, inner, forge):
    """HS256 with the public certificate as the secret: the classic key confusion attack."""
    signed = segment({"alg": "HS256", "typ": "JWT"}) + "." + forge().split(".")[1]
    secret = (local.state / "certificate.pem").read_bytes()
    signature = hmac.new(secret, signed.encode(), hashlib.sha256).digest()
    assert call(inner, signed + "." + encoded(signature)).status_code == 401


def test_an_access_token_is_not_an_id_token(local, inner):
    for token in (
        requests.get(
            f"http://{local.addresses()['outer'][1]}/computeMetadata/v1/instance/service-accounts/default/token",
            headers=FLAVOR,
            timeout=20,
        ).json()["access_token"],
        local.gcloud("auth print-access-token"),
    ):
        assert token.startswith("ya29.")
        assert call(inner, token).status_code == 401
        assert call(inner, token.removeprefix("ya29.")).status_code == 401


def test_a_token_for_one_function_is_refused_by_another(local, inner):
    assert call(inner, local.token("outer", local.url("closed"))).status_code == 401


def test_an_expired_token_was_good_before(inner, forge):
    now = int(time.time())
    assert call(inner, forge(iat=now - 3600, exp=now + 600)).status_code == 200
    assert call(inner, forge(iat=now - 3600, exp=now - 1)).status_code == 401
