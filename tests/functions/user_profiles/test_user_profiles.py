"""user-profiles: who may call it, what it answers, and that nothing is lost."""

import concurrent.futures
import contextlib
import json
import random
import resource
import signal
import sqlite3
import sys
import threading

import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from alone import Alone, stage
from names import LOGIN, USER_PROFILES
from tool.testing import TRUST_MAP

PASSWORD = {"password": "long enough"}
ACCOUNT = {"username": "grace", "display_name": "Grace", **PASSWORD}
UNAVAILABLE = {"error": "What is stored cannot be read or written at the moment."}


def test_login_and_nobody_else_may_call_user_profiles():
    assert TRUST_MAP[USER_PROFILES] == {LOGIN}


@pytest.mark.deployed
def test_login_may_call_user_profiles(project):
    answer = project.request("GET", USER_PROFILES, "/profiles/nobody", caller=LOGIN)
    # This is the answer of user-profiles itself: it is JSON, and the platform would answer in HTML.
    assert answer.status_code == 404
    assert answer.json() == {"error": "There is no such profile."}


@pytest.mark.deployed
def test_of_two_sign_ups_at_the_same_moment_one_wins(project):
    username, start = f"v-{random.randrange(10**12)}", threading.Barrier(8)

    def sign_up(n):
        start.wait(30)
        account = {"username": username, "display_name": "Ada", "password": f"long enough {n}"}
        return project.request("POST", USER_PROFILES, "/profiles", caller=LOGIN, json=account)

    project.token(LOGIN, project.url(USER_PROFILES))
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        statuses = [answer.status_code for answer in pool.map(sign_up, range(8))]
    assert statuses.count(201) == 1
    assert set(statuses) <= {201, 409, 503}  # 503: too many at once, on a slow machine


# ---- Alone


@pytest.fixture
def profiles(load, tmp_path):
    return load(USER_PROFILES, STORE=f"sqlite:{tmp_path}/data.db")


def test_a_profile_is_made_verified_and_shown_without_its_hash(profiles):
    made = profiles.post("/profiles", json=ACCOUNT)
    assert made.status_code == 201
    profile = made.json["profile"]
    assert profile.keys() == {"username", "display_name", "created_at"}
    verified = profiles.post("/profiles/verify", json={"username": "grace", **PASSWORD})
    shown = profiles.get("/profiles/grace")
    assert (verified.status_code, shown.status_code) == (200, 200)
    assert verified.json == shown.json == {"profile": profile}


def test_a_taken_name_is_refused_and_its_profile_stays(profiles):
    made = profiles.post("/profiles", json=ACCOUNT).json
    for change in ({"password": "another password"}, {"display_name": "Mallory"}):
        refused = profiles.post("/profiles", json={**ACCOUNT, **change})
        assert (refused.status_code, refused.json) == (409, {"error": "This username is taken."})
    assert profiles.get("/profiles/grace").json == made


def test_the_same_account_again_is_the_same_profile(profiles):
    """The first answer can get lost, even on its way to login. This one reveals no more than a log-in."""
    made = profiles.post("/profiles", json=ACCOUNT)
    again = profiles.post("/profiles", json=ACCOUNT)
    assert (again.status_code, again.json) == (201, made.json)


def test_unknown_name_and_wrong_password_are_answered_alike(profiles):
    profiles.post("/profiles", json=ACCOUNT)
    for credentials in ({**PASSWORD, "username": "nobody"}, {**ACCOUNT, "password": "not this"}):
        refused = profiles.post("/profiles/verify", json=credentials)
        assert refused.status_code == 401
        assert refused.json == {"error": "Unknown name or wrong password."}


@pytest.mark.parametrize("name", ["nobody", "a%2Fb", "%00", "%ED%A0%80", "x" * 2000, "NOBODY"])
def test_a_profile_that_is_not_there_is_not_found(profiles, name):
    found = profiles.get(f"/profiles/{name}")
    assert found.status_code == 404
    assert found.json.keys() == {"error"}


@pytest.mark.parametrize(
    "field, value",
    [
        *[("username", name) for name in (None, 7, "ab", "a" * 33, "Grace", "gra ce", "grace\n")],
        *[("password", word) for word in (None, 1234567890, "short77", "x" * 129, "\ud800" * 9)],
        *[("display_name", name) for name in (None, {}, "", "x" * 81, "\udfff")],
    ],
)
def test_a_wrong_field_is_named(profiles, field, value):
    refused = profiles.post("/profiles", json={**ACCOUNT, field: value})
    assert refused.status_code == 400
    assert refused.json["error"].startswith(f"{field} must be ")


@pytest.mark.parametrize(
    "method, path, allowed",
    [
        ("GET", "/profiles", "POST"),
        ("PUT", "/profiles/grace", "GET"),
        ("GET", "/profiles/verify/", None),
        ("GET", "/profiles/a/b", None),
        ("GET", "//profiles/grace", None),
        ("GET", "/profiles/../../etc/passwd", None),
        ("GET", "/profiles/%2e%2e%2fverify", None),
    ],
)
def test_wrong_methods_and_paths(profiles, method, path, allowed):
    answered = profiles.open(path, method=method)
    assert answered.status_code == (405 if allowed else 404)
    assert answered.json.keys() == {"error"}
    assert (allowed or "") in answered.headers.get("Allow", "")


def test_who_called_is_logged_and_asking_to_be_let_in_is_not(profiles, metadata, caplog):
    caplog.set_level("INFO")
    token = metadata.token(aud="https://profiles.example")
    headers = {"Authorization": f"Bearer {token}"}
    profiles.options("/", headers=headers)
    assert caplog.messages == []
    profiles.get("/profiles/grace", headers=headers)
    assert caplog.messages[0] == "Called by caller@example.com"


some = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
values = st.none() | st.booleans() | st.integers() | st.text() | st.lists(st.text(), max_size=2)


@some
@given(
    path=st.sampled_from(["/profiles", "/profiles/verify"]),
    body=values | st.dictionaries(st.sampled_from([*ACCOUNT]), values),
)
def test_any_body(profiles, path, body):
    answered = profiles.post(path, data=json.dumps(body), content_type="application/json")
    assert answered.status_code < 500
    assert answered.status_code < 400 or answered.json.keys() == {"error"}


# ---- In a process of its own: memory, disk and locks

linux = pytest.mark.skipif(sys.platform != "linux", reason="left out: needs /proc")


class UserProfiles(Alone):
    """user-profiles alone, with a database of its own."""

    def __init__(self, folder, **options):
        staged = stage("user_profiles", folder / "staged")
        super().__init__(staged, "user_profiles", STORE=f"sqlite:{folder}/data.db", **options)

    def post(self, path, **body):
        return requests.post(self.url + path, json={**PASSWORD, **body}, timeout=60)


@pytest.fixture
def start(tmp_path):
    """Starts user-profiles, and ends it after the test."""
    with contextlib.ExitStack() as stack:

        def start(**options):
            server = UserProfiles(tmp_path, **options)
            stack.callback(server.stop)
            return server

        yield start


@linux
def test_a_rush_of_log_ins_is_refused_before_it_takes_the_memory(start):
    server = start(THREADS="64")
    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        tries = [pool.submit(server.post, "/profiles/verify", username="nobody") for _ in range(20)]
        answers = [t.result() for t in tries]
    assert {a.status_code for a in answers} <= {401, 503}
    for answer in answers:
        if answer.status_code == 503:
            assert answer.headers["Retry-After"] == "1"
            assert answer.json() == {"error": "Too many log-ins at the moment; try again."}
    assert server.post("/profiles/verify", username="nobody").status_code == 401
    [worker] = server.workers()
    with open(f"/proc/{worker}/status") as status:
        peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
    assert peak < 512 * 1024  # KiB; 20 checks at a time would take 640 MiB


@linux
def test_a_full_disk_loses_nothing_and_crashes_nothing(start):
    def at_most_16_kib():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (16 * 1024, 16 * 1024))

    server = start(preexec_fn=at_most_16_kib)
    kept = []
    for n in range(1000):
        account = {"username": f"user-{n}", "display_name": "x" * 80}
        answer = server.post("/profiles", **account)
        if answer.status_code != 201:
            break
        kept.append(account["username"])
    assert (answer.status_code, answer.json()) == (503, UNAVAILABLE)
    assert kept and "the disk does not work, or is full" in server.logged()
    for username in (kept[0], kept[-1]):
        assert server.post("/profiles/verify", username=username).status_code == 200


def test_a_locked_database_is_answered_503_until_it_is_free(start, tmp_path):
    server = start()
    assert server.post("/profiles", username="ada", display_name="Ada").status_code == 201
    with contextlib.closing(sqlite3.connect(tmp_path / "data.db")) as other:
        other.execute("BEGIN EXCLUSIVE")
        refused = server.post("/profiles", username="grace", display_name="Grace")
        assert (refused.status_code, refused.json()) == (503, UNAVAILABLE)
        assert "BUSY; another process locks it" in server.problem()
    assert server.post("/profiles", username="grace", display_name="Grace").status_code == 201
    assert server.post("/profiles/verify", username="ada").status_code == 200
