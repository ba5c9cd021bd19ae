"""Where profiles are kept: in an SQLite file, or in Firestore.

A store has two methods. When one returns, what it says is on disk.

    add(profile, password_hash) -> bool     False: the username is taken
    get(username)                           (profile, password_hash), or None
"""

import logging
import sqlite3
from contextlib import closing, contextmanager

from werkzeug.exceptions import ServiceUnavailable

log = logging.getLogger(__name__)
LONGEST_WAIT = 3  # seconds, for a lock or for an answer
UNAVAILABLE = "Profiles cannot be read or written at the moment."


def open_store(where: str):
    """The store that `where` names: sqlite:PATH, or firestore:DATABASE."""
    kind, _, place = where.partition(":")
    if kind == "sqlite" and place:
        return SQLiteStore(place)
    if kind == "firestore" and place:
        return FirestoreStore(place)
    raise RuntimeError(f"PROFILES_STORE must be sqlite:PATH or firestore:DATABASE, not {where!r}")


class SQLiteStore:
    """One file. Any number of threads and processes may use it at the same time."""

    def __init__(self, path):
        self.path = path

    def add(self, profile, password_hash):
        row = {**profile, "password_hash": password_hash}
        with self._transaction() as db:
            added = db.execute(
                "INSERT OR IGNORE INTO profiles"
                " VALUES (:username, :display_name, :created_at, :password_hash)",
                row,
            )
            return added.rowcount == 1

    def get(self, username):
        with self._transaction() as db:
            row = db.execute("SELECT * FROM profiles WHERE username = ?", [username]).fetchone()
        if not row:
            return None
        profile = dict(row)
        return profile, profile.pop("password_hash")

    @contextmanager
    def _transaction(self):
        try:
            # Committed at the end of the block; a commit returns when the file is on disk.
            with closing(sqlite3.connect(self.path, timeout=LONGEST_WAIT)) as db, db:
                db.row_factory = sqlite3.Row
                db.execute(
                    "CREATE TABLE IF NOT EXISTS profiles (username TEXT PRIMARY KEY,"
                    " display_name TEXT, created_at TEXT, password_hash TEXT)"
                )
                yield db
        except sqlite3.Error as error:
            log.error("%s: %s. Is the disk full, or the file locked?", self.path, error)
            raise ServiceUnavailable(UNAVAILABLE) from None


class FirestoreStore:
    """A collection of a Firestore database, read and written as the function's own account."""

    def __init__(self, database):
        # Here and not above: what is only deployed is not needed to run, nor to start quickly.
        from google.api_core import exceptions, retry
        from google.cloud.firestore import Client

        self._exceptions = exceptions
        # Without a retry of its own, the library goes on for five minutes.
        self._limits = {"timeout": LONGEST_WAIT, "retry": retry.Retry(timeout=LONGEST_WAIT)}
        self._profiles = Client(database=database).collection("profiles")

    def add(self, profile, password_hash):
        try:
            row = {**profile, "password_hash": password_hash}
            self._document(profile["username"]).create(row, **self._limits)
        except self._exceptions.AlreadyExists:
            return False
        except self._exceptions.GoogleAPIError as error:
            self._down(error)
        return True

    def get(self, username):
        try:
            snapshot = self._document(username).get(**self._limits)
        except self._exceptions.GoogleAPIError as error:
            self._down(error)
        if not snapshot.exists:
            return None
        profile = snapshot.to_dict()
        return profile, profile.pop("password_hash")

    def _document(self, username):
        # Not the bare name: Firestore keeps ids like __ada__ for itself.
        return self._profiles.document(f"user:{username}")

    def _down(self, error):
        log.error("Firestore: %s. Has the account roles/datastore.user?", type(error).__name__)
        raise ServiceUnavailable(UNAVAILABLE) from None
