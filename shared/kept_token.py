"""Keeps a token: fetches it once for all threads, and renews it without making a call wait."""

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import NamedTuple

__all__ = ["KeptToken", "Token", "TokenError"]

# Google's metadata server may return the same token until four minutes before it expires, so
# asking earlier than this many seconds before the expiry may not bring a new one
# (google-auth, google/auth/_helpers.py, REFRESH_THRESHOLD).
RENEW_BEFORE_EXPIRY = 225
RENEW_AGAIN_AFTER = 15  # seconds between attempts while the kept token is still good
USABLE_BEFORE_EXPIRY = 10  # seconds: a token sent must still be good when it arrives
LONGEST_FETCH = 5  # seconds: after that, the next fetch starts even if this one still hangs

log = logging.getLogger(__name__)


class TokenError(Exception):
    """No ID token can be fetched, or it must not be sent to this address."""


class Token(NamedTuple):
    """A token, what it says, and when it expires, in seconds since 1970."""

    text: str
    claims: dict
    expires: float


class KeptToken:
    """The token that `fetch` returns; `fetch` raises TokenError if it cannot get one.

    `clock` tells the time in seconds since 1970: wall-clock time, because an instance may be
    frozen between two requests, even during a fetch.
    """

    def __init__(self, fetch: Callable[[], Token], clock: Callable[[], float] = time.time):
        self.newest: Token | None = None
        self._fetch, self._clock = fetch, clock
        self._lock = threading.Lock()
        self._fetching: Future[Token] | None = None
        self._renew_at, self._give_up_at = 0.0, 0.0

    def get(self, longest_wait: float = LONGEST_FETCH) -> Token:
        """A valid token. Raises TokenError, or TimeoutError after `longest_wait` seconds."""
        with self._lock:
            now = self._clock()
            kept = self._usable(now)
            if not kept or now >= self._renew_at:
                fetching = self._begin(now)
            if kept:
                return kept
        return fetching.result(max(longest_wait, 0))

    def _usable(self, now: float) -> Token | None:
        kept = self.newest
        return kept if kept and now < kept.expires - USABLE_BEFORE_EXPIRY else None

    def _begin(self, now: float) -> Future[Token]:
        # One fetch serves every thread. One that hangs does not block the next.
        if self._fetching is None or now >= self._give_up_at:
            self._fetching, self._give_up_at = Future(), now + LONGEST_FETCH
            threading.Thread(target=self._renew, args=[self._fetching], daemon=True).start()
        return self._fetching

    def _renew(self, fetching: Future[Token]) -> None:
        try:
            token = self._fetch()
        except TokenError as problem:
            self._settle(fetching)
            fetching.set_exception(problem)
            now = self._clock()
            if self._usable(now) or now > self._give_up_at:  # no call will report it
                log.warning("A token could not be fetched in the background: %s", problem)
        else:
            self._settle(fetching, token)
            fetching.set_result(token)

    def _settle(self, fetching: Future[Token], token: Token | None = None) -> None:
        with self._lock:
            # Never sooner: otherwise every call would ask a server that repeats an old token.
            self._renew_at = self._clock() + RENEW_AGAIN_AFTER
            if token:
                self.newest = token
                self._renew_at = max(self._renew_at, token.expires - RENEW_BEFORE_EXPIRY)
            if self._fetching is fetching:
                self._fetching = None
