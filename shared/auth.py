"""ID tokens: how one function proves to another who is calling.

    session.get(url, auth=IDTokenAuth(audience))

Google signs the token. It names this function's own service account and one receiver, the
audience. kept_token.py decides when to fetch it and how long to keep it.
"""

import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import google.auth.jwt
import requests
from google.auth.transport.requests import Request
from google.oauth2.id_token import fetch_id_token_credentials
from werkzeug.datastructures import Headers

from shared.kept_token import LONGEST_FETCH, USABLE_BEFORE_EXPIRY, KeptToken, Token, TokenError

__all__ = ["IDTokenAuth", "TokenError", "caller"]

AGENT = (
    "its subject is an agent identity (spiffe://), which the invoker check does not take;"
    " run the function as a service account, or impersonate one"
)


class IDTokenAuth(requests.auth.AuthBase):
    """Attaches an ID token for one audience to requests to that audience.

    `audience` is the URL of the receiving function: https, or http on this machine.
    `url` is where requests are sent, if that is a different URL (a tag, a custom domain).
    Raises ValueError for any other address, TokenError if no token can be fetched.
    """

    kind = "serviceAccount"
    other_audience = ""  # one that every receiver accepts
    remedy = "check the metadata server, or the key file and the clock"
    rule = "is its audience the function's own URL?"  # the hint if the platform answers 401

    def __init__(self, audience: str, url: str | None = None):
        self.audience, self.url = audience.rstrip("/"), (url or audience).rstrip("/")
        for address in (urlsplit(self.audience), urlsplit(self.url)):
            loopback = address.hostname in ("127.0.0.1", "localhost", "::1")
            if address.scheme != "https" and not (address.scheme == "http" and loopback):
                raise ValueError(f"an ID token is sent over https only, not to {self.url!r}")
        # Ignores proxies from the environment, and ~/.netrc.
        session = requests.Session()
        session.trust_env = False
        self._request = Request(session)
        self._credentials: Any = None
        self._kept = KeptToken(self._fetch)

    def __call__(
        self, request: requests.PreparedRequest, longest_wait: float = LONGEST_FETCH
    ) -> requests.PreparedRequest:
        # The slash matters: https://example.com.evil/ starts with https://example.com, too.
        if not str(request.url).startswith(self.url + "/"):
            raise TokenError(f"the ID token for {self.audience} must not be sent elsewhere")
        try:
            token = self._kept.get(longest_wait)
        except TimeoutError:
            raise self._no_token(f"none in {longest_wait:.1f} s; {self.remedy}") from None
        request.headers["Authorization"] = f"Bearer {token.text}"
        return request

    @property
    def principal(self) -> str:
        """The caller that the last token names, in the form that an IAM policy uses."""
        claims = self._kept.newest.claims if self._kept.newest else {}
        return f"{self.kind}:{claims.get('email') or claims.get('sub', 'unknown')}"

    def _fetch(self) -> Token:
        try:
            text = self._new()
            claims = google.auth.jwt.decode(text, verify=False)  # ours: the receiver verifies it
            expires = float(claims["exp"])
            fits = claims["aud"] in (self.audience, self.other_audience or self.audience)
            good = fits and expires - USABLE_BEFORE_EXPIRY > time.time()
        except Exception as error:
            # Only the type: google-auth quotes the answer that it got, and that may be a token.
            raise self._no_token(f"{type(error).__name__}; {self.remedy}") from None
        if str(claims.get("sub")).startswith("spiffe://"):
            raise self._no_token(AGENT)
        if not good:
            raise self._no_token(f"one for another audience, or an expired one; {self.remedy}")
        return Token(text, claims, expires)

    def _new(self) -> str:
        if self._credentials is None:
            # The metadata server; or, off Google Cloud, the service-account key or the
            # impersonation that GOOGLE_APPLICATION_CREDENTIALS names.
            self._credentials = fetch_id_token_credentials(self.audience, self._request)
        self._credentials.refresh(self._request)
        return self._credentials.token

    def _no_token(self, cause: str) -> TokenError:
        return TokenError(f"no ID token for {self.audience}: {cause}")


def caller(headers: Mapping[str, str] | Headers) -> str:
    """Who made the request: the e-mail address or the account id that the platform verified.

    Use it only in a private function. There the platform has checked the token and replaced its
    signature. A function that everyone may call gets any token unchecked and unchanged.
    """
    checked = headers.get("X-Serverless-Authorization") or headers.get("Authorization", "")
    try:
        claims = google.auth.jwt.decode(checked.rpartition(" ")[2], verify=False)
    except ValueError:
        return "nobody"
    return str(claims.get("email") or claims.get("sub"))
