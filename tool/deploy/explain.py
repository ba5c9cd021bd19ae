"""Why the platform would answer a call with 401, 403 or 404, or let it in.

The rules are Cloud Run's, in its order: service, path, ingress, everyone, token, policy. What
cannot be known from here is "unknown", and never guessed. Not looked at: deny policies, VPC
Service Controls and IAP. Signatures need the package cryptography.
"""

from __future__ import annotations

import base64
import enum
import json
import re
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from tool.deploy.gcloud import Answer

ISSUER = "https://accounts.google.com"
GCLOUD = "32555940559.apps.googleusercontent.com"  # gcloud's own audience: every service takes it
APPLICATION_DEFAULT = "764086051850-"  # how that of "gcloud auth application-default" begins
# Google keeps some other paths that end in z to itself, too, and does not list them.
RESERVED = re.compile(r"/healthz|/eventlog|/_ah/.*", re.S)
LARGEST = 16384  # characters of a token; Google's own limit is not documented
HIDDEN = ("group", "domain", "principalset")  # who is in these is not seen here


class Grant(NamedTuple):
    """A member of a binding, in the policy of the service or in one above it."""

    member: str
    role: str
    condition: str  # its title, if it has one
    where: str  # for example "project p-1"
    holds: Answer  # whether the role holds run.routes.invoke


class Unread(NamedTuple):
    """A policy that could not be read."""

    where: str
    is_of_service: bool


class Known(NamedTuple):
    """What was collected. None: it could not be read."""

    signer: str  # Google, or this local project
    project: str
    region: str
    ours: str  # how the addresses of the project's own service accounts end
    at_platform: bool  # whether the host of the URL is one of the platform's
    name: str  # the service; "" where there is none
    urls: tuple[str, ...]
    more_audiences: tuple[str, ...]
    ingress: str
    open: bool  # its invoker check is switched off
    grants: tuple[Grant, ...]
    unread: tuple[Unread, ...]
    accounts: dict[str, str] | None  # the project's service accounts, address by number
    certificates: dict[str, str] | None  # PEM by key id


class Reply(enum.Enum):
    """What the platform does with a call."""

    UNAUTHORIZED = "401"
    FORBIDDEN = "403"
    NOT_FOUND = "404"
    LET_IN = "let in"
    UNKNOWN = "unknown"


class Verdict(NamedTuple):
    answer: Reply
    why: str
    command: tuple[str, ...] = ()  # what changes it


class Refused(Exception):
    """How a token is answered, and why."""

    def __init__(self, answer: Reply, why: str):
        super().__init__(why)
        self.answer, self.why = answer, why


def verdict(url: str, sent: str, known: Known, now: float) -> Verdict:
    """What the platform answers to a call of `url` with the token that was `sent`."""
    name, host, path = known.name, urlsplit(url).netloc, unquote(urlsplit(url).path)
    if not name:
        listing = f"gcloud run services list --project={known.project} shows what there is"
        if known.at_platform:
            return Verdict(Reply.NOT_FOUND, f"this project has no service at {host}: {listing}")
        why = f"at {host} is a proxy or load balancer, or nothing; ask with the service's own URL"
        return Verdict(Reply.UNKNOWN, f"{why}: {listing}")
    if RESERVED.fullmatch(path):
        return Verdict(Reply.NOT_FOUND, f"the platform keeps {shown(path)} to itself: no function sees it")
    if known.ingress != "all":
        why = f"{name} takes calls from inside only (ingress: {known.ingress}), whatever the token"
        return Verdict(Reply.NOT_FOUND, why, on_service("update", known, "--ingress=all"))
    if known.open:
        return Verdict(Reply.LET_IN, f"the invoker check of {name} is switched off, for everyone")
    grant, doubts = grant_for(None, known)
    if grant:
        return Verdict(Reply.LET_IN, f"everyone may call {name}, by {told(grant)}")
    found = verdict_on(sent, known, now)
    if doubts and found.answer in (Reply.UNAUTHORIZED, Reply.FORBIDDEN):
        status = found.answer.value
        why = f"{'; '.join(doubts)}. Unless everyone may call, it is {status}: {found.why}"
        return found._replace(answer=Reply.UNKNOWN, why=why)
    return found


def verdict_on(sent: str, known: Known, now: float) -> Verdict:
    """What the platform answers to a token, where not everyone is let in."""
    name = known.name
    claims: dict[str, Any] = {}
    sent = re.sub(r"(?i)^authorization:\s*", "", sent.strip())
    if not sent:
        why = f"no token came, and {name} does not let in everyone"
        return Verdict(Reply.FORBIDDEN, why, new_token(claims, known))
    try:
        # What the platform answers to another scheme than Bearer is not documented.
        check(re.sub(r"(?i)^bearer(\s+|$)", "", sent), claims, known, now)
        principal = principal_of(claims["sub"], claims.get("email"), known)
    except Refused as refused:
        answer, why = refused.answer, refused.why
        refused_as_unproven = answer is Reply.UNAUTHORIZED
        command = new_token(claims, known) if refused_as_unproven else ()
        # Of a token that is proven, it is known whether a better one would do.
        if refused_as_unproven and claims.get("email") and not any(grant_for(principal_named(claims), known)):
            why += f". One for {name} would be answered 403: {principal_named(claims)} may not call it"
        return Verdict(answer, f"the token {why}", command)
    grant, doubts = grant_for(principal, known)
    if grant:
        why = f"{principal} may call {name}, by {told(grant)}. On Google Cloud it takes about two"
        why += " minutes, sometimes seven or more, until a changed policy works everywhere"
        return Verdict(Reply.LET_IN, why)
    if doubts:
        why = f"nothing that can be read lets {principal} call {name}, but {'; '.join(doubts)}"
        return Verdict(Reply.UNKNOWN, why)
    why = f"{principal} may not call {name}: neither its policy nor one above it gives this"
    binding = (f"--member={principal}", "--role=roles/run.invoker")
    command = on_service("add-iam-policy-binding", known, *binding)
    return Verdict(Reply.FORBIDDEN, f"{why} principal the permission run.routes.invoke", command)


# ---- the token


def check(token: str, claims: dict[str, Any], known: Known, now: float) -> None:
    """Raises Refused, or fills in the claims of a token that is good for the service."""
    if token.startswith("ya29."):
        raise Refused(Reply.UNAUTHORIZED, "is an access token, for Google's APIs; an ID token is needed")
    if token.endswith(".SIGNATURE_REMOVED_BY_GOOGLE"):
        why = "lost its signature when the platform let it in; whoever got it needs one of its own"
        raise Refused(Reply.UNAUTHORIZED, why)
    header, unproven, signed, signature = parts(token)
    if str(unproven.get("sub")).startswith("spiffe://"):
        raise Refused(Reply.UNAUTHORIZED, "is a JWT-SVID (spiffe://); a service account's ID token is needed")
    if unproven.get("iss") != ISSUER:
        raise Refused(Reply.UNAUTHORIZED, f"has another issuer (iss) than {ISSUER}")
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


def parts(token: str) -> tuple[dict[str, Any], dict[str, Any], str, bytes]:
    """Header, claims, what was signed, and the signature; as RFC 7515, 7519 and 8725 want them.

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
        raise ValueError  # not the one way to write this
    return content


def as_object(content: bytes) -> dict[str, Any]:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(pairs)) < len(pairs):
            raise Refused(Reply.UNAUTHORIZED, "is not a JWT: a name stands twice in one of its parts")
        return dict(pairs)

    found = json.loads(
        content.decode(), object_pairs_hook=once, parse_constant=int
    )  # NaN is no number
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
    # Of these two it is not documented whether Google takes them.
    with_path = any(re.match(re.escape(url) + "/[^?#]*$", str(audience)) for url in known.urls)
    if known.signer == "Google" and (with_path or str(audience).startswith(APPLICATION_DEFAULT)):
        raise Refused(Reply.UNKNOWN, f"{why}. Whether Google takes it all the same is not documented")
    raise Refused(Reply.UNAUTHORIZED, why)


# ---- the policies


def principal_of(number: str, email: Any, known: Known) -> str:
    """Whom a policy would name. A token always has the number (sub), and often the address."""
    if known.accounts and number in known.accounts:
        return f"serviceAccount:{known.accounts[number]}"
    if not isinstance(email, str) or not email:
        why = "names its principal by number only, and this finds none with that uniqueId: gcloud"
        raise Refused(Reply.UNKNOWN, f"{why} iam service-accounts list --project={known.project}")
    if known.accounts is not None and email.lower().endswith(known.ours.lower()):
        # Whether Google refuses the last tokens of a deleted account at once is not documented.
        raise Refused(Reply.FORBIDDEN, f"is older than {shown(email)}, which was deleted, or made anew")
    return principal_named({"email": email})


def principal_named(claims: dict[str, Any]) -> str:
    """The principal by the address in its token."""
    email = shown(claims["email"])
    kind = "serviceAccount" if email.lower().endswith(".gserviceaccount.com") else "user"
    return f"{kind}:{email}"


def grant_for(principal: str | None, known: Known) -> tuple[Grant | None, list[str]]:
    """What lets the principal in (None: everyone); if nothing does, what cannot be known of it."""
    names = {"allusers", *(("allauthenticatedusers", principal.lower()) if principal else ())}
    # IAM is said to take allUsers in no policy above a service; this is not verified.
    doubts = [
        f"the policy of {unread.where} cannot be read"
        for unread in known.unread
        if principal or unread.is_of_service
    ]
    for grant in known.grants:
        named = grant.member.lower() in names
        if named and grant.holds is Answer.YES and not grant.condition:
            return grant, []
        if grant.holds is Answer.NO:
            continue
        if named and grant.condition:
            doubts.append(f"{told(grant)} has the condition {shown(grant.condition)}")
        elif named:
            doubts.append(f"the role in {told(grant)} cannot be read")
        elif principal and grant.member.partition(":")[0].lower() in HIDDEN:
            doubts.append(f"who is in {grant.member} is not known here, see {told(grant)}")
    return None, list(dict.fromkeys(doubts))


def told(grant: Grant) -> str:
    return f"the binding of {grant.role} in the policy of {grant.where}"


# ---- what is printed


def on_service(verb: str, known: Known, *options: str) -> tuple[str, ...]:
    where = (f"--project={known.project}", f"--region={known.region}")
    return ("gcloud", "run", "services", verb, known.name, *where, *options)


def new_token(claims: dict[str, Any], known: Known) -> tuple[str, ...]:
    """The command that prints a token for the service, as whoever the claims name."""
    email, command = shown(claims.get("email")), ("gcloud", "auth", "print-identity-token")
    if not email.endswith(".gserviceaccount.com"):
        return command
    options = (f"--impersonate-service-account={email}", f"--audiences={known.urls[0]}")
    return (*command, *options, "--include-email")


def shown(value: Any) -> str:
    """A claim, or a path, so that it can do nothing to a terminal."""
    text = value if isinstance(value, str) else json.dumps(value)
    return "".join(c if c.isprintable() else "?" for c in text[:300])
