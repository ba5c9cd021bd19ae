"""HTTP connections to other functions: kept for a while, and answers read within bounds."""

import io
import json
import os
import time
from http.client import HTTPResponse
from http.cookiejar import DefaultCookiePolicy
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import NewConnectionError

__all__ = ["TooLarge", "new_session", "parsed", "whole_body"]

LONGEST_IDLE = 20  # seconds; the other end, or a router between, may have left it unsaid
LARGEST_ANSWER = 1024 * 1024  # bytes
THREADS = int(os.environ.get("THREADS") or 4 * (os.cpu_count() or 1))  # as functions-framework has


class TooLarge(Exception):
    """The answer is larger than is good for this instance."""


class Until(io.RawIOBase):
    """Reads from a socket until a moment. A socket's own timeout is for each read alone."""

    def __init__(self, sock, seconds):
        self._sock, self._raw = sock, sock.makefile("rb", buffering=0)
        self._moment = time.monotonic() + seconds

    def makefile(self, mode):  # http.client asks its socket for this
        return io.BufferedReader(self)

    def readable(self):
        return True

    def readinto(self, buffer):
        left = self._moment - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        self._sock.settimeout(left)
        return self._raw.readinto(buffer)

    def close(self):
        self._raw.close()
        super().close()


class Bounded:
    """A connection whose timeout covers the whole answer. One that idled for long counts as closed."""

    answered = 0.0  # by the clock of the wall: an instance may be frozen meanwhile

    @property
    def is_connected(self):
        return super().is_connected and 0 <= time.time() - self.answered < LONGEST_IDLE

    def connect(self):
        try:
            super().connect()
        except OSError as error:  # the TLS handshake failed: nothing was asked yet
            raise NewConnectionError(self, type(error).__name__) from error

    def getresponse(self):
        source = Until(self.sock, self.timeout)
        self.response_class = lambda sock, **more: HTTPResponse(source, **more)
        try:
            answer = super().getresponse()
        except Exception:
            source.close()  # urllib3 leaves it open where the answer is no HTTP
            raise
        self.answered = time.time()
        return answer


class PlainPool(HTTPConnectionPool):
    ConnectionCls = type("PlainConnection", (Bounded, HTTPConnectionPool.ConnectionCls), {})


class TLSPool(HTTPSConnectionPool):
    ConnectionCls = type("TLSConnection", (Bounded, HTTPSConnectionPool.ConnectionCls), {})


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


def whole_body(answer: requests.Response) -> bytes:
    """The body, which may be no larger than LARGEST_ANSWER."""
    body = b""
    while part := answer.raw.read1(64 * 1024, decode_content=True):
        body += part
        if len(body) > LARGEST_ANSWER:
            raise TooLarge("the answer is larger than 1 MiB")
    return body


def parsed(answer: requests.Response, body: bytes) -> Any:
    """The JSON value in the body, None for no content. Raises ValueError that names the flaw."""
    kind = answer.headers.get("Content-Type", "no content type").partition(";")[0].strip().lower()
    # HEAD has no body, but a page of the platform is one all the same.
    if not body and (200 <= answer.status_code < 300 or kind != "text/html"):
        return None
    if kind != "application/json" and not kind.endswith("+json"):
        raise ValueError(f"not JSON: {kind}")
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise ValueError("not valid JSON") from None
