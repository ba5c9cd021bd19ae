"""Where profiles are kept: in an SQLite file, or in Firestore.

A store has two methods. When one returns, the data that it reports is on disk.

    add(profile, password_hash) -> bool     False: the username is taken
    get(username)                           (profile, password_hash), or None
"""

from shared.stores import Firestore, SQLite, open_store

PROFILE = ("username", "display_name", "created_at")
COLUMNS = "username TEXT PRIMARY KEY, display_name TEXT, created_at TEXT, password_hash TEXT"


def open_profiles():
    """The store that the environment variable STORE names."""
    return open_store(sqlite=SQLiteProfiles, firestore=FirestoreProfiles)


class SQLiteProfiles:
    def __init__(self, path):
        self._file = SQLite(path, f"CREATE TABLE IF NOT EXISTS profiles ({COLUMNS})")

    def add(self, profile, password_hash):
        row = [*(profile[field] for field in PROFILE), password_hash]
        with self._file.transaction() as db:
            names = ", ".join([*PROFILE, "password_hash"])
            insert = f"INSERT OR IGNORE INTO profiles ({names}) VALUES (?, ?, ?, ?)"
            return db.execute(insert, row).rowcount == 1

    def get(self, username):
        with self._file.transaction() as db:
            row = db.execute("SELECT * FROM profiles WHERE username = ?", [username]).fetchone()
        return split(row) if row else None


class FirestoreProfiles:
    def __init__(self, database):
        self._database = Firestore(database)

    def add(self, profile, password_hash):
        row = {**profile, "password_hash": password_hash}
        return self._database.create(path(profile["username"]), row)

    def get(self, username):
        with self._database.client() as (client, limits):
            row = client.document(path(username)).get(**limits).to_dict()
        return split(row) if row else None


def path(username):
    # Not just the name: Firestore reserves ids such as __ada__.
    return f"profiles/user:{username}"


def split(row):
    """A row as (profile, password_hash)."""
    return {field: row[field] for field in PROFILE}, row["password_hash"]
