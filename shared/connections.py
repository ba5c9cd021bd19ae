"""HTTP connections to other functions: kept for a while, and answers read within bounds."""

import json
import os
import time
from http.cookiejar import DefaultCookiePolicy
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool

__all__ = ["TooLarge", "new_session", "parsed", "whole_body"]

LONGEST_IDLE = 20  # seconds; the other end, or a router between, may have left it unsaid
LARGEST_ANSWER = 1024 * 1024  # bytes
THREADS = int(os.environ.get("THREADS") or 4 * (os.cpu_count() or 1))  # as functions-framework has


class TooLarge(Exception):
    """The answer is larger than is good for this instance."""


class NotIdle:
    """A connection that counts as closed once nothing was answered on it for long."""

    answered = 0.0  # by the clock of the wall: an instance may be frozen meanwhile

    @property
    def is_connected(self):
        return super().is_connected and 0 <= time.time() - self.answered < LONGEST_IDLE

    def getresponse(self):
        answer = super().getresponse()
        self.answered = time.time()
        return answer


class PlainPool(HTTPConnectionPool):
    ConnectionCls = type("PlainConnection", (NotIdle, HTTPConnectionPool.ConnectionCls), {})


class TLSPool(HTTPSConnectionPool):
    ConnectionCls = type("TLSConnection", (NotIdle, HTTPSConnectionPool.ConnectionCls), {})


def new_session() -> requests.Session:
    """For requests with a token: no cookies, no ~/.netrc in place of the token, no proxy."""
    session = requests.Session()
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    session.trust_env = False
    adapter = HTTPAdapter(pool_maxsize=THREADS)  # each thread may call at the same moment
    adapter.poolmanager.pool_classes_by_scheme = {"http": PlainPool, "https": TLSPool}
    session.mount("http://", adapter)
    session.mount("https://", adapter)
    return session


def whole_body(answer: requests.Response, deadline: float) -> bytes:
    """The body, if all of it comes in time: the timeout of requests is for each part alone."""
    body = b""
    while part := answer.raw.read1(64 * 1024, decode_content=True):
        body += part
        left = deadline - time.monotonic()
        if left <= 0:
            raise requests.Timeout
        if answer.raw.connection and answer.raw.connection.sock:
            answer.raw.connection.sock.settimeout(left)
        if len(body) > LARGEST_ANSWER:
            raise TooLarge("the answer is larger than 1 MiB")
    return body


def parsed(answer: requests.Response, body: bytes) -> Any:
    """The JSON value in the body, None for no content. Raises ValueError that names the flaw."""
    if not body and (200 <= answer.status_code < 300 or answer.request.method == "HEAD"):
        return None
    kind = answer.headers.get("Content-Type", "no content type").partition(";")[0].strip().lower()
    if kind != "application/json" and not kind.endswith("+json"):
        raise ValueError(f"not JSON: {kind}")
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise ValueError("not valid JSON") from None
