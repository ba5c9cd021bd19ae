"""Whether a token is good for a service: its form, issuer, signature, times and audience.

Signatures need the package cryptography.
"""

from __future__ import annotations

import base64
import json
import re
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from tool.deploy.explain_known import Known, Reply

ISSUER = "https://accounts.google.com"
OLD_ISSUER = "accounts.google.com"  # Google's own libraries accept it, too
GCLOUD = "32555940559.apps.googleusercontent.com"  # gcloud's own audience: every service accepts it
APPLICATION_DEFAULT = "764086051850-"  # how the audience of "gcloud auth application-default" begins
ACCOUNT = re.compile(r"[a-z0-9-]+@[a-z0-9.-]+\.gserviceaccount\.com")
LARGEST = 16384  # characters of a token; Google's own limit is not documented


class Refused(Exception):
    """How a token is answered, and why. `account`: the service account that claims to have signed the token."""

    def __init__(self, answer: Reply, why: str, account: str = ""):
        super().__init__(why)
        self.answer, self.why, self.account = answer, why, account


def token_in(sent: str) -> str:
    """The token in what was pasted: a header, a token endpoint's JSON answer, or the token itself."""
    sent = re.sub(r"(?i)^(x-serverless-)?authorization:\s*", "", sent.strip())
    # How the platform answers a scheme other than Bearer is not documented.
    sent = re.sub(r"(?i)^bearer(\s+|$)", "", sent)
    if not sent.startswith("{"):
        return sent
    try:
        answer = json.loads(sent)
    except (ValueError, RecursionError):
        return sent
    tokens = [answer.get(name) for name in ("id_token", "token", "access_token")]
    return next((token for token in tokens if isinstance(token, str)), sent)


def check(token: str, claims: dict[str, Any], known: Known, now: float) -> None:
    """Raises Refused, or fills in the claims of a token that is good for the service."""
    if token.startswith("ya29."):
        raise Refused(Reply.UNAUTHORIZED, "is an access token, for Google's APIs; an ID token is needed")
    if token.endswith(".SIGNATURE_REMOVED_BY_GOOGLE"):
        why = "lost its signature when the platform let it in; the function that got it needs its own token"
        raise Refused(Reply.UNAUTHORIZED, why)
    header, unproven, signed, signature = parts(token)
    if str(unproven.get("sub")).startswith("spiffe://"):
        raise Refused(Reply.UNAUTHORIZED, "is a JWT-SVID (spiffe://); a service account's ID token is needed")
    issuer = str(unproven.get("iss"))
    if ACCOUNT.fullmatch(issuer):
        why = f"was signed by {issuer} itself; an ID token is needed, which {known.signer} signs"
        raise Refused(Reply.UNAUTHORIZED, why, issuer)
    is_old = issuer == OLD_ISSUER and known.signer == "Google"
    if issuer != ISSUER and not is_old:
        raise Refused(Reply.UNAUTHORIZED, f"has an issuer (iss) other than {ISSUER}")
    if known.certificates is None:
        raise Refused(Reply.UNKNOWN, f"cannot be checked: no certificates of {known.signer} came")
    certificate = known.certificates.get(str(header.get("kid")))
    if header.get("alg") != "RS256" or not is_signed(signed, signature, certificate):
        raise Refused(Reply.UNAUTHORIZED, f"is not signed by {known.signer} with a key that is published now")
    claims.update(unproven)
    times = {"nbf": claims.get("nbf", 0), "iat": claims.get("iat"), "exp": claims.get("exp")}
    for name, value in times.items():
        if type(value) not in (int, float) or abs(value) >= 2**53:
            raise Refused(Reply.UNAUTHORIZED, f"has no time in its {name}")
    # Google may allow for some seconds between two clocks. No source says how many.
    if times["exp"] <= now:
        raise Refused(Reply.UNAUTHORIZED, f"expired {(now - times['exp']) / 60:.1f} minutes ago")
    if (wait := max(times["nbf"], times["iat"]) - now) > 0:
        raise Refused(Reply.UNAUTHORIZED, f"is not valid for another {wait / 60:.1f} minutes (a wrong clock?)")
    check_audience(claims.get("aud"), known)
    if not isinstance(claims.get("sub"), str):
        raise Refused(Reply.UNAUTHORIZED, "names nobody in its sub")
    if is_old:
        why = f"has the issuer (iss) {OLD_ISSUER}. Whether the platform accepts it as {ISSUER} is not documented"
        raise Refused(Reply.UNKNOWN, why)


def parts(token: str) -> tuple[dict[str, Any], dict[str, Any], str, bytes]:
    """Header, claims, what was signed, and the signature, as RFC 7515, 7519 and 8725 require.

    How strict Google is with a malformed token is not documented.
    """
    if len(token) > LARGEST:
        raise Refused(Reply.UNAUTHORIZED, f"is too large, with {len(token)} characters")
    signed, _, last = token.rpartition(".")
    try:
        if not re.fullmatch(r"[\w-]+\.[\w-]+\.[\w-]*", token, re.A):
            raise ValueError
        header, claims = (as_object(decoded(part)) for part in signed.split("."))
        signature = decoded(last)
    except (ValueError, RecursionError):
        why = "is not a JWT, which is two JSON objects and a signature in base64url"
        raise Refused(Reply.UNAUTHORIZED, why) from None
    if "crit" in header or str(header.get("typ", "JWT")).upper() not in ("JWT", "AT+JWT"):
        raise Refused(Reply.UNAUTHORIZED, "is another kind of JWT, as crit or typ in its header says")
    return header, claims, signed, signature


def decoded(part: str) -> bytes:
    content = base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
    if base64.urlsafe_b64encode(content).rstrip(b"=").decode() != part:
        raise ValueError  # not the canonical encoding
    return content


def as_object(content: bytes) -> dict[str, Any]:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(pairs)) < len(pairs):
            raise Refused(Reply.UNAUTHORIZED, "is not a JWT: a name occurs twice in one of its parts")
        return dict(pairs)

    found = json.loads(
        content.decode(), object_pairs_hook=once, parse_constant=int
    )  # NaN is not a number
    if not isinstance(found, dict):
        raise ValueError
    return found


def is_signed(signed: str, signature: bytes, certificate: str | None) -> bool:
    if not certificate:
        return False
    key = x509.load_pem_x509_certificate(certificate.encode()).public_key()
    if not isinstance(key, rsa.RSAPublicKey):
        return False
    try:
        key.verify(signature, signed.encode(), padding.PKCS1v15(), hashes.SHA256())
    except InvalidSignature:
        return False
    return True


def check_audience(audience: Any, known: Known) -> None:
    answers_to = [*known.urls, *known.more_audiences]
    if audience in [*answers_to, *(f"{url}/" for url in known.urls), GCLOUD]:
        return
    why = f"is made for {shown(audience)}, and {known.name} answers to {', '.join(answers_to)}"
    # Whether Google accepts these two is not documented.
    with_path = any(re.match(re.escape(url) + "/[^?#]*$", str(audience)) for url in known.urls)
    if known.signer == "Google" and (with_path or str(audience).startswith(APPLICATION_DEFAULT)):
        raise Refused(Reply.UNKNOWN, f"{why}. Whether Google accepts it anyway is not documented")
    raise Refused(Reply.UNAUTHORIZED, why)


def shown(value: Any) -> str:
    """A claim or a path, made safe to print to a terminal."""
    text = value if isinstance(value, str) else json.dumps(value)
    return "".join(c if c.isprintable() else "?" for c in text[:300])
