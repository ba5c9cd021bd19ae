"""What every store has in common: where it is, how long it may take, what its errors mean.

STORE, which deploy.sh sets, is sqlite:PATH or firestore:DATABASE.
"""

import logging
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

from werkzeug.exceptions import ServiceUnavailable

__all__ = ["Firestore", "SQLite", "open_store"]

log = logging.getLogger(__name__)

LONGEST_WAIT = 3  # seconds, for a lock or for an answer
FIRESTORE_ERRORS = {
    "PermissionDenied": "has the service account roles/datastore.user?",
    "NotFound": "is there a database of this name?",
    "FailedPrecondition": "is it in Datastore mode? Native mode is needed",
    "ResourceExhausted": "a quota is used up",
    "DeadlineExceeded": f"no answer within {LONGEST_WAIT} s",
}


def open_store(**kinds: Callable[[str], Any]) -> Any:
    """What the callable for the kind that STORE names returns for its place."""
    where = os.environ.get("STORE", "")
    kind, _, place = where.partition(":")
    if kind not in kinds or not place:
        raise RuntimeError(f"STORE must be sqlite:PATH or firestore:DATABASE, not {where!r}")
    return kinds[kind](place)


def unavailable() -> ServiceUnavailable:
    return ServiceUnavailable("What is stored cannot be read or written at the moment.")


class SQLite:
    """One file. Any number of threads and processes may use it at the same time."""

    def __init__(self, path: str, table: str):
        self._path, self._table = path, table

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Committed at the end of the block; a commit returns when the file is on disk."""
        try:
            with closing(sqlite3.connect(self._path, timeout=LONGEST_WAIT)) as db, db:
                db.row_factory = sqlite3.Row
                db.execute(self._table)
                yield db
        except sqlite3.Error as error:
            log.error("%s: %s. Is the disk full, or the file locked?", self._path, error)
            raise unavailable() from None


class Firestore:
    """A Firestore database, read and written as the function's own service account."""

    def __init__(self, database: str):
        # Here and not above: what is only deployed is not needed to run, nor to start quickly.
        from google.api_core import exceptions, retry
        from google.cloud.firestore import Client

        self._name, self._exceptions = database, exceptions
        # Without a retry of its own, the library goes on for five minutes.
        again = retry.Retry(timeout=LONGEST_WAIT)
        self._limits: dict[str, Any] = {"timeout": LONGEST_WAIT, "retry": again}
        self._client = Client(database=database)

    def create(self, path: str, document: dict) -> bool:
        """Makes the document. False: there is one already, and it is another.

        If the answer is lost on its way, the library tries again, and is told that the document
        exists. So what is there is looked at: put something in that no other call writes.
        """
        try:
            self._client.document(path).create(document, **self._limits)
            return True
        except self._exceptions.GoogleAPIError as error:
            problem = error
        stored = self.get(path)
        if stored is None:
            raise self._unavailable(problem)
        return stored == document

    def get(self, path: str) -> dict | None:
        """The document, if there is one."""
        try:
            return self._client.document(path).get(**self._limits).to_dict()
        except self._exceptions.GoogleAPIError as error:
            raise self._unavailable(error) from None

    def _unavailable(self, error: Exception) -> ServiceUnavailable:
        cause = getattr(error, "cause", None) or error  # of what was tried until the time was up
        kind = type(cause).__name__
        hint = FIRESTORE_ERRORS.get(kind, "can it be reached?")
        log.error("Firestore database %s: %s; %s", self._name, kind, hint)
        return unavailable()
