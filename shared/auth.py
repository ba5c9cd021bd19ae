"""ID tokens: how one function proves to another who is calling.

    session.get(url, auth=IDTokenAuth(audience))

Google signs the token, for this function's own service account and for one receiver, its
audience. The token is fetched once, kept for its hour, and renewed without making a call wait.
"""

import logging
import threading
import time
from concurrent.futures import Future, TimeoutError
from urllib.parse import urlsplit

import google.auth.jwt
import requests
from google.auth.transport.requests import Request
from google.oauth2.id_token import fetch_id_token_credentials

__all__ = ["IDTokenAuth", "TokenError", "caller"]

# Google's metadata server may go on answering with a kept token until four minutes before
# it expires, so asking earlier than this many seconds before can be in vain
# (google-auth, google/auth/_helpers.py, REFRESH_THRESHOLD).
RENEW_BEFORE_EXPIRY = 225
RENEW_AGAIN_AFTER = 15  # seconds between attempts while the kept token is still good
USABLE_BEFORE_EXPIRY = 10  # seconds: a token sent must still be good when it arrives
LONGEST_WAIT = 5  # seconds that a call waits for a token before it gives up

log = logging.getLogger(__name__)


class TokenError(Exception):
    """There is no ID token to be had, or it must not be sent to this address."""


class IDTokenAuth(requests.auth.AuthBase):
    """Attaches a kept ID token for one audience to requests to that audience.

    `audience` is the URL of the receiving function: https, or http on this machine.
    Raises ValueError for any other address, TokenError where a token would be needed
    and none is to be had within five seconds.
    """

    def __init__(self, audience: str):
        address = urlsplit(audience)
        loopback = address.hostname in ("127.0.0.1", "localhost", "::1")
        if address.scheme != "https" and not (address.scheme == "http" and loopback):
            raise ValueError(f"an ID token is sent over https only, not to {audience!r}")
        self.audience = audience.rstrip("/")
        # Neither a proxy nor a ~/.netrc of the environment has a part in this.
        self._session = requests.Session()
        self._session.trust_env = False
        self._credentials = None
        self._lock = threading.Lock()
        self._token, self._claims = None, {"exp": 0}
        self._renew_at = 0
        self._fetch, self._give_up_at = None, 0

    def __call__(self, request):
        # The slash matters: https://example.com.evil/ starts with https://example.com, too.
        if not request.url.startswith(self.audience + "/"):
            raise TokenError(f"the ID token for {self.audience} must not be sent elsewhere")
        request.headers["Authorization"] = f"Bearer {self._kept_token()}"
        return request

    @property
    def principal(self) -> str:
        """The service account that the last token names, as an IAM policy writes it."""
        return f"serviceAccount:{self._claims.get('email', 'unknown')}"

    def _kept_token(self) -> str:
        with self._lock:
            now = time.time()
            usable = now < self._claims["exp"] - USABLE_BEFORE_EXPIRY
            due = not usable or now >= self._renew_at
            if due and (self._fetch is None or now >= self._give_up_at):
                # One fetch serves every thread. One that hangs does not block the next.
                self._fetch, self._give_up_at = Future(), now + LONGEST_WAIT
                threading.Thread(target=self._renew, args=[self._fetch], daemon=True).start()
            if usable:
                return self._token
            fetch = self._fetch
        try:
            return fetch.result(LONGEST_WAIT)
        except TimeoutError:
            raise self._no_token(f"none in {LONGEST_WAIT} s") from None

    def _renew(self, fetch: Future) -> None:
        try:
            token, claims = self._new_token()
        except Exception as error:
            # The type only: google-auth quotes what it was sent, and that may be a token.
            problem = self._no_token(type(error).__name__)
            now = time.time()
            if now < self._claims["exp"] - USABLE_BEFORE_EXPIRY or now > self._give_up_at:
                log.warning("Nobody waits for this token now: %s", problem)
            self._settle(fetch)
            fetch.set_exception(problem)
        else:
            self._settle(fetch, token, claims)
            fetch.set_result(token)

    def _settle(self, fetch, token=None, claims=None):
        with self._lock:
            # Never sooner, or a server that repeats an old token is asked by every call.
            self._renew_at = time.time() + RENEW_AGAIN_AFTER
            if token:
                self._token, self._claims = token, claims
                self._renew_at = max(self._renew_at, claims["exp"] - RENEW_BEFORE_EXPIRY)
            if self._fetch is fetch:
                self._fetch = None

    def _no_token(self, cause: str) -> TokenError:
        remedy = "check the metadata server, or the key file and the clock"
        return TokenError(f"no ID token for {self.audience}: {cause}; {remedy}")

    def _new_token(self):
        request = Request(self._session)
        if self._credentials is None:
            # The metadata server; or, off Google Cloud, the service-account key or the
            # impersonation that GOOGLE_APPLICATION_CREDENTIALS names.
            self._credentials = fetch_id_token_credentials(self.audience, request)
        self._credentials.refresh(request)
        token = self._credentials.token
        claims = google.auth.jwt.decode(token, verify=False)  # our own: the receiver verifies
        if claims["aud"] != self.audience or claims["exp"] - USABLE_BEFORE_EXPIRY < time.time():
            raise ValueError("a token for another audience, or an expired one")
        return token, claims


def caller(headers) -> str:
    """Who made the request, as the platform verified it: an e-mail address, or an account's id.

    Only in a private function. There the platform has checked the token, and replaced its
    signature; a function that everyone may call gets any token as it came, unchecked.
    """
    checked = headers.get("X-Serverless-Authorization") or headers.get("Authorization", "")
    try:
        claims = google.auth.jwt.decode(checked.rpartition(" ")[2], verify=False)
    except ValueError:
        return "nobody"
    return str(claims.get("email") or claims.get("sub"))
