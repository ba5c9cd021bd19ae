"""Calls from one function to another: with an ID token, a timeout, and errors told apart.

CallError
├── NoToken      there is no ID token to call with                          answered 503
├── Busy         it asks to be called again later                           answered 503
├── Unreachable  no connection, or not the answer that was agreed on        answered 502
├── Refused      no invoker binding lets this function in                   answered 502
└── TimedOut     no answer in time                                          answered 504
"""

import json
import logging
import os
import time
from http.cookiejar import DefaultCookiePolicy

import requests
from flask import g, has_request_context
from urllib3.exceptions import HTTPError, ReadTimeoutError

from shared import logs
from shared.auth import IDTokenAuth, TokenError

__all__ = ["Function", "CallError", "NoToken", "Busy", "Unreachable", "Refused", "TimedOut"]

log = logging.getLogger(__name__)

LARGEST_ANSWER = 1024 * 1024  # bytes
HINTS = {
    302: "; redirects are not followed, they could take the token elsewhere",
    401: "; the platform could not verify the token: is its audience the function's own URL?",
    403: "; add the caller to the trust map in deploy.sh, if it is meant to be let in",
    404: "; is the function deployed?",
}


class CallError(Exception):
    """A call that brought no answer. The sentence is for anyone, the reason for the log."""

    status, headers = 502, {}

    def __init__(self, sentence: str, reason: str):
        super().__init__(sentence)
        log.error("%s Reason: %s", sentence, reason)


class NoToken(CallError):
    status = 503


class Busy(CallError):
    status, headers = 503, {"Retry-After": "1"}


class Unreachable(CallError):
    pass


class Refused(CallError):
    pass


class TimedOut(CallError):
    status = 504


class Function:
    """Another function, called by its name, as this function's own service account.

    Its URL stands in the environment, as deploy.sh sets it: MY_FUNCTION_URL for
    my-function. `timeout`: seconds to connect, and seconds to wait for the answer.
    """

    def __init__(self, name: str, timeout: tuple[float, float] = (3, 6)):
        variable = name.upper().replace("-", "_") + "_URL"
        if variable not in os.environ:
            raise RuntimeError(f"{variable} is not set: where is the function {name}?")
        self.name, self.timeout = name, timeout
        self.auth = IDTokenAuth(os.environ[variable])
        # One session for all threads: it keeps connections, and nothing else.
        self._session = requests.Session()
        self._session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        self._session.trust_env = False  # no ~/.netrc in place of the token, no proxy
        adapter = requests.adapters.HTTPAdapter(pool_maxsize=100)  # as many as threads may call
        self._session.mount(self.auth.audience, adapter)

    def call(self, method: str, path: str, expect: tuple[int, ...] = (200,), **content):
        """Sends `content` (json= or params=) and returns the status and the JSON object answered.

        Raises CallError for a status that is not in `expect` and for anything but JSON.
        flask.g.calls lists the calls made for the request at hand: (function, outcome, seconds),
        where the outcome is a status or the name of an error.
        """
        begun, outcome = time.monotonic(), None
        try:
            outcome, body = self._call(method, path, expect, content)
            return outcome, body
        except CallError as error:
            outcome = type(error).__name__
            raise
        finally:
            if has_request_context():
                call = self, outcome, time.monotonic() - begun
                g.calls = [*g.get("calls", ()), call]

    def _call(self, method, path, expect, content):
        deadline = time.monotonic() + sum(self.timeout)
        try:
            with self._session.request(
                method,
                self.auth.audience + path,
                auth=self.auth,
                timeout=self.timeout,
                allow_redirects=False,
                stream=True,
                headers=logs.trace_headers(),
                **content,
            ) as answer:
                text = whole_body(answer, deadline)
        except TokenError as error:
            raise NoToken(f"No identity to call {self.name} with.", str(error)) from None
        except (requests.Timeout, ReadTimeoutError):
            reason = f"not within {self.timeout} s; its own log shows what takes so long"
            raise TimedOut(f"{self.name} did not answer in time.", reason) from None
        except (requests.RequestException, HTTPError) as error:
            reason = f"{type(error).__name__}; does it run, at {self.auth.audience}?"
            raise Unreachable(f"{self.name} cannot be reached.", reason) from None

        try:
            body = (
                json.loads(text) if answer.headers["Content-Type"] == "application/json" else None
            )
        except (KeyError, ValueError, RecursionError):
            body = None
        if answer.status_code in expect and isinstance(body, dict):
            return answer.status_code, body
        # 429 is Cloud Run's own: every instance that max-instances allows is at its limit.
        retry_later = answer.status_code == 503 and "Retry-After" in answer.headers
        if answer.status_code == 429 or retry_later:
            raise Busy(f"{self.name} is busy.", f"status {answer.status_code}; more instances help")
        reason = (
            f"status {answer.status_code}{HINTS.get(answer.status_code, '; its own log says more')}"
        )
        # The platform's own refusals are HTML: the request never reached the function's code.
        if answer.status_code == 403 and body is None:
            raise Refused(f"{self.name} does not let this function in.", reason)
        raise Unreachable(f"{self.name} gave no usable answer.", reason)


def whole_body(answer: requests.Response, deadline: float) -> bytes:
    """The body, if all of it comes in time: the timeout of requests is for each part alone."""
    body = b""
    while part := answer.raw.read1(64 * 1024, decode_content=True):
        body += part
        if time.monotonic() > deadline:
            raise requests.Timeout
        if len(body) > LARGEST_ANSWER:
            raise requests.RequestException("too large")
    return body
