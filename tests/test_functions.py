"""What the three functions answer, statuses, fields, one-sentence errors."""

import json
import re
import threading

import pytest
from names import LOGIN, SEARCH, USER_PROFILES

ACCOUNT = {"username": "grace", "password": "long enough", "display_name": "Grace"}


@pytest.mark.deployed
def test_signing_up_and_logging_in(visitor):
    made = visitor.sign_up(display_name="Ada Lovelace \N{SPARKLES}")
    assert made.status_code == 201
    profile = made.json()["profile"]
    assert profile.keys() == {"username", "display_name", "created_at"}
    assert profile["username"] == visitor.username
    assert profile["display_name"] == "Ada Lovelace \N{SPARKLES}"
    assert profile["created_at"].endswith("Z")

    logged_in = visitor.log_in()
    assert logged_in.status_code == 200
    assert logged_in.json() == {"profile": profile}


@pytest.mark.deployed
def test_a_taken_name_is_refused_and_its_owner_loses_nothing(visitor):
    assert visitor.sign_up().status_code == 201
    again = visitor.sign_up(password="another password", display_name="Mallory")
    assert again.status_code == 409
    assert again.json() == {"error": "This username is taken."}
    assert visitor.log_in().json()["profile"]["display_name"] == "Ada"


@pytest.mark.deployed
def test_unknown_name_and_wrong_password_are_answered_alike(visitor):
    visitor.sign_up()
    wrong = visitor.log_in(password="incorrect horse")
    unknown = visitor.log_in(username="nobody-at-all")
    assert wrong.status_code == unknown.status_code == 401
    assert wrong.json() == unknown.json() == {"error": "Unknown name or wrong password."}


@pytest.mark.deployed
def test_of_two_sign_ups_at_the_same_moment_one_wins(project, visitor):
    token = project.token(LOGIN, project.url(USER_PROFILES))
    start, statuses = threading.Barrier(8), []

    def sign_up():
        import requests

        start.wait()
        answer = requests.post(
            project.url(USER_PROFILES) + "/profiles",
            json={**ACCOUNT, "username": visitor.username},
            headers={"Authorization": f"Bearer {token}"},
            timeout=30,
        )
        statuses.append(answer.status_code)

    threads = [threading.Thread(target=sign_up) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(statuses) == [201] + [409] * 7


def test_profiles_outlive_the_process(project, visitor):
    visitor.sign_up()
    project.gcloud("functions delete user-profiles --region=$REGION")
    assert visitor.log_in().status_code == 502
    assert project.deploy_sh().returncode == 0
    assert visitor.log_in().status_code == 200


@pytest.mark.deployed
def test_user_profiles_shows_a_profile_without_its_hash(project, visitor):
    profile = visitor.sign_up().json()["profile"]
    path = f"/profiles/{visitor.username}"
    assert project.request("GET", USER_PROFILES, path, caller=LOGIN).json() == {"profile": profile}


@pytest.mark.parametrize("name", ["nobody", "a%2Fb", "%00", "%ED%A0%80", "x" * 2000, "NOBODY"])
def test_a_profile_that_is_not_there_is_not_found(project, name):
    answer = project.request("GET", USER_PROFILES, f"/profiles/{name}", caller=LOGIN)
    assert answer.status_code == 404
    assert answer.json().keys() == {"error"}


WRONG_FIELDS = [
    ("username", None),
    ("username", 7),
    ("username", ["grace"]),
    ("username", "ab"),
    ("username", "a" * 33),
    ("username", "Grace"),
    ("username", "gra ce"),
    ("username", "grace\n"),
    ("username", "gr\u0430ce"),  # a Cyrillic letter that looks like ours
    ("username", "grac\u0065\u0301"),
    ("username", "gra\u0000ce"),
    ("password", None),
    ("password", 12345678),
    ("password", "short77"),
    ("password", "x" * 129),
    ("password", "half a surrogate \ud800"),
]


@pytest.mark.parametrize("field, value", [*WRONG_FIELDS, *[
    ("display_name", None), ("display_name", {}), ("display_name", ""),
    ("display_name", "x" * 81), ("display_name", "half a pair \udfff"),
]])  # fmt: skip
@pytest.mark.parametrize("at", ["/signup", "/profiles"])
def test_a_wrong_field_of_a_sign_up_is_named(project, visitor, at, field, value):
    body = {**ACCOUNT, field: value}
    if at == "/signup":
        answer = visitor.post(at, body)
    else:
        answer = project.request("POST", USER_PROFILES, at, caller=LOGIN, json=body)
    assert answer.status_code == 400
    assert answer.json()["error"].startswith(f"{field} must be ")
    assert answer.json().keys() == {"error"}


@pytest.mark.parametrize("field, value", WRONG_FIELDS)
def test_a_wrong_field_of_a_log_in_is_named(visitor, field, value):
    answer = visitor.log_in(**{field: value})
    assert answer.status_code == 400
    assert answer.json()["error"].startswith(f"{field} must be ")


@pytest.mark.parametrize("field", ACCOUNT)
def test_a_missing_field_is_named(visitor, field):
    answer = visitor.post("/signup", {k: v for k, v in ACCOUNT.items() if k != field})
    assert answer.status_code == 400
    assert answer.json() == {"error": f"{field} is missing."}


@pytest.mark.parametrize(
    "field, value",
    [
        ("username", "a_-"),
        ("username", "0" * 32),
        ("password", "x" * 8),
        ("password", "\N{SNOWMAN}" * 128),
        ("display_name", "\N{SNOWMAN}" * 80),
        ("display_name", "<script>alert('Ada')</script>"),
    ],
)
def test_the_limits_are_within_the_rules(visitor, field, value):
    if field != "username":
        assert visitor.sign_up(**{field: value}).status_code == 201
    else:
        assert visitor.sign_up(username=value).status_code in (201, 409)


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
@pytest.mark.parametrize("path", ["/", "/signup"])
def test_a_wrong_body_is_answered_in_one_sentence(visitor, path, content, status, sentence):
    answer = visitor.post(path, data=content, headers={"Content-Type": "application/json"})
    assert answer.status_code == status
    assert answer.json() == {"error": sentence}


@pytest.mark.parametrize("begin", [b"", b'{"username": "grace", "password": "long enough"}'])
def test_a_body_of_unknown_length_is_bounded_too(visitor, begin):
    pieces = iter([begin, *[b" " * 1024] * 20])
    answer = visitor.post("/", data=pieces, headers={"Content-Type": "application/json"})
    assert answer.status_code == 413


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_a_wrong_content_type_is_refused(visitor, content_type):
    answer = visitor.post("/", data=b"{}", headers={"Content-Type": content_type})
    assert answer.status_code == 415
    assert answer.json() == {"error": "Send the body as Content-Type: application/json."}


@pytest.mark.parametrize(
    "method, name, path, caller, allowed",
    [
        ("DELETE", LOGIN, "/", "you", "POST"),
        ("GET", LOGIN, "/signup", "you", "POST"),
        ("POST", LOGIN, "/search", "you", "GET"),
        ("GET", USER_PROFILES, "/profiles", LOGIN, "POST"),
        ("PUT", USER_PROFILES, "/profiles/grace", LOGIN, "GET"),
        ("GET", USER_PROFILES, "/profiles/verify/", LOGIN, None),
        ("GET", LOGIN, "/nope", "you", None),
        ("GET", LOGIN, "/favicon.ico", "you", None),
        ("GET", USER_PROFILES, "/profiles/a/b", LOGIN, None),
    ],
)
def test_wrong_methods_and_paths(project, method, name, path, caller, allowed):
    answer = project.request(method, name, path, caller=caller)
    assert answer.status_code == (405 if allowed else 404)
    assert answer.json().keys() == {"error"}
    if allowed:
        assert allowed in answer.headers["Allow"]


def test_search_finds_articles_that_hold_every_word(project, open_door):
    def titles(query):
        found = project.request("GET", SEARCH, f"/?q={query}", caller=LOGIN)
        assert found.status_code == 200
        return [article["title"] for article in found.json()["results"]]

    assert titles("riddle") == ["Choose a password"]
    assert titles("PASSWORD+hash") == ["What we keep about you"]
    assert titles("zebra") == []
    assert len(titles("")) > 3


def test_one_log_in_is_one_trace_and_user_profiles_knows_who_called(project, visitor):
    before = {name: len(project.log(name)) for name in (LOGIN, USER_PROFILES)}
    visitor.log_in()
    lines = {
        name: [json.loads(line) for line in project.log(name)[before[name] :].splitlines()]
        for name in before
    }
    fields = {"severity", "time", "message", "logging.googleapis.com/trace"}
    assert all(set(line) == fields for name in lines for line in lines[name])
    traces = {line["logging.googleapis.com/trace"] for name in lines for line in lines[name]}
    [trace] = traces
    assert trace.startswith(f"projects/{project.env['PROJECT_ID']}/traces/")
    [answered] = [line["message"] for line in lines[LOGIN]]
    assert re.fullmatch(r"POST / answered 401 in \d+ ms", answered)
    called, verified = [line["message"] for line in lines[USER_PROFILES]]
    assert called == f"Called by {project.email(LOGIN)}"
    assert re.fullmatch(r"POST /profiles/verify answered 401 in \d+ ms", verified)
