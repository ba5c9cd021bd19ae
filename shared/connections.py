"""HTTP connections to other functions: kept for a while; answers are limited in size and time."""

import json
import os
import time
from http.cookiejar import DefaultCookiePolicy
from typing import Any

import requests
from requests.adapters import HTTPAdapter

__all__ = ["new_session", "parsed", "whole_body"]

LONGEST_KEPT = 20  # seconds; after idling, the other end may have closed it without telling us
LARGEST_ANSWER = 1024 * 1024  # bytes
THREADS = int(os.environ.get("THREADS") or 4 * (os.cpu_count() or 1))  # as in functions-framework


class Adapter(HTTPAdapter):
    """Keeps a connection for each thread, and drops all of them every LONGEST_KEPT seconds."""

    begun = 0.0  # in wall-clock time: an instance may be frozen in between

    def send(self, *args: Any, **options: Any) -> requests.Response:
        if not 0 <= time.time() - self.begun < LONGEST_KEPT:
            self.begun = time.time()
            self.close()  # calls in progress keep their connections
        return super().send(*args, **options)


def new_session() -> requests.Session:
    """For requests with a token: no cookies, no proxy, and no ~/.netrc to replace the token."""
    session = requests.Session()
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    session.trust_env = False
    adapter = Adapter(pool_maxsize=THREADS)  # each thread may call at the same moment
    session.mount("http://", adapter)
    session.mount("https://", adapter)
    return session


def whole_body(answer: requests.Response, deadline: float) -> bytes:
    """The body; of a large one, a bit more than LARGEST_ANSWER. Raises Timeout after the deadline.

    `deadline` is in time.monotonic(), and is checked between two parts of the body. Within a part,
    each read has its own timeout, so a call can end later by that much. It can take longer only if
    the other end sends its headers byte by byte: each read has a limit, all together have none.
    """
    body = b""
    while len(body) <= LARGEST_ANSWER and (
        part := answer.raw.read1(64 * 1024, decode_content=True)
    ):
        body += part
        if time.monotonic() > deadline:
            raise requests.Timeout
    return body


def parsed(answer: requests.Response, body: bytes) -> tuple[Any, str]:
    """The JSON value in the body (None if it is empty), and why it is not JSON, if it is not."""
    kind = answer.headers.get("Content-Type", "no content type").partition(";")[0].strip().lower()
    # An answer to HEAD has no body, but the platform's page must be recognised there, too.
    if not body and (200 <= answer.status_code < 300 or kind != "text/html"):
        return None, ""
    if len(body) > LARGEST_ANSWER:
        return None, "larger than 1 MiB"
    if kind != "application/json" and not kind.endswith("+json"):
        return None, f"not JSON: {kind}"
    try:
        return json.loads(body), ""
    except (ValueError, RecursionError):
        return None, "not valid JSON"
