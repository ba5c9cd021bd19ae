"""Tokens of the local project: RS256, signed with a key made for this project alone."""

import base64
import datetime
import json
import math
import os
import pathlib
import re
import time

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from tool.local import accounts, state
from tool.local.accounts import Account
from tool.local.records import Json, Record
from tool.local.state import STATE

ISSUER = "https://accounts.google.com"
GCLOUD_CLIENT_ID = "32555940559.apps.googleusercontent.com"
API_AUDIENCE = "https://www.googleapis.com/"
API_ISSUER = "https://oauth2.googleapis.com"  # of access tokens, never of ID tokens
LIFETIME = 3600  # seconds
LARGEST = 16384  # characters of a token


# ---- keys


def key_pair(name: str) -> tuple[bytes, bytes]:
    """A new private key and a certificate for its public half, both PEM."""
    from cryptography import x509  # slow to load, and not needed to make a token
    from cryptography.hazmat.primitives import serialization

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name[:64])])
    now = datetime.datetime.now(datetime.UTC)
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
    from cryptography import x509

    return x509.load_pem_x509_certificate(certificate).fingerprint(hashes.SHA1()).hex()


def make_key() -> str:
    """Makes the key that this project's tokens are signed with, and returns its id."""
    from cryptography.hazmat.primitives import serialization

    private, certificate = key_pair("local")
    key = serialization.load_pem_private_key(private, None)
    assert isinstance(key, rsa.RSAPrivateKey)  # as key_pair makes them
    found = key.private_numbers()
    numbers = {name: getattr(found, name) for name in ("p", "q", "d", "dmp1", "dmq1", "iqmp")}
    numbers |= {"e": found.public_numbers.e, "n": found.public_numbers.n}
    write_private(STATE / "key.json", json.dumps(numbers).encode())
    (STATE / "certificate.pem").write_bytes(certificate)
    return key_id(certificate)


def private_key(folder: pathlib.Path = STATE) -> rsa.RSAPrivateKey:
    """The key of the project in this folder. It is kept as numbers, because code that reads PEM is slow to load."""
    numbers = json.loads((folder / "key.json").read_bytes())
    public = rsa.RSAPublicNumbers(numbers.pop("e"), numbers.pop("n"))
    # It was made here. Checking that it is a good one takes a hundred times as long as signing.
    return rsa.RSAPrivateNumbers(**numbers, public_numbers=public).private_key(
        unsafe_skip_rsa_key_validation=True
    )


def write_private(file: str | pathlib.Path, content: bytes) -> None:
    with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as out:
        out.write(content)


def certificates() -> dict[str, str]:
    """The public keys as https://www.googleapis.com/oauth2/v1/certs returns them: PEM by key id."""
    return {state.project().key_id: (STATE / "certificate.pem").read_text()}


# ---- making tokens


def id_token(account: Account, audience: str, email: bool = True, azp: str | None = None) -> str:
    """An ID token that says: this is `account`, calling `audience`."""
    claims: dict[str, object] = {"aud": audience, "azp": azp or account.unique_id}
    if email:
        claims |= {"email": account.email, "email_verified": True}
    return _signed(account, claims, ISSUER, LIFETIME)


def access_token(account: Account, lifetime: int = LIFETIME) -> str:
    return "ya29." + _signed(account, {"aud": API_AUDIENCE}, API_ISSUER, lifetime)


def _signed(account: Account, claims: dict[str, object], issuer: str, lifetime: int) -> str:
    now = int(time.time())
    claims |= {"iss": issuer, "sub": account.unique_id, "iat": now, "exp": now + lifetime}
    header = {"alg": "RS256", "kid": state.project().key_id, "typ": "JWT"}
    signed = ".".join(encoded(json.dumps(part).encode()) for part in (header, claims))
    signature = private_key().sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256())
    return f"{signed}.{encoded(signature)}"


def encoded(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


# ---- reading tokens


class Parts(Record):
    """The content of a token, before anybody has checked it."""

    header: dict[str, Json]
    claims: dict[str, Json]
    signed: str
    signature: bytes


def parts(token: str) -> Parts:
    """The parts of a token. Raises ValueError.

    Refuses what RFC 7515, 7519 and 8725 forbid: characters that are not base64url's, a name that
    occurs twice, numbers such as NaN, extensions (crit) that are not understood here.
    """
    if len(token) > LARGEST or not re.fullmatch(r"[\w-]+\.[\w-]+\.[\w-]*", token, re.A):
        raise ValueError("no JWT")
    signed, _, signature = token.rpartition(".")
    header, claims = (_json(_decoded(part)) for part in signed.split("."))
    if "crit" in header or str(header.get("typ", "JWT")).upper() not in ("JWT", "AT+JWT"):
        raise ValueError("another kind of JWT")
    return Parts(header, claims, signed, _decoded(signature))


def _decoded(part: str) -> bytes:
    content = base64.b64decode(part + "=" * (-len(part) % 4), altchars=b"-_", validate=True)
    if encoded(content) != part:
        raise ValueError("not the one way to write this in base64url")
    return content


def _json(content: bytes) -> dict[str, Json]:
    def once(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
        if len(dict(pairs)) < len(pairs):
            raise ValueError("a name occurs twice")
        return dict(pairs)

    def no_number(text: str) -> None:
        raise ValueError(f"{text} is no number")

    try:
        found = json.loads(content.decode(), object_pairs_hook=once, parse_constant=no_number)
    except RecursionError:
        raise ValueError("too deep") from None
    if not isinstance(found, dict):
        raise ValueError("no JSON object")
    return found


def is_time(value: object) -> bool:
    """Whether a claim is a NumericDate. True is a number to Python, but not a time."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return abs(value) < 2**53 and math.isfinite(value)


def public_key(certificate: str) -> rsa.RSAPublicKey:
    from cryptography import x509

    key = x509.load_pem_x509_certificate(certificate.encode()).public_key()
    assert isinstance(key, rsa.RSAPublicKey)  # as key_pair makes them
    return key


def is_signed_by(certificate: str, token: Parts) -> bool:
    content = token.signed.encode()
    try:
        public_key(certificate).verify(
            token.signature, content, padding.PKCS1v15(), hashes.SHA256()
        )
    except InvalidSignature:
        return False
    return True


def holder(token: str, audiences: list[str], issuer: str = ISSUER) -> Account | None:
    """The account that the token was signed for, or None if that account is gone.

    Raises ValueError for a token that is not this project's, not valid now, or made for somebody
    else. Google's own check may tolerate some clock skew (no source says how much). Here there is
    only one clock, so no tolerance is needed.
    """
    found = parts(token)
    claims, certificate = found.claims, certificates().get(str(found.header.get("kid")))
    if found.header.get("alg") != "RS256" or not certificate:
        raise ValueError("it is not signed with a key of this project")
    if not is_signed_by(certificate, found):
        raise ValueError("its signature is wrong")
    if claims.get("iss") != issuer or claims.get("aud") not in audiences:
        raise ValueError("of another issuer, or for another audience")
    begins, issued, ends = claims.get("nbf", 0), claims.get("iat", ""), claims.get("exp", "")
    if not (is_time(begins) and is_time(issued) and is_time(ends)):
        raise ValueError("its times are not numbers")
    if not max(begins, issued) <= time.time() < ends:
        raise ValueError("it is not valid now")
    if not isinstance(claims.get("sub"), str):
        raise ValueError("it names nobody")
    return accounts.with_id(claims["sub"])


def caller(authorization: str) -> Account:
    """The account whose access token an API call carries. Raises ValueError if there is none."""
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() != "bearer" or not token.startswith("ya29."):
        raise ValueError("no access token")
    account = holder(token.removeprefix("ya29."), [API_AUDIENCE], API_ISSUER)
    if not account:
        raise ValueError("its account is gone")
    return account
