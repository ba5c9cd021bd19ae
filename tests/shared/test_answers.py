"""Every function always answers with JSON and the right status. Tested with a small function."""

import json
import logging
import os
import shutil
import signal
import threading

import functions_framework
import pytest
import requests
from werkzeug.exceptions import Conflict, ServiceUnavailable

from alone import Alone
from fakes import as_json
from shared.answers import json_app, json_body
from tool.testing import ROOT

JSON = {"Content-Type": "application/json"}

SMALL = """
from shared.answers import answer, json_app
from shared.calls import Function

app = json_app(__name__)
other = Function("other")

def small(request):
    return answer(app, request)

@app.get("/ask")
def ask():
    return {"answered": other.call("GET", "/")[1]}
"""


@pytest.fixture
def client(own_logging):
    """A client of a function with a few routes."""
    app = json_app("small")
    own_logging()

    @app.post("/echo")
    def echo():
        return {"body": json_body()}

    @app.get("/taken")
    def taken():
        raise Conflict("This name is taken.")

    @app.get("/later")
    def later():
        raise ServiceUnavailable("Ask again.", retry_after=7)

    @app.get("/crash")
    def crash():
        raise ValueError("what a user sent")

    @app.get("/odd/<name>")
    def odd(name):
        return {"no JSON": object()}

    return app.test_client()


@pytest.mark.parametrize(
    "content, status, sentence",
    [
        (b"{", 400, "The body is not valid JSON."),
        (b'{"username": "gr\xff"}', 400, "The body is not valid JSON."),
        (b"[" * 16000, 400, "The body is nested too deeply."),
        (b'["username"]', 400, "The body must be a JSON object."),
        (b"null", 400, "The body must be a JSON object."),
        (b"", 400, "The body is not valid JSON."),
        (b" " * (16 * 1024 + 1), 413, "The body is larger than 16 KiB."),
    ],
)
def test_a_wrong_body_is_answered_in_one_sentence(client, content, status, sentence):
    refused = client.post("/echo", data=content, headers=JSON)
    assert (refused.status_code, refused.json) == (status, {"error": sentence})


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_a_wrong_content_type_is_refused(client, content_type):
    refused = client.post("/echo", data=b"{}", headers={"Content-Type": content_type})
    assert refused.status_code == 415
    assert refused.json == {"error": "Send the body as Content-Type: application/json."}


def test_the_largest_body_is_taken(client):
    body = {"text": "x" * (16 * 1024 - len('{"text": ""}'))}
    assert client.post("/echo", data=json.dumps(body), headers=JSON).json == {"body": body}


def test_a_function_can_set_another_size(own_logging):
    app = json_app("large", largest_body=100 * 1024)
    app.post("/")(lambda: json_body())
    body = json.dumps({"text": "x" * 50_000})
    assert app.test_client().post("/", data=body, headers=JSON).status_code == 200
    refused = app.test_client().post("/", data=body * 3, headers=JSON)
    assert refused.status_code == 413
    assert refused.json == {"error": "The body is larger than 100 KiB."}


@pytest.mark.parametrize(
    "method, path, status, sentence",
    [
        ("GET", "/nope", 404, "There is nothing at this path."),
        ("GET", "//taken", 404, "There is nothing at this path."),
        ("GET", "/taken/", 404, "There is nothing at this path."),
        ("DELETE", "/echo", 405, "This path does not answer this method."),
        ("GET", "/taken", 409, "This name is taken."),
        ("GET", "/later", 503, "Ask again."),
        ("GET", "/crash", 500, "Something went wrong here; it has been logged."),
        ("GET", "/odd/grace", 500, "Something went wrong here; it has been logged."),
        ("GRACE", "/taken", 405, "This path does not answer this method."),
    ],
)
def test_an_error_is_one_sentence_in_json(client, method, path, status, sentence):
    answered = client.open(path, method=method)
    assert (answered.status_code, answered.json) == (status, {"error": sentence})


def test_what_helps_the_caller_stands_in_the_header(client):
    assert "POST" in client.delete("/echo").headers["Allow"]
    assert client.get("/later").headers["Retry-After"] == "7"


@pytest.mark.parametrize("path, error", [("/crash", ValueError), ("/odd/grace", TypeError)])
def test_a_crash_is_logged_with_its_place_and_without_what_a_user_sent(client, caplog, path, error):
    client.get(path)
    [record] = [r for r in caplog.records if r.levelno >= logging.ERROR]
    assert record.levelname == "CRITICAL"
    assert record.message == f"Unexpected {error.__name__}: a bug."
    assert record.exc_info[0] is error


def test_each_answer_is_logged_by_its_rule(client, caplog):
    caplog.set_level(logging.INFO)
    client.get("/taken?name=grace")
    [record] = [r for r in caplog.records if r.name == "shared.answers"]
    assert record.message.startswith("GET /taken answered 409 in ")


def test_a_method_that_is_none_is_not_logged(client, caplog):
    caplog.set_level(logging.INFO)
    client.open("/taken", method="GRACE")
    assert caplog.messages[-1].startswith("? None answered 405 in ")


def test_asking_whether_one_is_let_in_is_not_logged(client, caplog):
    """deploy.sh verify sends such requests; the log should show only your own calls."""
    caplog.set_level(logging.INFO)
    let_in = client.options("/")
    assert (let_in.status_code, let_in.json) == (200, {})
    assert not [r for r in caplog.records if r.name == "shared.answers"]


EVENT = """
import functions_framework
from shared.answers import json_app

json_app(__name__)

@functions_framework.cloud_event
def event(event):
    event.data["what a user sent"]
"""


def test_the_errors_of_an_event_function_are_json_too(tmp_path, own_logging, monkeypatch, caplog):
    (tmp_path / "main.py").write_text(EVENT)
    monkeypatch.setattr(functions_framework, "errorhandler", functions_framework.errorhandler)
    client = functions_framework.create_app("event", str(tmp_path / "main.py")).test_client()
    headers = {f"ce-{name}": "x" for name in ("id", "source", "type")} | {"ce-specversion": "1.0"}
    crashed = client.post("/", json={}, headers=headers)
    assert crashed.json == {"error": "Something went wrong here; it has been logged."}
    broken = client.post("/", json={})
    assert (crashed.status_code, broken.status_code) == (500, 400)
    assert broken.json.keys() == {"error"}


# ---- In a process of its own, as it is deployed


@pytest.fixture
def small(tmp_path, metadata, receiver):
    staged = tmp_path / "small"
    shutil.copytree(ROOT / "shared", staged / "shared")
    (staged / "main.py").write_text(SMALL)
    small = Alone(
        staged,
        "small",
        GCE_METADATA_HOST=metadata.address,
        GCE_METADATA_IP=metadata.address,
        OTHER_URL=f"http://{receiver.address}",
    )
    yield small
    small.stop()


def test_a_request_in_flight_is_answered_when_the_instance_is_ended(small, receiver):
    """Cloud Run sends SIGTERM, and ten seconds later kills whatever still runs."""
    asked, go_on, answers = threading.Event(), threading.Event(), []

    def slow(request):
        asked.set()
        assert go_on.wait(30)
        return as_json(200, "late")(request)

    receiver.answer = slow
    call = threading.Thread(
        target=lambda: answers.append(requests.get(small.url + "/ask", timeout=30))
    )
    call.start()
    assert asked.wait(30)
    os.kill(small.process.pid, signal.SIGTERM)
    call.join(2)  # it keeps waiting for a while
    go_on.set()
    call.join(30)
    [answered] = answers
    assert (answered.status_code, answered.json()) == (200, {"answered": "late"})


def test_a_call_after_the_instance_was_frozen_is_answered(small, receiver):
    """Its connections were closed while it was frozen, so it could not notice."""
    assert requests.get(small.url + "/ask", timeout=30).status_code == 200
    [worker] = small.workers()
    os.kill(worker, signal.SIGSTOP)
    address = receiver.server_address
    receiver.hang_up()
    os.kill(worker, signal.SIGCONT)
    assert receiver.server_address == address
    assert requests.get(small.url + "/ask", timeout=30).status_code == 200


def test_every_line_of_the_log_is_one_json_object(small):
    requests.get(small.url + "/ask", timeout=30)
    requests.get(small.url + "/nope", timeout=30)
    lines = [json.loads(line) for line in small.logged().splitlines()]
    assert [line["message"].partition(" in ")[0] for line in lines] == [
        "GET /ask answered 200",
        "GET None answered 404",
    ]
