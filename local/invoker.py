"""The invoker check: what Cloud Run's front end does to a request before a function sees it.

no credential 403 · one that cannot be verified 401 · no binding for its principal 403
"""

import logging
import re
import secrets

from werkzeug.wrappers import Request, Response

from local import tokens
from local.project import may_invoke, principal, read

log = logging.getLogger(__name__)  # written like the function's own lines

REMOVED = "SIGNATURE_REMOVED_BY_GOOGLE"
RESERVED = re.compile(r"/healthz|/eventlog|/_ah/.*")

PAGE = """
<html><head>
<meta http-equiv="content-type" content="text/html;charset=utf-8">
<title>{title}</title>
</head>
<body text=#000000 bgcolor=#ffffff>
<h1>Error: {name}</h1>
<h2>{text}</h2>
<h2></h2>
</body></html>
"""
NOT_FOUND = (
    "404 Page not found",
    "Page not found",
    "The requested URL was not found on this server.",
)
NO_PERMISSION = (
    "403 Forbidden",
    "Forbidden",
    "Your client does not have permission to get URL <code>{path}</code> from this server.",
)
NO_VALID_TOKEN = (
    "401 Unauthorized",
    "Unauthorized",
    "Your client does not have permission to the requested URL <code>{path}</code>.",
)
CHALLENGE = (
    'Bearer error="invalid_token" error_description="The access token could not be verified"'
)
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


class InvokerCheck:
    """WSGI middleware in front of the function `service`. The bindings are read anew each time."""

    def __init__(self, app, service: str):
        self.app, self.service = app, service
        self.url = read(f"services/{service}")["url"]
        # The platform accepts gcloud's own audience as well: a plain user token has no other.
        self.audiences = [self.url, self.url + "/", tokens.GCLOUD_CLIENT_ID]

    def __call__(self, environ, start_response):
        request = Request(environ)
        return self._decide(request, environ)(environ, start_response)

    def _decide(self, request, environ):
        """The application that answers: a refusal, or the function itself."""
        port = self.url.rpartition(":")[2]
        if environ.get("HTTP_HOST") not in (f"127.0.0.1:{port}", f"localhost:{port}"):
            return refusal(404, NOT_FOUND, request)
        if RESERVED.fullmatch(request.path):
            return refusal(404, NOT_FOUND, request)

        if not may_invoke(self.service, {"allUsers"}):
            # The one header that is checked; the other one passes untouched.
            header = "HTTP_X_SERVERLESS_AUTHORIZATION"
            if header not in environ:
                header = "HTTP_AUTHORIZATION"
            if not environ.get(header):
                return refusal(403, NO_PERMISSION, request, EMPTY_HEADER)
            # What a scheme other than Bearer gets is not documented; here it is a credential
            # that cannot be verified.
            scheme, _, token = environ[header].partition(" ")
            try:
                if scheme.lower() != "bearer":
                    raise ValueError("not a bearer token")
                account = tokens.holder(token.strip(), self.audiences)
            except ValueError:
                return refusal(401, NO_VALID_TOKEN, request, UNVERIFIED)
            # Whether Google refuses a deleted account's last tokens is not known; here it does.
            members = {"allAuthenticatedUsers", principal(account)} if account else set()
            if not may_invoke(self.service, members):
                return refusal(403, NO_PERMISSION, request, LACKS_PERMISSION)
            unsigned = token.strip().rpartition(".")[0]
            environ[header] = f"{scheme} {unsigned}.{REMOVED}"

        self._add_headers(environ)
        return self.app

    def _add_headers(self, environ):
        address = environ.get("REMOTE_ADDR", "127.0.0.1")
        before = environ.get("HTTP_X_FORWARDED_FOR")
        environ["HTTP_X_FORWARDED_FOR"] = f"{before},{address}" if before else address
        environ["HTTP_X_FORWARDED_PROTO"] = "https"
        environ["HTTP_FORWARDED"] = f'for="{address}";proto=https'
        came_with = re.fullmatch(
            r"00-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}", environ.get("HTTP_TRACEPARENT", "")
        )
        trace = came_with[1] if came_with else secrets.token_hex(16)
        span = secrets.token_hex(8)
        environ["HTTP_TRACEPARENT"] = f"00-{trace}-{span}-01"
        environ["HTTP_X_CLOUD_TRACE_CONTEXT"] = f"{trace}/{int(span, 16)};o=1"


def refusal(status: int, page: tuple, request: Request, reason: str | None = None) -> Response:
    """Google's error page; the reason goes to the function's log, as Cloud Run puts it there."""
    if reason:
        log.warning("%s", reason)
    title, name, text = page
    path = request.path.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    html = PAGE.format(title=title, name=name, text=text.format(path=path))
    response = Response(html, status, content_type="text/html; charset=UTF-8")
    if status == 401:
        response.headers["WWW-Authenticate"] = CHALLENGE
    return response
