"""A store in Firestore: what happens if an answer gets lost, and how errors are told apart."""

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
from google.api_core import exceptions  # noqa: E402
from google.cloud.firestore_v1.base_query import FieldFilter  # noqa: E402

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


def read(database, path=PATH):
    """The document without the mark of the call that created it; None if there is none."""
    with database.client() as (client, limits):
        found = client.document(path).get(**limits).to_dict()
    return found and {k: v for k, v in found.items() if k != "made_by"}


def once(code):
    """Fails with this status, but only the first time."""
    codes = [code]

    def fail(context):
        if codes:
            context.abort(codes.pop(), "inner secret")

    return fail


def always(code):
    return lambda context: context.abort(code, "inner secret")


def test_what_is_created_is_there(database, fake):
    assert read(database) is None
    assert database.create(PATH, DOCUMENT) is True
    assert read(Firestore("profiles")) == DOCUMENT
    assert fake.commits == 1


def test_another_document_is_not_written_over(database):
    database.create(PATH, {**DOCUMENT, "color": "blue"})
    assert database.create(PATH, DOCUMENT) is False
    assert read(database)["color"] == "blue"


def test_of_two_calls_with_the_same_content_one_has_made_it(database):
    assert [database.create(PATH, DOCUMENT), database.create(PATH, DOCUMENT)] == [True, False]


@pytest.mark.parametrize("content", [{}, {"at": datetime.datetime(2026, 1, 1)}, {"n": float("nan")}])
def test_a_create_whose_answer_was_lost_is_a_create(database, fake, content):
    """The library tries again, and learns that the document exists: its own document.

    Its content cannot tell, because some values are stored differently from how they were sent.
    """
    fake.after = once(grpc.StatusCode.UNAVAILABLE)
    assert database.create(PATH, {**DOCUMENT, **content}) is True
    assert fake.commits == 2
    assert read(database).keys() == {**DOCUMENT, **content}.keys()


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
    for call in (lambda: database.create(PATH, DOCUMENT), lambda: read(database)):
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
            read(database)
    finally:
        go_on.set()
    assert "DeadlineExceeded; no answer within 3 s" in caplog.text


def test_a_function_uses_what_the_client_can_do(database, fake):
    """Update, set, query, and several writes in one commit, all within the limits."""
    for name, color in (("a", "red"), ("b", "blue"), ("c", "red")):
        database.create(f"things/{name}", {"name": name, "color": color})
    commits = fake.commits
    with database.client() as (client, limits):
        things = client.collection("things")
        things.document("a").update({"color": "blue"}, **limits)
        things.document("d").set({"name": "d", "color": "blue"}, **limits)
        blue = things.where(filter=FieldFilter("color", "==", "blue"))
        assert [found.id for found in blue.stream(**limits)] == ["a", "b", "d"]
        batch = client.batch()
        batch.delete(things.document("a"))
        batch.update(things.document("b"), {"color": "green"})
        batch.commit(**limits)
        assert [found.id for found in things.stream(**limits)] == ["b", "c", "d"]
    assert read(database, "things/b") == {"name": "b", "color": "green"}
    assert fake.commits == commits + 3


def test_what_is_said_of_a_document_is_for_the_function(database, fake):
    database.create(PATH, DOCUMENT)
    with pytest.raises(exceptions.AlreadyExists), database.client() as (client, limits):
        client.document(PATH).create(DOCUMENT, **limits)
    with pytest.raises(exceptions.NotFound), database.client() as (client, limits):
        client.document("things/none").update({"color": "red"}, **limits)
    batch = client.batch()
    batch.update(client.document(PATH), {"color": "blue"})
    batch.update(client.document("things/none"), {"color": "blue"})
    with pytest.raises(exceptions.NotFound), database.client():
        batch.commit(**limits)
    assert read(database) == DOCUMENT  # a commit makes all of its writes, or none


def test_every_error_of_the_client_is_named_and_within_the_time_limit(database, fake, caplog):
    go_on = threading.Event()
    fake.before = always(grpc.StatusCode.PERMISSION_DENIED)
    fake.reading = lambda context: go_on.wait(30)
    try:
        for use, said in (
            (lambda c, limits: c.document(PATH).delete(**limits), "PermissionDenied; has the service"),
            (lambda c, limits: [*c.collection("things").stream(**limits)], "DeadlineExceeded; no answer"),
        ):
            caplog.clear()
            with pytest.raises(ServiceUnavailable), database.client() as (client, limits):
                use(client, limits)
            assert f"Firestore database profiles: {said}" in caplog.text
    finally:
        go_on.set()


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
    """A server may load the function and then fork. So the channel is opened only by the first call."""
    env = {**os.environ, "GRPC_ENABLE_FORK_SUPPORT": "0"}  # without gRPC's own support for a fork
    succeeded(run(sys.executable, "-c", FORK, env=env))
    assert read(Firestore("profiles")) == {"name": "a"}
