"""What every store has in common: where it is, how long it may take, what its errors mean."""

import sqlite3

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
    """An order that is there already, for one, is no reason to say that the file cannot be used."""
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
