"""HTTP connections to other functions: kept for a while, and answers read within bounds."""

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
THREADS = int(os.environ.get("THREADS") or 4 * (os.cpu_count() or 1))  # as functions-framework has


class Adapter(HTTPAdapter):
    """Keeps a connection for each thread, and begins anew every LONGEST_KEPT seconds."""

    begun = 0.0  # in wall-clock time: an instance may be frozen meanwhile

    def send(self, *args: Any, **options: Any) -> requests.Response:
        if not 0 <= time.time() - self.begun < LONGEST_KEPT:
            self.begun = time.time()
            self.close()  # the calls under way go on, on the connections that they have
        return super().send(*args, **options)


def new_session() -> requests.Session:
    """For requests with a token: no cookies, no ~/.netrc instead of the token, no proxy."""
    session = requests.Session()
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    session.trust_env = False
    adapter = Adapter(pool_maxsize=THREADS)  # each thread may call at the same moment
    session.mount("http://", adapter)
    session.mount("https://", adapter)
    return session


def whole_body(answer: requests.Response, deadline: float) -> bytes:
    """The body, or more than LARGEST_ANSWER of a larger one. Raises Timeout after the deadline.

    `deadline`: in time.monotonic(), looked at between two parts of the body. Within a part, the
    timeout of each read holds. So a call ends that much later at the latest, unless the other end
    lets its headers drip: each of their reads has a bound, all together have none.
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
    """The JSON value in the body, None for no content; and the flaw of what is not JSON."""
    kind = answer.headers.get("Content-Type", "no content type").partition(";")[0].strip().lower()
    # HEAD has no body, but a page of the platform is one all the same.
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
