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

LONGEST_WAIT = 3  # seconds to wait for another process's lock, or for an answer
LONGEST_TURN = 6  # seconds to wait for the other threads of this process
SQLITE_ERRORS = {  # about the file; all others are about a statement, and go to its caller
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
    """Opens the store that STORE names: calls the callable for its kind with its place."""
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

    `table`: the statement that creates the table if it does not exist yet.
    """

    def __init__(self, path: str, table: str):
        self._path, self._table, self._turn = path, table, threading.Lock()
        with closing(sqlite3.connect(":memory:")) as empty:
            empty.execute(table)
            self._columns = set(empty.execute(COLUMNS))

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Commits at the end of the block; when the commit returns, the data is on disk.

        Only one thread at a time: SQLite just makes everyone retry, and some never get their turn.
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
            # For example SQLITE_IOERR_WRITE. The text of the error may quote what a user sent.
            kind = getattr(error, "sqlite_errorname", "").removeprefix("SQLITE_").split("_")[0]
            if kind not in SQLITE_ERRORS:
                raise
            raise unavailable(self._path, kind, SQLITE_ERRORS[kind]) from None
        finally:
            self._turn.release()


class Firestore:
    """A Firestore database, read and written as the function's own service account."""

    def __init__(self, database: str):
        # Imported here: functions on a developer's machine run without it, and start faster.
        from google.api_core import exceptions, retry
        from google.cloud.firestore import Client

        self._name, self._error = f"Firestore database {database}", exceptions.GoogleAPIError
        # Without this, the library retries for five minutes.
        again = retry.Retry(timeout=LONGEST_WAIT)
        self._limits: dict[str, Any] = {"timeout": LONGEST_WAIT, "retry": again}
        self._client = Client(database=database)

    @contextmanager
    def client(self) -> Iterator[tuple[Any, dict[str, Any]]]:
        """Google's client, and the arguments that limit how long each of its calls may take.

        Errors of the database are answered 503, except for two that the caller gets: AlreadyExists,
        and NotFound for a document that was to be changed.
        """
        try:
            yield self._client, self._limits
        except self._error as error:
            if type(error).__name__ == "AlreadyExists" or "No document to" in str(error):
                raise
            # When time is up, the library raises an error whose cause is the one it kept getting.
            cause = getattr(error, "cause", None) or error
            kind = type(cause).__name__
            hint = FIRESTORE_ERRORS.get(kind, "can it be reached?")
            raise unavailable(self._name, kind, hint) from None

    def create(self, path: str, document: dict) -> bool:
        """Creates the document. False: it existed already, and this call did not create it.

        If the answer gets lost, the library tries again, and learns that the document exists. To
        tell who created it, each call writes a mark of its own into it, as `made_by`.
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
