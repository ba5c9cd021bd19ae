"""Many at once, and user-profiles falling over meanwhile: nothing lost, nothing hanging."""

import collections
import concurrent.futures
import contextlib
import os
import resource
import signal
import sqlite3
import sys
import threading
import time

import pytest
import requests
from local.testing import Alone, stage
from names import LOGIN, USER_PROFILES

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="left out: needs /proc")
PASSWORD = {"password": "long enough"}


@pytest.fixture
def full(request):
    return request.config.getoption("--full")


def test_what_was_answered_201_is_there_after_a_kill(project, full):
    """user-profiles' worker is killed in the midst of sign-ups, and comes back by itself."""
    token, url = project.token("you", None), project.url(LOGIN)
    headers = {"Authorization": f"Bearer {token}"}
    names = [f"kill-{n}" for n in range(1000 if full else 70)]
    statuses, enough = {}, threading.Event()

    def sign_up(name):
        account = {"username": name, "display_name": name, **PASSWORD}
        answer = requests.post(url + "/signup", json=account, headers=headers, timeout=60)
        statuses[name] = answer.status_code
        if list(statuses.values()).count(201) > len(names) / 3:
            enough.set()

    with concurrent.futures.ThreadPoolExecutor(32) as pool:
        calls = [pool.submit(sign_up, name) for name in names]
        assert enough.wait(120)
        os.kill(project.worker(USER_PROFILES), signal.SIGKILL)
        for call in calls:
            call.result(120)

    print(collections.Counter(statuses.values()))
    assert set(statuses.values()) <= {201, 502, 503, 504}
    assert set(statuses.values()) != {201}, "nobody noticed the kill"
    for name, status in statuses.items():
        found = project.request("GET", USER_PROFILES, f"/profiles/{name}", caller=LOGIN)
        # Whoever was answered 201 is there. The others are there whole, or not at all.
        assert found.status_code == 200 or (status != 201 and found.status_code == 404)


class UserProfiles(Alone):
    """user-profiles alone, with a database of its own."""

    def __init__(self, folder, **options):
        staged = stage("user_profiles", folder / "staged")
        store = f"sqlite:{folder}/profiles.db"
        super().__init__(staged, "user_profiles", PROFILES_STORE=store, **options)

    def post(self, path, **body):
        return requests.post(self.url + path, json={**PASSWORD, **body}, timeout=60)


def test_a_rush_of_log_ins_is_refused_before_it_takes_the_memory(tmp_path):
    server = UserProfiles(tmp_path, THREADS="64")
    try:
        with concurrent.futures.ThreadPoolExecutor(96) as pool:
            tries = [
                pool.submit(server.post, "/profiles/verify", username="nobody") for _ in range(96)
            ]
            answers = [t.result() for t in tries]
        assert {a.status_code for a in answers} == {401, 503}
        for answer in answers:
            if answer.status_code == 503:
                assert answer.headers["Retry-After"] == "1"
                assert answer.json() == {"error": "Too many log-ins at the moment; try again."}
        assert server.post("/profiles/verify", username="nobody").status_code == 401
        [worker] = server.workers()
        with open(f"/proc/{worker}/status") as status:
            peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
        assert peak < 512 * 1024  # KiB
    finally:
        server.stop()


def test_a_full_disk_loses_nothing_and_crashes_nothing(tmp_path):
    def at_most_20_kib():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20 * 1024, 20 * 1024))

    server = UserProfiles(tmp_path, preexec_fn=at_most_20_kib)
    try:
        kept = []
        for n in range(1000):
            account = {"username": f"user-{n}", "display_name": "x" * 80}
            answer = server.post("/profiles", **account)
            if answer.status_code != 201:
                break
            kept.append(account["username"])
        assert answer.status_code == 503 and kept
        assert answer.json() == {"error": "Profiles cannot be read or written at the moment."}
        assert "Is the disk full, or the file locked?" in server.logged()
        for username in (kept[0], kept[-1]):
            assert server.post("/profiles/verify", username=username).status_code == 200
    finally:
        server.stop()


def test_a_locked_database_is_answered_503_until_it_is_free(tmp_path):
    server = UserProfiles(tmp_path)
    try:
        assert server.post("/profiles", username="ada", display_name="Ada").status_code == 201
        with contextlib.closing(sqlite3.connect(tmp_path / "profiles.db")) as other:
            other.execute("BEGIN EXCLUSIVE")
            refused = server.post("/profiles", username="grace", display_name="Grace")
            assert refused.status_code == 503
            assert refused.json() == {"error": "Profiles cannot be read or written at the moment."}
            assert "database is locked. Is the disk full, or the file locked?" in server.problem()
        assert server.post("/profiles", username="grace", display_name="Grace").status_code == 201
        assert server.post("/profiles/verify", username="ada").status_code == 200
    finally:
        server.stop()


def test_login_under_64_clients_leaks_nothing(project, full):
    token, url = project.token("you", None), project.url(LOGIN)
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    worker = project.worker(LOGIN)

    def usage():
        with open(f"/proc/{worker}/status") as status:
            memory = next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))
        return memory, len(os.listdir(f"/proc/{worker}/fd"))

    def mixture(seed, until):
        """Five requests, or as many as it takes until that moment; returns the statuses seen."""
        with requests.Session() as session:
            session.headers.update(headers)
            seen, n = collections.Counter(), 0
            while n < 5 or time.monotonic() < until:
                kind = (seed + n) % 10
                if kind == 0:
                    answer = session.post(url, json={"username": "nobody", **PASSWORD}, timeout=60)
                elif kind < 4:
                    answer = session.post(url + "/signup", data="{", timeout=60)
                elif kind < 6:
                    answer = session.get(url + "/search?q=a", timeout=60)
                elif kind < 8:
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
        print(seen, usage())
        assert set(seen) <= {400, 401, 403, 404, 413, 503}

    rush(20 if full else 0)  # until it has the connections that 64 clients need
    memory, files = usage()
    rush(60 if full else 0)
    memory_after, files_after = usage()
    assert memory_after < memory * 1.2
    assert files_after <= files + 10
