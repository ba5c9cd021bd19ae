"""The invoker check: what Cloud Run's front end does to a request before a function sees it.

no credential 403 · one that cannot be verified 401 · no binding for its principal 403
"""

import re
import secrets
from urllib.parse import unquote

from tool.local import policies, roles, tokens
from tool.local.cloud_run.forwarding import Headers
from tool.local.records import Record
from tool.local.services import Ingress, Service

REMOVED = "SIGNATURE_REMOVED_BY_GOOGLE"
TRACEPARENT = re.compile("00-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")
CLOUD_TRACE = re.compile("([0-9a-fA-F]{32})(/[0-9]+)?(;o=[0-9]+)?")  # the older one
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


class Refusal(Record):
    """The status that the caller gets, and what Cloud Run writes into the function's log."""

    status: int
    reason: str | None = None


def refusal(service: Service, path: str, headers: Headers) -> Refusal | None:
    """Why this request does not reach the function; None if it is let in.

    The bindings are read anew each time. From the header that was checked the signature is
    removed, so that the function cannot use the token as its own.
    """
    hosts = [f"127.0.0.1:{service.port}"], [f"localhost:{service.port}"]
    if headers.getall("Host", []) not in hosts:
        return Refusal(404)  # a web page may bring a browser here under a name of its own
    if RESERVED.fullmatch(unquote(path)):
        return Refusal(404)
    if service.ingress is not Ingress.ALL:
        return Refusal(404)  # every caller on this machine is outside
    if service.open or policies.allowed(roles.INVOKE, None, service.name):
        return None

    # The one header that is checked; the other one passes untouched.
    header = "X-Serverless-Authorization"
    if header not in headers:
        header = "Authorization"
    credential = ",".join(headers.getall(header, []))
    if not credential:
        return Refusal(403, EMPTY_HEADER)
    # What a scheme other than Bearer gets is not documented; here it is a credential that
    # cannot be verified.
    scheme, _, token = credential.partition(" ")
    token = token.strip(" ")
    # Google accepts gcloud's own audience as well: a plain user token has no other.
    audiences = [service.url, f"{service.url}/", tokens.GCLOUD_CLIENT_ID]
    try:
        if scheme.lower() != "bearer":
            raise ValueError("not a bearer token")
        account = tokens.holder(token, audiences)
    except ValueError:
        return Refusal(401, UNVERIFIED)
    # Whether Google refuses a deleted account's last tokens is not known; here it does.
    if not policies.allowed(roles.INVOKE, account, service.name):
        return Refusal(403, LACKS_PERMISSION)
    headers[header] = f"{scheme} {token.rpartition('.')[0]}.{REMOVED}"
    return None


def trace_of(headers: Headers) -> str:
    """The id of the trace that a request belongs to; of a new one where it says none."""
    came_with = TRACEPARENT.fullmatch(headers.get("Traceparent", ""))
    came_with = came_with or CLOUD_TRACE.fullmatch(headers.get("X-Cloud-Trace-Context", ""))
    return came_with[1].lower() if came_with else secrets.token_hex(16)


def add_headers(headers: Headers, address: str, trace: str) -> None:
    """What Cloud Run tells a function about where the request came from."""
    before = ",".join(headers.getall("X-Forwarded-For", []))
    headers["X-Forwarded-For"] = f"{before},{address}" if before else address
    headers["X-Forwarded-Proto"] = "https"
    headers["Forwarded"] = f'for="{address}";proto=https'
    span = secrets.token_hex(8)
    headers["Traceparent"] = f"00-{trace}-{span}-01"
    headers["X-Cloud-Trace-Context"] = f"{trace}/{int(span, 16)};o=1"
