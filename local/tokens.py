"""Tokens of the local project: RS256, signed with a key that was made for it alone."""

import datetime
import os
import time

import google.auth.crypt
import google.auth.jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from local.project import STATE, account_with_id, read

ISSUER = "https://accounts.google.com"
GCLOUD_CLIENT_ID = "32555940559.apps.googleusercontent.com"
API_AUDIENCE = "https://www.googleapis.com/"
API_ISSUER = "https://oauth2.googleapis.com"  # what an access token has, and no ID token
LIFETIME = 3600  # seconds


def key_pair(name: str) -> tuple[bytes, bytes]:
    """A new private key and a certificate for its public half, both PEM."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.timezone.utc)
    certificate = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(days=3650))
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return private, certificate.public_bytes(serialization.Encoding.PEM)


def key_id(certificate: bytes) -> str:
    return x509.load_pem_x509_certificate(certificate).fingerprint(hashes.SHA1()).hex()


def make_key() -> str:
    """Makes the key that this project's tokens are signed with, and returns its id."""
    private, certificate = key_pair("local")
    with open(
        os.open(STATE / "key.pem", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb"
    ) as file:
        file.write(private)
    (STATE / "certificate.pem").write_bytes(certificate)
    return key_id(certificate)


def certificates() -> dict[str, str]:
    """The public keys, as https://www.googleapis.com/oauth2/v1/certs has them: PEM by key id."""
    return {read("project")["key_id"]: (STATE / "certificate.pem").read_text()}


def id_token(account: dict, audience: str, email: bool = True, azp: str | None = None) -> str:
    """An ID token that says: this is `account`, speaking to `audience`."""
    claims = {"aud": audience, "azp": azp or account["uniqueId"]}
    if email:
        claims.update(email=account["email"], email_verified=True)
    return _signed(account, claims)


def access_token(account: dict) -> str:
    return "ya29." + _signed(account, {"aud": API_AUDIENCE}, API_ISSUER)


def _signed(account: dict, claims: dict, issuer: str = ISSUER) -> str:
    kid = read("project")["key_id"]
    signer = google.auth.crypt.RSASigner.from_string((STATE / "key.pem").read_bytes(), kid)
    now = int(time.time())
    claims |= {"iss": issuer, "sub": account["uniqueId"], "iat": now, "exp": now + LIFETIME}
    return google.auth.jwt.encode(signer, claims).decode()


def holder(token: str, audiences: list[str], issuer: str = ISSUER) -> dict | None:
    """The account that the token was signed for, or None where an account is gone.

    Raises ValueError for a token that is not this project's, not of this hour, or made for
    somebody else. Google's own check may tolerate some clock skew (no source says how much):
    here there is one clock, and none is needed.
    """
    try:
        if google.auth.jwt.decode_header(token)["alg"] != "RS256":
            raise ValueError("not RS256")
        claims = google.auth.jwt.decode(token, certs=certificates(), audience=audiences)
        if claims["iss"] != issuer:
            raise ValueError("not from this issuer")
        if claims.get("nbf", 0) > time.time():
            raise ValueError("not valid yet")
        return account_with_id(claims["sub"])
    except Exception as error:  # whatever cannot be verified is refused, however it fails
        raise ValueError(f"this token cannot be verified: {type(error).__name__}") from None


def caller(authorization: str) -> dict:
    """The account whose access token an API call carries. Raises ValueError if there is none."""
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() != "bearer" or not token.startswith("ya29."):
        raise ValueError("no access token")
    account = holder(token.removeprefix("ya29."), [API_AUDIENCE], API_ISSUER)
    if not account:
        raise ValueError("its account is gone")
    return account
