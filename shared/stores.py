"""What every store has in common: where it is, how long it may take, what its errors mean.

STORE, which deploy.sh sets, is sqlite:PATH or firestore:DATABASE.
"""

import logging
import os
import sqlite3
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

from werkzeug.exceptions import ServiceUnavailable

__all__ = ["Firestore", "SQLite", "open_store"]

log = logging.getLogger(__name__)

LONGEST_WAIT = 3  # seconds, for a lock or for an answer
MADE_BY = "made_by"  # the field of a document that tells which call has made it
SQLITE_ERRORS = {  # of the file; all others are errors of a statement, for its caller
    "BUSY": "another process locks it",
    "LOCKED": "another statement locks it",
    "CANTOPEN": "is there such a folder?",
    "READONLY": "may it be written?",
    "FULL": "the disk is full",
    "IOERR": "the disk does not work, or is full",
    "NOTADB": "it is no SQLite file",
    "CORRUPT": "it is damaged",
}
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
        except sqlite3.DatabaseError as error:
            # SQLITE_IOERR_WRITE, for one. Its text may quote what a user sent.
            kind = getattr(error, "sqlite_errorname", "").removeprefix("SQLITE_").split("_")[0]
            if kind not in SQLITE_ERRORS:
                raise
            log.error("%s: %s; %s", self._path, kind, SQLITE_ERRORS[kind])
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
        """Makes the document. False: there is one already, and this call has not made it.

        If the answer is lost on its way, the library tries again, and is told that the document
        exists. So what is there is looked at: each call puts a mark of its own in.
        """
        mark = uuid.uuid4().hex
        try:
            self._client.document(path).create({**document, MADE_BY: mark}, **self._limits)
            return True
        except self._exceptions.GoogleAPIError as error:
            problem = error
        stored = self._stored(path)
        if stored is None:
            raise self._unavailable(problem)
        return stored.get(MADE_BY) == mark

    def get(self, path: str) -> dict | None:
        """The document, if there is one."""
        stored = self._stored(path)
        if stored:
            stored.pop(MADE_BY, None)
        return stored

    def _stored(self, path: str) -> dict | None:
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
