"""The invoker check: what Cloud Run's front end does to a request before a function sees it.

no credential 403 · one that cannot be verified 401 · no binding for its principal 403
"""

import enum
import re
import secrets
from urllib.parse import unquote

from tool.local import policies, roles, tokens
from tool.local.cloud_run.forwarding import Headers
from tool.local.policies import Grant
from tool.local.records import Record
from tool.local.services import Ingress, Service

GONE = "an account that is gone"
REMOVED = "SIGNATURE_REMOVED_BY_GOOGLE"
TRACEPARENT = re.compile("00-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}")
CLOUD_TRACE = re.compile("([0-9a-fA-F]{32})(/[0-9]{1,20})?(;o=[0-9]+)?")  # the older header
RESERVED = re.compile(r"/healthz|/eventlog|/_ah/.*", re.S)

EMPTY_HEADER = (
    "The request was not authenticated. Either allow unauthenticated invocations or set the"
    " proper Authorization header. Empty Authorization header value."
)
UNVERIFIED = (
    "The request was not authorized to invoke this service. The access token could not be verified."
)
LACKS_PERMISSION = (
    "The request was not authenticated. The IAM principal lacks {run.routes.invoke} permission."
)


# What tokens.holder raises.
REASONS = (
    "it is not a bearer token", "it is not signed with a key of this project", "its signature is wrong",
    "of another issuer, or for another audience", "its times are not numbers", "it is not valid now", "it names nobody",
)  # fmt: skip


class Refusal(Record):
    """The status that the caller gets, and what Cloud Run writes into the function's log."""

    status: int
    reason: str | None = None


class Outcome(enum.StrEnum):
    """The result of the check."""

    LET_IN = "let in"
    CHECK_IS_OFF = "check is off"
    NO_TOKEN = "no token"
    BAD_TOKEN = "bad token"
    NO_BINDING = "no binding"
    NOWHERE = "nowhere"  # the platform serves nothing there to this caller


class Verdict(Record):
    """What the check found out."""

    outcome: Outcome
    refusal: Refusal | None = None
    caller: str = ""  # the principal; "": nobody in particular
    detail: str = ""  # what is wrong with the token or the address
    grant: Grant | None = None  # the one that lets the caller in


def verdict(service: Service, path: str, headers: Headers) -> Verdict:
    """Whether this request reaches the function.

    The bindings are read again for each request. The signature is removed from the header that was checked,
    so that the function cannot use the token as its own.
    """
    hosts = [f"127.0.0.1:{service.port}"], [f"localhost:{service.port}"]
    if headers.getall("Host", []) not in hosts:  # a web page may send a browser here
        return nowhere("it came under another name")
    if RESERVED.fullmatch(unquote(path)):
        return nowhere("the platform keeps this path to itself")
    if service.ingress is not Ingress.ALL:  # every caller on this machine is outside
        return nowhere(f"its ingress is {service.ingress}")
    if service.open:
        return Verdict(Outcome.CHECK_IS_OFF)
    if grant := policies.grant(roles.INVOKE, None, service.name):
        return Verdict(Outcome.LET_IN, grant=grant)

    # Only this header is checked; the other one passes unchanged.
    header = "X-Serverless-Authorization"
    if header not in headers:
        header = "Authorization"
    credential = ",".join(headers.getall(header, []))
    if not credential:
        return Verdict(Outcome.NO_TOKEN, Refusal(403, EMPTY_HEADER))
    # What a scheme other than Bearer gets is not documented; here it counts as a credential that
    # cannot be verified.
    scheme, _, token = credential.partition(" ")
    token = token.strip(" ")
    # Google accepts gcloud's own audience, too: a plain user token has no other.
    audiences = [service.url, f"{service.url}/", tokens.GCLOUD_CLIENT_ID]
    try:
        if scheme.lower() != "bearer":
            raise ValueError("it is not a bearer token")
        account = tokens.holder(token, audiences)
    except ValueError as error:
        return Verdict(Outcome.BAD_TOKEN, Refusal(401, UNVERIFIED), detail=reason_of(error))
    caller = account.member if account else GONE
    # Whether Google refuses a deleted account's last tokens is not known; this does.
    if not (grant := policies.grant(roles.INVOKE, account, service.name)):
        return Verdict(Outcome.NO_BINDING, Refusal(403, LACKS_PERMISSION), caller)
    headers[header] = f"{scheme} {token.rpartition('.')[0]}.{REMOVED}"
    return Verdict(Outcome.LET_IN, None, caller, grant=grant)


def nowhere(why: str) -> Verdict:
    return Verdict(Outcome.NOWHERE, Refusal(404), detail=why)


def reason_of(error: ValueError) -> str:
    """What is wrong with a token, in our own words, because an error may quote the token."""
    said = str(error)
    return said if said in REASONS else "it cannot be read as a token"


class Trace(Record):
    """The trace of a request. Each call has its own span; `parent` is the one that led to it."""

    id: str
    span: str
    parent: str = ""


def trace_of(headers: Headers) -> Trace:
    """The trace that a request belongs to; a new one if it names none."""
    span = secrets.token_hex(8)
    if came_with := TRACEPARENT.fullmatch(headers.get("Traceparent", "")):
        return Trace(came_with[1], span, came_with[2])
    if came_with := CLOUD_TRACE.fullmatch(headers.get("X-Cloud-Trace-Context", "")):
        parent = f"{int(came_with[2][1:]):016x}" if came_with[2] else ""
        return Trace(came_with[1].lower(), span, parent[-16:])
    return Trace(secrets.token_hex(16), span)


def add_headers(headers: Headers, address: str, trace: Trace) -> None:
    """Adds what Cloud Run tells a function about the origin of the request."""
    before = ",".join(headers.getall("X-Forwarded-For", []))
    headers["X-Forwarded-For"] = f"{before},{address}" if before else address
    headers["X-Forwarded-Proto"] = "https"
    headers["Forwarded"] = f'for="{address}";proto=https'
    headers["Traceparent"] = f"00-{trace.id}-{trace.span}-01"
    headers["X-Cloud-Trace-Context"] = f"{trace.id}/{int(trace.span, 16)};o=1"
