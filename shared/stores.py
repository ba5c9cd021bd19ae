"""What every store has in common: where it is, how long it may take, what its errors mean.

    with SQLite(path, table).transaction() as db:
        db.execute("UPDATE notes SET note = ? WHERE name = ?", [note, name])
    with Firestore(database).client() as (client, limits):
        client.document(f"notes/{name}").update({"note": note}, **limits)

STORE, which deploy.sh sets, is sqlite:PATH or firestore:DATABASE.
"""

import logging
import os
import sqlite3
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

from werkzeug.exceptions import ServiceUnavailable

__all__ = ["Firestore", "SQLite", "open_store"]

log = logging.getLogger(__name__)

LONGEST_WAIT = 3  # seconds, for another process's lock or for an answer
LONGEST_TURN = 6  # seconds, for one's turn among the threads of this process
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
COLUMNS = "SELECT t.name || '.' || c.name FROM sqlite_master t, pragma_table_info(t.name) c"


def open_store(**kinds: Callable[[str], Any]) -> Any:
    """What the callable for the kind that STORE names returns for its place."""
    where = os.environ.get("STORE", "")
    kind, _, place = where.partition(":")
    if kind not in kinds or not place:
        raise RuntimeError(f"STORE must be sqlite:PATH or firestore:DATABASE, not {where!r}")
    return kinds[kind](place)


def unavailable(place: str, kind: str, hint: str) -> ServiceUnavailable:
    log.error("%s: %s; %s", place, kind, hint)
    return ServiceUnavailable("What is stored cannot be read or written at the moment.")


class SQLite:
    """One file. Any number of threads and processes may use it at the same time.

    `table`: the statement that makes the table where there is none yet.
    """

    def __init__(self, path: str, table: str):
        self._path, self._table, self._turn = path, table, threading.Lock()
        with closing(sqlite3.connect(":memory:")) as empty:
            empty.execute(table)
            self._columns = set(empty.execute(COLUMNS))

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Committed at the end of the block; a commit returns when the file is on disk.

        One at a time: SQLite lets processes try again and again, and some never get their turn.
        """
        if not self._turn.acquire(timeout=LONGEST_TURN):
            raise unavailable(self._path, "BUSY", "too many threads wait for their turn")
        try:
            with closing(sqlite3.connect(self._path, timeout=LONGEST_WAIT)) as db, db:
                db.execute("BEGIN IMMEDIATE")
                db.execute(self._table)
                if missing := self._columns.difference(db.execute(COLUMNS)):
                    names = ", ".join(sorted(name for (name,) in missing))
                    raise unavailable(self._path, f"no {names}", "an older version made the table")
                db.row_factory = sqlite3.Row
                yield db
        except sqlite3.DatabaseError as error:
            # SQLITE_IOERR_WRITE, for one. Its text may quote what a user sent.
            kind = getattr(error, "sqlite_errorname", "").removeprefix("SQLITE_").split("_")[0]
            if kind not in SQLITE_ERRORS:
                raise
            raise unavailable(self._path, kind, SQLITE_ERRORS[kind]) from None
        finally:
            self._turn.release()


class Firestore:
    """A Firestore database, read and written as the function's own service account."""

    def __init__(self, database: str):
        # Here and not above: what is only deployed is not needed to run, nor to start quickly.
        from google.api_core import exceptions, retry
        from google.cloud.firestore import Client

        self._name, self._error = f"Firestore database {database}", exceptions.GoogleAPIError
        # Without a retry of its own, the library goes on for five minutes.
        again = retry.Retry(timeout=LONGEST_WAIT)
        self._limits: dict[str, Any] = {"timeout": LONGEST_WAIT, "retry": again}
        self._client = Client(database=database)

    @contextmanager
    def client(self) -> Iterator[tuple[Any, dict[str, Any]]]:
        """Google's client, and what to give each of its calls: how long it may take.

        Errors of the database are answered 503. AlreadyExists, and the NotFound of a document
        that is to be changed, are for the caller.
        """
        try:
            yield self._client, self._limits
        except self._error as error:
            if type(error).__name__ == "AlreadyExists" or "No document to" in str(error):
                raise
            # The library's own error, at the end of its time, holds the one that it kept getting.
            cause = getattr(error, "cause", None) or error
            kind = type(cause).__name__
            hint = FIRESTORE_ERRORS.get(kind, "can it be reached?")
            raise unavailable(self._name, kind, hint) from None

    def create(self, path: str, document: dict) -> bool:
        """Makes the document. False: there is one already, and this call has not made it.

        If the answer is lost on its way, the library tries again, and is told that the document
        exists. So what is there is looked at: each call puts a mark of its own in, as `made_by`.
        """
        mark, reference = uuid.uuid4().hex, self._client.document(path)
        with self.client():
            try:
                reference.create({**document, "made_by": mark}, **self._limits)
                return True
            except self._error:
                stored = reference.get(**self._limits).to_dict()
                if stored is None:
                    raise
                return stored.get("made_by") == mark
