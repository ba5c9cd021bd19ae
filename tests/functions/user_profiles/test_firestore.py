"""A store in Firestore: what is known after an answer that was lost, and which error is which."""

import datetime
import os
import sys
import threading

import pytest
from werkzeug.exceptions import ServiceUnavailable

from tool.testing import run, succeeded

pytest.importorskip(
    "google.cloud.firestore", reason="left out: no function keeps data in Firestore"
)

import grpc  # noqa: E402

from fake_firestore import FakeFirestore  # noqa: E402
from shared.stores import Firestore  # noqa: E402

PATH, DOCUMENT = "things/a", {"name": "a", "color": "red"}


@pytest.fixture
def fake(monkeypatch):
    fake = FakeFirestore()
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", fake.address)
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "test")
    yield fake
    fake.close()


@pytest.fixture
def database(fake):
    return Firestore("profiles")


def once(code):
    """Fails with this status the first time."""
    codes = [code]

    def fail(context):
        if codes:
            context.abort(codes.pop(), "inner secret")

    return fail


def always(code):
    return lambda context: context.abort(code, "inner secret")


def test_what_is_created_is_there(database, fake):
    assert database.get(PATH) is None
    assert database.create(PATH, DOCUMENT) is True
    assert Firestore("profiles").get(PATH) == DOCUMENT
    assert fake.commits == 1


def test_another_document_is_not_written_over(database):
    database.create(PATH, {**DOCUMENT, "color": "blue"})
    assert database.create(PATH, DOCUMENT) is False
    assert database.get(PATH)["color"] == "blue"


def test_of_two_calls_with_the_same_content_one_has_made_it(database):
    assert [database.create(PATH, DOCUMENT), database.create(PATH, DOCUMENT)] == [True, False]


@pytest.mark.parametrize("content", [{}, {"at": datetime.datetime(2026, 1, 1)}, {"n": float("nan")}])
def test_a_create_whose_answer_was_lost_is_a_create(database, fake, content):
    """The library tries again, and is told that the document exists: it is its own.

    Not every content comes back as it was sent.
    """
    fake.after = once(grpc.StatusCode.UNAVAILABLE)
    assert database.create(PATH, {**DOCUMENT, **content}) is True
    assert fake.commits == 2
    assert database.get(PATH).keys() == {**DOCUMENT, **content}.keys()


def test_a_create_whose_answer_is_too_slow_is_a_create(database, fake):
    go_on = threading.Event()
    fake.after = lambda context: go_on.wait(30)
    try:
        assert database.create(PATH, DOCUMENT) is True
    finally:
        go_on.set()


def test_a_create_of_which_nothing_is_to_be_seen_is_unavailable(database, fake, caplog):
    fake.before = always(grpc.StatusCode.UNAVAILABLE)
    with pytest.raises(ServiceUnavailable):
        database.create(PATH, DOCUMENT)
    assert fake.documents == {}
    assert "Firestore database profiles: ServiceUnavailable; can it be reached?" in caplog.text


@pytest.mark.parametrize(
    "code, said",
    [
        ("PERMISSION_DENIED", "PermissionDenied; has the service account roles/datastore.user?"),
        ("NOT_FOUND", "NotFound; is there a database of this name?"),
        ("FAILED_PRECONDITION", "FailedPrecondition; is it in Datastore mode?"),
        ("RESOURCE_EXHAUSTED", "ResourceExhausted; a quota is used up"),
        ("UNAUTHENTICATED", "Unauthenticated; can it be reached?"),
    ],
)
def test_an_error_is_named_by_its_kind(database, fake, caplog, code, said):
    fake.before = fake.reading = always(grpc.StatusCode[code])
    for call in (lambda: database.create(PATH, DOCUMENT), lambda: database.get(PATH)):
        caplog.clear()
        with pytest.raises(ServiceUnavailable) as raised:
            call()
        assert raised.value.description == "What is stored cannot be read or written at the moment."
        [record] = [r for r in caplog.records if r.name == "shared.stores"]
        assert record.message.startswith(f"Firestore database profiles: {said}")
        assert "secret" not in caplog.text


def test_a_hanging_firestore_is_given_up_on(database, fake, caplog):
    go_on = threading.Event()
    fake.reading = lambda context: go_on.wait(30)
    try:
        with pytest.raises(ServiceUnavailable):
            database.get(PATH)
    finally:
        go_on.set()
    assert "DeadlineExceeded; no answer within 3 s" in caplog.text


FORK = """
import os, signal
from shared.stores import Firestore
database = Firestore("profiles")
child = os.fork()
if child:
    _, status = os.waitpid(child, 0)
    raise SystemExit(os.waitstatus_to_exitcode(status))
signal.alarm(30)
assert database.create("things/a", {"name": "a"})
"""


def test_a_client_made_before_a_fork_works_after_it(fake):
    """A server may load the function, and then fork: the channel is opened by the first call."""
    env = {**os.environ, "GRPC_ENABLE_FORK_SUPPORT": "0"}  # without its help for older channels
    succeeded(run(sys.executable, "-c", FORK, env=env))
    assert Firestore("profiles").get(PATH) == {"name": "a"}
