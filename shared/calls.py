"""Calls from one function to another: with an ID token, a deadline, and errors told apart.

CallError
├── NoToken      there is no ID token to call with                          answered 503
├── Busy         it asks to be called again later                           answered 503
├── Unreachable  no connection, or not an answer of the expected kind       answered 502
├── Refused      no invoker binding lets this function in                   answered 502
└── TimedOut     no answer in time                                          answered 504
"""

import logging
import os
import time
from typing import Any

import requests
from blinker import Namespace
from requests.exceptions import InvalidHeader, SSLError
from urllib3.exceptions import (
    DecodeError,
    HTTPError,
    NewConnectionError,
    ProtocolError,
    ReadTimeoutError,
)
from werkzeug.exceptions import HTTPException

from shared import logs
from shared.auth import IDTokenAuth, TokenError
from shared.connections import new_session, parsed, whole_body

__all__ = ["Function", "CallError", "NoToken", "Busy", "Unreachable", "Refused", "TimedOut"]

log = logging.getLogger(__name__)

# Sent after each call, for a metric or a page. The sender is the Function; outcome= is a status or
# the name of an error; seconds= is how long the call took.
call_made = Namespace().signal("call-made")

LONGEST_CONNECT = 2  # seconds, for each IP address of the receiver
PAGES = {  # what an HTML page may mean: the platform answers with HTML, a function rarely does
    401: "the platform could not verify the token: {rule}",
    403: "not from the invoker check; perhaps from ingress, IAP or VPC Service Controls?",
    404: "perhaps not from its code: is it deployed, and does its ingress let this function in?",
}
ASK_IT = "its own log says more"
INVOKER_CHECK = b"Your client does not have permission to get URL"


class CallError(HTTPException):
    """A call without a usable answer. Anyone may see the sentence; the reason is for the log.

    `said` is the error sentence of the other function, if it gave one. The calling code may look at
    it; it is not passed on automatically.
    """

    code = 502

    def __init__(self, sentence: str, reason: str, said: str | None = None):
        super().__init__(sentence)
        self.said = said
        log.error("%s Reason: %s", sentence, reason)


class NoToken(CallError):
    code = 503


class Busy(CallError):
    code = 503

    def get_headers(self, *args, **kwargs):
        return [*super().get_headers(*args, **kwargs), ("Retry-After", "1")]


class Unreachable(CallError):
    pass


class Refused(CallError):
    pass


class TimedOut(CallError):
    code = 504


class Function:
    """Another function, called by its name, as this function's own service account.

    deploy.sh sets its URL in the environment: MY_FUNCTION_URL for my-function. The URL is also the
    audience, unless `audience` is given. `timeout`: seconds that a call may take, including its
    token and its connection; only slow DNS is not counted. `auth`: the class that attaches the
    token; a script on a developer's machine uses GcloudAuth.
    """

    def __init__(self, name: str, timeout: float = 9, audience: str = "", auth=IDTokenAuth):
        variable = name.upper().replace("-", "_") + "_URL"
        if variable not in os.environ:
            raise RuntimeError(f"{variable} is not set: where is the function {name}?")
        self.name, self.timeout = name, timeout
        self.auth = auth(audience or os.environ[variable], os.environ[variable])
        # One session for all threads: it keeps connections, and nothing else.
        self._session = new_session()

    def call(
        self,
        method: str,
        path: str,
        *,
        expect: tuple[int, ...] = (),
        repeatable: bool | None = None,
        timeout: float | None = None,
        headers: dict[str, str] | None = None,
        **content: Any,
    ) -> tuple[int, Any]:
        """Sends `content` (json=, params=, data=). Returns the status and the answer's JSON value.

        The value is None if the answer is empty. Raises CallError for a status that is neither 2xx
        nor in `expect`, and for an answer that is not JSON. A `repeatable` call (by default GET and
        HEAD) is sent once more if its connection breaks, unless its content was read from a file.
        """
        headers = {**logs.trace_headers(), **(headers or {})}
        request = requests.Request(method, self.auth.url + path, headers, **content)
        prepared = self._session.prepare_request(request)
        if repeatable is None:
            repeatable = method in ("GET", "HEAD")
        repeatable = repeatable and isinstance(prepared.body, (bytes, str, type(None)))
        begun = time.monotonic()
        deadline = begun + (self.timeout if timeout is None else timeout)
        outcome: int | str = "Error"
        try:
            answer, body = self._send_safely(prepared, deadline, repeatable)
            value = self._value(answer, body, expect)
            outcome = answer.status_code
            return answer.status_code, value
        except CallError as error:
            outcome = type(error).__name__
            raise
        finally:
            call_made.send(self, outcome=outcome, seconds=time.monotonic() - begun)

    def _send_safely(self, request, deadline, repeatable):
        try:
            try:
                return self._send(self._session, request, deadline)
            except (requests.ConnectionError, ProtocolError) as error:
                if not repeatable or isinstance(error, requests.Timeout):
                    raise
                # A kept connection can break unnoticed, and others with it, so this one is new.
                with new_session() as session:
                    return self._send(session, request, deadline)
        except (TokenError, requests.RequestException, HTTPError) as error:
            raise self._failure(error, repeatable) from None

    def _send(self, session, request, deadline):
        self.auth(request, longest_wait=deadline - time.monotonic())
        left = deadline - time.monotonic()
        if left <= 0:
            raise requests.Timeout
        # A session would read the whole body of a redirect, however long. An adapter does not.
        adapter = session.get_adapter(request.url)
        timeout = (min(LONGEST_CONNECT, left), left)
        with adapter.send(request, stream=True, timeout=timeout) as answer:
            return answer, whole_body(answer, deadline)

    def _failure(self, error, repeatable) -> CallError:
        """The error to raise if there is no whole answer."""
        doubt = "" if repeatable else ", but it may have done what it was asked"
        cause = getattr(error.args[0], "reason", None) if error.args else None
        match error, cause:
            case TokenError(), _:
                return NoToken(f"No identity to call {self.name} with.", str(error))
            case (requests.ConnectTimeout() | SSLError(), _) | (_, NewConnectionError()):
                kind = type(getattr(cause, "__cause__", None) or error).__name__
                reason = f"{kind}; does it run, at {self.auth.url}?"
                return Unreachable(f"{self.name} cannot be reached.", reason)
            case (requests.Timeout() | ReadTimeoutError(), _):
                reason = "its own log shows what takes so long"
                return TimedOut(f"{self.name} did not answer in time{doubt}.", reason)
            case (InvalidHeader() | DecodeError(), _):
                reason = f"it is no HTTP that can be read ({type(error).__name__})"
                return Unreachable(f"{self.name} gave no usable answer{doubt}.", reason)
        reason = f"the connection broke before the whole answer came ({type(error).__name__})"
        return Unreachable(f"{self.name} gave no whole answer{doubt}.", reason)

    def _value(self, answer, body, expect):
        """The JSON value of the answer. Raises CallError if it is not an expected answer."""
        status = answer.status_code
        value, flaw = parsed(answer, body)
        if not flaw and (200 <= status < 300 or status in expect):
            return value

        said = value.get("error") if isinstance(value, dict) else None
        if status == 429 or (status == 503 and "Retry-After" in answer.headers):
            # Without JSON it is from Cloud Run: all instances that max-instances allows are busy.
            cause = "more instances help" if flaw else ASK_IT
            raise Busy(f"{self.name} is busy.", f"status {status}; {cause}", said)
        if status == 403 and flaw and INVOKER_CHECK in body:
            caller = os.environ.get("K_SERVICE") or self.auth.principal
            remedy = f"write {caller} into the second column of {self.name} in trust-map"
            reason = f"status 403; {remedy}, if it is meant to call it"
            raise Refused(f"{self.name} does not let this function in.", reason)
        if answer.is_redirect:
            flaw = "redirects are not followed, they could take the token elsewhere"
        elif "text/html" in flaw and status in PAGES:
            flaw = f"{flaw}; {PAGES[status].format(rule=self.auth.rule)}"
        reason = f"status {status}; {flaw or ASK_IT}"
        raise Unreachable(f"{self.name} gave no usable answer.", reason, said)
