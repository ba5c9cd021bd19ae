"""What every store has in common: where it is, how long it may take, what its errors mean."""

import concurrent.futures
import contextlib
import sqlite3
import threading

import pytest
from werkzeug.exceptions import ServiceUnavailable

from shared import stores

UNAVAILABLE = "What is stored cannot be read or written at the moment."


@pytest.fixture
def file(tmp_path):
    table = "CREATE TABLE IF NOT EXISTS things (name TEXT PRIMARY KEY)"
    return stores.SQLite(str(tmp_path / "data.db"), table)


def names(file):
    with file.transaction() as db:
        return [row["name"] for row in db.execute("SELECT name FROM things")]


def test_the_store_is_the_one_that_the_environment_names(monkeypatch):
    monkeypatch.setenv("STORE", "sqlite:/some/where: with a colon")
    opened = stores.open_store(sqlite=lambda place: ("a file", place), firestore=None)
    assert opened == ("a file", "/some/where: with a colon")


@pytest.mark.parametrize("where", ["", "sqlite:", "firestore:", "mysql:data", "data.db"])
def test_an_unknown_store_is_named(monkeypatch, where):
    monkeypatch.setenv("STORE", where)
    with pytest.raises(RuntimeError, match="STORE must be .*, not '" + where):
        stores.open_store(sqlite=str, firestore=str)


def test_a_transaction_is_kept_as_a_whole_or_not_at_all(file):
    with file.transaction() as db:
        db.execute("INSERT INTO things VALUES ('kept')")
    with pytest.raises(KeyError), file.transaction() as db:
        db.execute("INSERT INTO things VALUES ('half')")
        raise KeyError
    assert names(file) == ["kept"]


def test_a_file_that_cannot_be_opened_is_unavailable_and_logged(tmp_path, caplog):
    with pytest.raises(ServiceUnavailable) as raised:
        names(stores.SQLite(str(tmp_path), "SELECT 1"))
    assert raised.value.description == UNAVAILABLE
    assert f"{tmp_path}: CANTOPEN; is there such a folder?" in caplog.text


def test_a_file_that_is_none_is_unavailable_and_loses_nothing(file, tmp_path, caplog):
    (tmp_path / "data.db").write_text("something else, and not a database at all\n" * 40)
    with pytest.raises(ServiceUnavailable):
        names(file)
    assert "NOTADB; it is no SQLite file" in caplog.text
    assert (tmp_path / "data.db").read_text().startswith("something else")


@pytest.mark.parametrize(
    "statement, error",
    [
        ("INSERT INTO things VALUES ('a'), ('a')", sqlite3.IntegrityError),
        ("SELECT what_a_user_sent FROM things", sqlite3.OperationalError),
    ],
)
def test_an_error_of_a_statement_is_its_caller_s(file, caplog, statement, error):
    """A duplicate order, for example, does not mean that the file cannot be used."""
    with pytest.raises(error), file.transaction() as db:
        db.execute(statement)
    assert caplog.text == "" and names(file) == []


def test_a_locked_file_is_unavailable_until_it_is_free(file, tmp_path, caplog):
    assert names(file) == []
    other = sqlite3.connect(tmp_path / "data.db")
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(ServiceUnavailable):
        names(file)
    assert "BUSY; another process locks it" in caplog.text
    other.rollback()
    other.close()
    assert names(file) == []


def test_32_threads_wait_for_their_turn(file, monkeypatch):
    """If each one just retries, as SQLite makes them do, some never get their turn."""
    monkeypatch.setattr(stores, "LONGEST_WAIT", 0)  # so nobody retries
    monkeypatch.setattr(stores, "LONGEST_TURN", 60)  # enough on a slow machine, too
    start = threading.Barrier(32)

    def add(n):
        start.wait(30)
        for m in range(4):
            with file.transaction() as db:
                db.execute("INSERT INTO things VALUES (?)", [f"{n}.{m}"])

    with concurrent.futures.ThreadPoolExecutor(32) as pool:
        for added in [pool.submit(add, n) for n in range(32)]:
            added.result()
    assert len(names(file)) == 32 * 4


def test_who_waits_for_too_long_is_told_so(file, monkeypatch, caplog):
    monkeypatch.setattr(stores, "LONGEST_TURN", 0.1)
    with file.transaction(), concurrent.futures.ThreadPoolExecutor(1) as pool:
        with pytest.raises(ServiceUnavailable):
            pool.submit(names, file).result(30)
    assert "BUSY; too many threads wait for their turn" in caplog.text
    assert names(file) == []


def test_what_was_read_in_a_transaction_stays_true_until_its_end(file, tmp_path):
    """Nobody, not even another process, can write between its first read and its commit."""
    assert names(file) == []
    with file.transaction() as db:
        assert db.execute("SELECT count(*) FROM things").fetchone()[0] == 0
        with contextlib.closing(sqlite3.connect(tmp_path / "data.db", timeout=0)) as other:
            with pytest.raises(sqlite3.OperationalError, match="locked"):
                other.execute("INSERT INTO things VALUES ('theirs')")
        db.execute("INSERT INTO things VALUES ('ours')")
    assert names(file) == ["ours"]


def test_a_column_that_an_older_table_lacks_is_named(file, tmp_path, caplog):
    assert names(file) == []
    table = "CREATE TABLE IF NOT EXISTS things (name TEXT PRIMARY KEY, color TEXT, size TEXT)"
    changed = stores.SQLite(str(tmp_path / "data.db"), table)
    with pytest.raises(ServiceUnavailable):
        names(changed)
    assert "data.db: no things.color, things.size; an older version made the table" in caplog.text
    with file.transaction() as db:  # the store works again as soon as the table has the columns
        db.execute("ALTER TABLE things ADD COLUMN color TEXT")
        db.execute("ALTER TABLE things ADD COLUMN size TEXT")
    assert names(changed) == names(file) == []
