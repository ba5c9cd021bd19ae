"""login: what the front door answers, and what it answers when something behind it fails."""

import collections
import concurrent.futures
import json
import os
import random
import re
import signal
import sys
import threading
import time

import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fakes import as_json
from names import LOGIN, USER_PROFILES
from visitor import Visitor, verify

ACCOUNT = {"username": "grace", "password": "long enough", "display_name": "Grace"}
CREDENTIALS = {"username": "grace", "password": "long enough"}
PROFILE = {"username": "grace", "display_name": "Grace", "created_at": "2026-01-01T00:00:00Z"}
HTML = {"Content-Type": "text/html; charset=UTF-8"}
REFUSED = (
    "<h2>Your client does not have permission to get URL <code>/</code> from this server.</h2>"
)


@pytest.fixture
def visitor(project):
    with Visitor(project) as visitor:
        yield visitor


# ---- Deployed, as a visitor uses it


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


def test_a_repeated_sign_up_by_the_same_person_is_one_sign_up(visitor):
    """The first answer can get lost, and anyone who knows the password could log in anyway."""
    first = visitor.sign_up()
    again = visitor.sign_up()
    assert (again.status_code, again.json()) == (201, first.json())
    # With another password or another display name, the name is taken.
    assert visitor.sign_up(password="another password").status_code == 409
    assert visitor.sign_up(display_name="Somebody else").status_code == 409


def test_profiles_outlive_the_process(project, visitor):
    visitor.sign_up()
    os.kill(project.worker(USER_PROFILES), signal.SIGKILL)
    project.patience = 30  # gunicorn starts another worker
    try:
        assert project.eventually(visitor.log_in, 200)
    finally:
        project.patience = 0


def test_one_log_in_is_one_trace_and_user_profiles_knows_who_called(project, visitor):
    trace = f"{random.getrandbits(128) | 1:032x}"
    visitor.session.headers["Traceparent"] = f"00-{trace}-b7ad6b7169203331-01"
    visitor.log_in()
    lines = {}
    for name in (LOGIN, USER_PROFILES):  # the log may still get lines about other tests' calls
        log = project.log(name, having=f"answered.*{trace}|{trace}.*answered").splitlines()
        lines[name] = [json.loads(line) for line in log if trace in line]
    fields = {"severity", "time", "message", "logging.googleapis.com/trace"}
    assert all(set(line) == fields for name in lines for line in lines[name])
    whole = f"projects/{project.env['PROJECT_ID']}/traces/{trace}"
    assert all(line["logging.googleapis.com/trace"] == whole for name in lines for line in lines[name])
    [answered] = [line["message"] for line in lines[LOGIN]]
    assert re.fullmatch(r"POST / answered 401 in \d+ ms", answered)
    called, verified = [line["message"] for line in lines[USER_PROFILES]]
    assert called == f"Called by {project.email(LOGIN)}"
    assert re.fullmatch(r"POST /profiles/verify answered 401 in \d+ ms", verified)


def test_verify_tells_whether_login_is_let_in(project):
    token, url = project.token("you", None), project.url(LOGIN)
    assert verify(USER_PROFILES, url, token) == "in"
    assert verify(USER_PROFILES, url) == "unknown"  # the platform refuses you, not login
    assert verify("something-else", url, token) == "unknown"
    flags = f"--member=serviceAccount:{project.email(LOGIN)} --role=roles/run.invoker"
    project.gcloud(
        f"run services remove-iam-policy-binding {USER_PROFILES} {flags} --region=$REGION"
    )
    try:
        assert verify(USER_PROFILES, url, token) == "refused"
    finally:
        project.gcloud(
            f"run services add-iam-policy-binding {USER_PROFILES} {flags} --region=$REGION"
        )


@pytest.mark.parametrize(
    "status, body",
    [(502, {"error": "user-profiles cannot be reached."}), (200, {}), (503, {"error": "busy"})],
)
def test_verify_does_not_know_what_another_answer_means(receiver, status, body):
    receiver.answer = as_json(status, body)
    assert verify(USER_PROFILES, f"http://{receiver.address}") == "unknown"
    assert receiver.requests[0].path == "/"  # a log-in, which leaves nothing behind


# ---- Alone, with a fake user-profiles


@pytest.fixture
def login(load, receiver):
    receiver.answer = as_json(200, {"profile": PROFILE})
    return load(LOGIN)


def test_a_log_in_asks_user_profiles(login, receiver):
    answered = login.post("/", json={**CREDENTIALS, "admin": True})
    assert (answered.status_code, answered.json) == (200, {"profile": PROFILE})
    [asked] = receiver.requests
    assert (asked.method, asked.path) == ("POST", "/profiles/verify")
    assert json.loads(asked.body) == CREDENTIALS


def test_a_sign_up_asks_user_profiles(login, receiver):
    receiver.answer = as_json(201, {"profile": PROFILE})
    answered = login.post("/signup", json=ACCOUNT)
    assert (answered.status_code, answered.json) == (201, {"profile": PROFILE})
    [asked] = receiver.requests
    assert (asked.method, asked.path) == ("POST", "/profiles")
    assert json.loads(asked.body) == ACCOUNT


def test_only_the_profile_is_passed_on(login, receiver):
    leaky = {"profile": {**PROFILE, "password_hash": "scrypt:..."}, "debug": "secret"}
    receiver.answer = as_json(200, leaky)
    assert login.post("/", json=CREDENTIALS).json == {"profile": PROFILE}


NO_USABLE_ANSWER = (502, "user-profiles gave no usable answer.")


@pytest.mark.parametrize(
    "answer, expected",
    [
        (as_json(500, {"error": "inner secret"}), NO_USABLE_ANSWER),
        (as_json(400, {"error": "inner secret"}), NO_USABLE_ANSWER),
        (as_json(200, {"profile": "inner secret"}), NO_USABLE_ANSWER),
        (as_json(200, {"inner": "secret"}), NO_USABLE_ANSWER),
        (as_json(200, ["inner secret"]), NO_USABLE_ANSWER),
        (lambda r: (204, {}, ""), NO_USABLE_ANSWER),
        (lambda r: (200, HTML, "<p>inner secret"), NO_USABLE_ANSWER),
        (lambda r: (403, HTML, REFUSED), (502, "user-profiles does not let this function in.")),
        (lambda r: (503, {"Retry-After": "1"}, ""), (503, "user-profiles is busy.")),
        (lambda r: (429, HTML, "Rate exceeded."), (503, "user-profiles is busy.")),
    ],
)  # fmt: skip
@pytest.mark.parametrize("path", ["/", "/signup"])
def test_what_fails_behind_login_is_one_sentence(login, receiver, caplog, path, answer, expected):
    receiver.answer = answer
    answered = login.post(path, json=ACCOUNT)
    assert (answered.status_code, answered.json) == (expected[0], {"error": expected[1]})
    [record] = [record for record in caplog.records if record.name == "shared.calls"]
    assert record.message.startswith(f"{expected[1]} Reason: ")
    assert "secret" not in caplog.text
    assert answered.headers.get("Retry-After") == ("1" if expected[0] == 503 else None)


def test_no_token_is_503_in_time(login, metadata, receiver, caplog):
    metadata.identity = lambda request: (404, {}, "inner secret")
    answered = login.post("/", json=CREDENTIALS)
    assert answered.status_code == 503
    assert answered.json == {"error": "No identity to call user-profiles with."}
    assert receiver.requests == []
    assert "; check the metadata server, or the key file and the clock" in caplog.text
    assert "secret" not in caplog.text
    # It recovers as soon as tokens can be fetched again.
    metadata.identity = metadata.good_token
    assert login.post("/", json=CREDENTIALS).status_code == 200


def test_user_profiles_that_does_not_run_is_502(load, metadata):
    login = load(LOGIN, USER_PROFILES_URL="http://127.0.0.1:9")  # nobody listens there
    answered = login.post("/", json=CREDENTIALS)
    assert (answered.status_code, answered.json) == (
        502,
        {"error": "user-profiles cannot be reached."},
    )


def test_user_profiles_that_hangs_is_504_in_time(login, receiver):
    receiver.answer = receiver.hang
    begun = time.monotonic()
    answered = login.post("/", json=CREDENTIALS)
    assert answered.status_code == 504
    assert answered.json == {"error": "user-profiles did not answer in time."}
    assert time.monotonic() - begun < 15
    receiver.answer = as_json(200, {"profile": PROFILE})
    assert login.post("/", json=CREDENTIALS).status_code == 200


def test_a_connection_that_dies_costs_neither_a_log_in_nor_a_sign_up_anything(login, receiver):
    def dies_once(request):
        receiver.answer = as_json(201, {"profile": PROFILE})
        raise ConnectionError

    for path, status in (("/signup", 201), ("/signup", 201)):
        receiver.answer = dies_once
        assert login.post(path, json=ACCOUNT).status_code == status
    receiver.answer = dies_once
    assert login.post("/", json=CREDENTIALS).json == {"profile": PROFILE}


@pytest.mark.parametrize(
    "method, path, allowed",
    [("DELETE", "/", "POST"), ("GET", "/signup", "POST"), ("GET", "/nope", None), ("GET", "/favicon.ico", None)],
)  # fmt: skip
def test_wrong_methods_and_paths(login, method, path, allowed):
    answered = login.open(path, method=method)
    assert answered.status_code == (405 if allowed else 404)
    if path != "/favicon.ico":  # functions-framework itself answers this one
        assert answered.json.keys() == {"error"}
    assert (allowed or "") in answered.headers.get("Allow", "")


# ---- The fields


WRONG_FIELDS = [
    ("username", None),
    ("username", 7),
    ("username", ["grace"]),
    ("username", "ab"),
    ("username", "a" * 33),
    ("username", "Grace"),
    ("username", "gra ce"),
    ("username", "grace\n"),
    ("username", "gr\u0430ce"),  # a Cyrillic letter that looks like an a
    ("username", "grac\u0065\u0301"),
    ("username", "gra\u0000ce"),
    ("password", None),
    ("password", 12345678),
    ("password", "short77"),
    ("password", "x" * 129),
    ("password", "half a surrogate \ud800"),
    ("username", "\uff41\uff44\uff4d\uff49\uff4e"),
    ("username", "adm\u0131n"),
    ("username", "ad\u202emin"),
    ("username", "admin "),
]


@pytest.mark.parametrize("field, value", [*WRONG_FIELDS, *[
    ("display_name", None), ("display_name", {}), ("display_name", ""),
    ("display_name", "x" * 81), ("display_name", "half a pair \udfff"),
]])  # fmt: skip
def test_a_wrong_field_of_a_sign_up_is_named(login, receiver, field, value):
    answered = login.post("/signup", json={**ACCOUNT, field: value})
    assert answered.status_code == 400
    assert answered.json["error"].startswith(f"{field} must be ")
    assert receiver.requests == []


@pytest.mark.parametrize("field, value", WRONG_FIELDS)
def test_a_wrong_field_of_a_log_in_is_named(login, receiver, field, value):
    answered = login.post("/", json={**CREDENTIALS, field: value})
    assert answered.status_code == 400
    assert answered.json["error"].startswith(f"{field} must be ")
    assert receiver.requests == []


@pytest.mark.parametrize("field", ACCOUNT)
def test_a_missing_field_is_named(login, field):
    answered = login.post("/signup", json={k: v for k, v in ACCOUNT.items() if k != field})
    assert (answered.status_code, answered.json) == (400, {"error": f"{field} is missing."})


LIMITS = [
    ("username", "a_-"),
    ("username", "0" * 32),
    ("password", "x" * 8),
    ("password", "\N{SNOWMAN}" * 128),
    ("display_name", "\N{SNOWMAN}" * 80),
    ("display_name", "<script>alert('Ada')</script>"),
]


@pytest.mark.parametrize("field, value", LIMITS)
def test_the_limits_are_within_the_rules(login, receiver, field, value):
    receiver.answer = as_json(201, {"profile": PROFILE})
    assert login.post("/signup", json={**ACCOUNT, field: value}).status_code == 201
    assert json.loads(receiver.requests[0].body)[field] == value


@pytest.mark.parametrize("path", ["/", "/signup"])
def test_a_body_of_unknown_length_is_bounded_too(project, visitor, path):
    pieces = iter([json.dumps(ACCOUNT).encode(), *[b" " * 1024] * 20])
    answered = visitor.post(path, data=pieces, headers={"Content-Type": "application/json"})
    assert answered.status_code == 413
    assert answered.json() == {"error": "The body is larger than 16 KiB."}


# ---- Any request

some = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
bodies = json_values | st.dictionaries(st.sampled_from([*ACCOUNT]), json_values)


def is_proper(answered):
    """Holds for every answer of login."""
    assert answered.status_code < 500, answered.text
    assert answered.content_type == "application/json"
    assert answered.status_code < 400 or answered.json.keys() == {"error"}


@some
@given(path=st.sampled_from(["/", "/signup"]), body=bodies)
def test_any_json_body(login, path, body):
    is_proper(login.post(path, data=json.dumps(body), content_type="application/json"))


@some
@given(body=st.binary(max_size=200), kind=st.sampled_from(["application/json", "text/plain"]))
def test_any_bytes(login, body, kind):
    is_proper(login.post("/", data=body, content_type=kind))


@some
@given(path=st.text(max_size=40), method=st.sampled_from("GET POST PUT DELETE PATCH".split()))
def test_any_path_and_method(login, path, method):
    is_proper(login.open("/x/" + path, method=method))


# ---- Many at once, deployed


@pytest.fixture
def full(request):
    return request.config.getoption("--full")


linux = pytest.mark.skipif(sys.platform != "linux", reason="left out: needs /proc")


@linux
def test_what_was_answered_201_is_there_after_a_kill(project, full):
    """The worker of user-profiles is killed during sign-ups, and is started again."""
    url = project.url(LOGIN)
    headers = {"Authorization": f"Bearer {project.token('you', None)}"}
    names = [f"kill-{n}" for n in range(1000 if full else 30)]
    statuses, enough = {}, threading.Event()

    def sign_up(name):
        account = {**ACCOUNT, "username": name}
        answer = requests.post(url + "/signup", json=account, headers=headers, timeout=60)
        statuses[name] = answer.status_code
        if list(statuses.values()).count(201) >= 10:  # so the kill comes during sign-ups, even on a slow machine
            enough.set()

    with concurrent.futures.ThreadPoolExecutor(32) as pool:
        calls = [pool.submit(sign_up, name) for name in names]
        assert enough.wait(120)
        os.kill(project.worker(USER_PROFILES), signal.SIGKILL)
        for call in calls:
            call.result(120)

    assert set(statuses.values()) <= {201, 502, 503, 504}
    for name, status in statuses.items():
        found = project.request("GET", USER_PROFILES, f"/profiles/{name}", caller=LOGIN)
        # An account that was answered 201 is there. The others are complete, or not there at all.
        assert found.status_code == 200 or (status != 201 and found.status_code == 404)


@linux
def test_login_under_64_clients_leaks_nothing(project, full):
    token, url = project.token("you", None), project.url(LOGIN)
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    worker = project.worker(LOGIN)

    def usage():
        with open(f"/proc/{worker}/status") as status:
            memory = next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))
        return memory, len(os.listdir(f"/proc/{worker}/fd"))

    def mixture(seed, until):
        """Sends at least two requests, and more until that time. Returns how often each status came."""
        with requests.Session() as session:
            session.headers.update(headers)
            seen, n = collections.Counter(), 0
            while n < 2 or time.monotonic() < until:
                kind = (seed + n) % 16
                if kind == 0:  # only a few of these, because each takes a password check
                    answer = session.post(url, json=CREDENTIALS, timeout=60)
                elif kind < 8:
                    answer = session.post(url + "/signup", data="{", timeout=60)
                elif kind < 12:
                    answer = session.get(url + "/nope", timeout=60)
                else:
                    answer = session.post(url, data=" " * 20000, timeout=60)
                seen[answer.status_code] += 1
                n += 1
            return seen

    def rush(seconds=0):
        until = time.monotonic() + seconds
        with concurrent.futures.ThreadPoolExecutor(64) as pool:
            seen = sum(pool.map(mixture, range(64), [until] * 64), collections.Counter())
        assert set(seen) <= {400, 401, 404, 413, 503, 504}  # 503 and 504: the machine is slow

    rush(20 if full else 0)  # until it has the connections that 64 clients need
    memory, files = usage()
    rush(60 if full else 0)
    memory_after, files_after = usage()
    assert memory_after < memory * 1.2
    assert files_after <= files + 10
