"""Where profiles are kept: in an SQLite file.

A store has two methods. When one returns, what it says is on disk.

    add(profile, password_hash) -> bool     False: the username is taken
    get(username)                           (profile, password_hash), or None
"""

import logging
import sqlite3
from contextlib import closing, contextmanager

from werkzeug.exceptions import ServiceUnavailable

log = logging.getLogger(__name__)


def open_store(where: str):
    """The store that `where` names: sqlite:PATH."""
    kind, _, place = where.partition(":")
    if kind == "sqlite" and place:
        return SQLiteStore(place)
    raise RuntimeError(f"PROFILES_STORE must be sqlite:PATH, not {where!r}")


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
            with closing(sqlite3.connect(self.path, timeout=5)) as db, db:
                db.row_factory = sqlite3.Row
                db.execute(
                    "CREATE TABLE IF NOT EXISTS profiles (username TEXT PRIMARY KEY,"
                    " display_name TEXT, created_at TEXT, password_hash TEXT)"
                )
                yield db
        except sqlite3.Error as error:
            log.error("%s: %s. Is the disk full, or the file locked?", self.path, error)
            raise ServiceUnavailable("Profiles cannot be read or written at the moment.") from None
