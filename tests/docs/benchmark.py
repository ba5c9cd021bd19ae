"""The figures in docs/production.md: ratios of two things measured side by side. Run by tests/docs/benchmark."""

import concurrent.futures
import contextlib
import functools
import http.client
import itertools
import json
import math
import os
import pathlib
import random
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests" / "functions")]

from alone import Alone, stage  # noqa: E402
from editions import BASH, edition  # noqa: E402
from fakes import FakeMetadata  # noqa: E402

METADATA = FakeMetadata()
os.environ["GCE_METADATA_HOST"] = os.environ["GCE_METADATA_IP"] = METADATA.address

import google.auth.transport.requests  # noqa: E402
import google.oauth2.id_token  # noqa: E402
import requests  # noqa: E402
from werkzeug.security import check_password_hash, generate_password_hash  # noqa: E402

from names import LOGIN, USER_PROFILES  # noqa: E402
from shared.calls import Function  # noqa: E402
from tool.deploy import grants  # noqa: E402
from tool.deploy.cloud import Binding, Condition, Grant, Level, Resource  # noqa: E402
from tool.deploy.cut import found_by  # noqa: E402
from tool.deploy.graph import Graph  # noqa: E402
from tool.local.roles import predefined  # noqa: E402
from tool.testing import LocalProject, copied, succeeded, urls  # noqa: E402

WORK = pathlib.Path(tempfile.mkdtemp())
CORES = os.cpu_count()


def row(figure, value, aim=""):
    print(f"| {figure} | {value} | {aim} |", flush=True)


def median_time(*actions, times):
    """The median seconds of each action. They take turns, so that noise affects all of them equally."""
    taken = [[] for _ in actions]
    for _ in range(times):
        for action, into in zip(actions, taken, strict=True):
            begun = time.perf_counter()
            action()
            into.append(time.perf_counter() - begun)
    return [statistics.median(into) for into in taken]


class Receiver:
    """The simplest server that answers HTTP with JSON, so that only the caller is measured."""

    ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"

    def __init__(self):
        self.socket = socket.create_server(("127.0.0.1", 0), backlog=200)
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}"
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            connection, _ = self.socket.accept()
            threading.Thread(target=self.serve, args=[connection], daemon=True).start()

    def serve(self, connection):
        with connection:
            while connection.recv(65536):
                connection.sendall(self.ANSWER)


def calls():
    receiver = Receiver()
    os.environ["RECEIVER_URL"] = receiver.url
    helper, plain = Function("receiver"), requests.Session()
    plain.trust_env = False

    def by_helper():
        helper.call("GET", "/")

    def by_session():
        plain.get(receiver.url + "/", timeout=10).json()

    def by_documentation():
        request = google.auth.transport.requests.Request()
        token = google.oauth2.id_token.fetch_id_token(request, receiver.url)
        headers = {"Authorization": f"Bearer {token}"}
        requests.get(receiver.url + "/", headers=headers, timeout=10).json()

    by_helper(), by_session()
    with_token, without = median_time(by_helper, by_session, times=2000)
    row(
        "a call through the helper / the same on a plain session",
        f"{with_token / without:.2f}",
        "≤ 1.05",
    )
    documented, with_token = median_time(by_documentation, by_helper, times=50)
    row("the documentation's way / the helper", f"{documented / with_token:.1f}", "≥ 4")


def token_requests():
    receiver = Receiver()
    os.environ["RECEIVER_URL"] = receiver.url
    METADATA.behave()
    helper = Function("receiver")
    with concurrent.futures.ThreadPoolExecutor(80) as pool:
        list(pool.map(lambda _: helper.call("GET", "/"), range(80)))
        cold = len(METADATA.identity_requests)
        list(pool.map(lambda _: helper.call("GET", "/"), range(10_000)))
    total = len(METADATA.identity_requests)
    row(
        "identity requests: 80 threads cold, and 10,000 calls more",
        f"{cold} and {total}",
        "1 and 1",
    )

    METADATA.behave()
    METADATA.lifetime = 241  # so that it must be renewed after 16 seconds
    helper = Function("receiver")
    helper.call("GET", "/")
    renewed = threading.Event()

    def slow(request):
        time.sleep(1)
        renewed.set()
        return METADATA.good_token(request)

    METADATA.identity, METADATA.lifetime = slow, 3600
    waited = served = 0
    while not renewed.is_set():
        begun = time.perf_counter()
        helper.call("GET", "/")
        served += 1
        waited += time.perf_counter() - begun > 0.5
    row(f"calls that wait for a renewal of 1 s, of {served}", waited, "0")


def logins():
    project = LocalProject(state=WORK / "state")
    succeeded(project.deploy_sh())
    try:
        project.enter()
        token = project.token("you", None)
        account = {"username": "ada", "password": "correct horse", "display_name": "Ada"}
        project.request("POST", LOGIN, "/signup", json=account)
        # The client uses little CPU, because it runs on the same cores.
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        host, body, local = (
            project.url(LOGIN).rpartition("/")[2],
            json.dumps(account),
            threading.local(),
        )

        def log_in():
            if not hasattr(local, "connection"):
                local.connection = http.client.HTTPConnection(host, timeout=60)
            local.connection.request("POST", "/", body, headers)
            answer = local.connection.getresponse()
            assert (answer.read()[:10], answer.status) == (b'{"profile"', 200)

        password_hash = generate_password_hash("correct horse", "scrypt:32768:8:1")

        def bare():
            check_password_hash(password_hash, "correct horse")

        rates, used = {log_in: [], bare: []}, [0, 0]
        for _ in range(6):
            for action in rates:
                before = list(processor_times(project))
                rates[action].append(per_second(action, seconds=3))
                if action is log_in:
                    after = processor_times(project)
                    used = [u + a - b for u, a, b in zip(used, after, before, strict=True)]
        of_login, of_user_profiles = (1000 * seconds / (sum(rates[log_in]) * 3) for seconds in used)
        ratio = statistics.median(rates[log_in]) / statistics.median(rates[bare])
        figure = f"logins a second ({statistics.median(rates[log_in]):.0f}) / bare password checks a second"
        row(figure, f"{ratio:.2f}", "≥ 0.90")
        figure = "processor time of a log-in, and its invoker checks: login, user-profiles"
        row(figure, f"{of_login:.0f} ms, {of_user_profiles:.0f} ms", "reported")

        times = {"nobody": [], "ada": []}
        session = requests.Session()
        token = project.token(LOGIN, project.url(USER_PROFILES))
        verify = project.url(USER_PROFILES) + "/profiles/verify"

        def wrong(name):
            body = {"username": name, "password": "wrong password"}
            session.post(
                verify, json=body, headers={"Authorization": f"Bearer {token}"}, timeout=60
            )

        times = median_time(lambda: wrong("nobody"), lambda: wrong("ada"), times=200)
        row(
            "unknown user / wrong password, medians of 200",
            f"{times[0] / times[1]:.2f}",
            "0.9 to 1.1",
        )

    finally:
        project.end()


def processor_times(project):
    """CPU seconds that login and user-profiles have used so far (Linux only)."""
    for name in (LOGIN, USER_PROFILES):
        fields = pathlib.Path(f"/proc/{project.worker(name)}/stat").read_text().rpartition(")")[2]
        yield sum(map(int, fields.split()[11:13])) / os.sysconf("SC_CLK_TCK")


def per_second(action, seconds, threads=2 * CORES):
    stop_at, done = time.perf_counter() + seconds, [0] * threads

    def work(n):
        while time.perf_counter() < stop_at:
            action()
            done[n] += 1

    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, range(threads)))
    return sum(done) / seconds


def starts():
    bare = WORK / "bare"
    bare.mkdir()
    (bare / "main.py").write_text("def bare(request):\n    return 'x'\n")
    staged = {
        "bare": bare,
        "login": stage("login", WORK / "login"),
        "user_profiles": stage("user_profiles", WORK / "user_profiles"),
    }
    env = {
        **urls("127.0.0.1:9"),
        "STORE": "firestore:profiles",
        "FIRESTORE_EMULATOR_HOST": "127.0.0.1:9",
        "GOOGLE_CLOUD_PROJECT": "p",
    }

    def start(target):
        def action():
            function = Alone(staged[target], target, **env)
            requests.options(function.url, timeout=30)
            running.append(function)

        return action

    running = []
    base, login, firestore = median_time(*map(start, staged), times=11)
    for function in running:
        function.stop()
    row("first answer of a fresh login / of a bare function", f"{login / base:.2f}", "≤ 1.6")
    row("the same for user-profiles with Firestore", f"{firestore / base:.2f}", "≤ 2.5")


def growth():
    """A second local deploy, and that of an older edition. The map grows by a cell for each pair."""
    now = LocalProject(copied(WORK / "clone"))
    before = LocalProject(edition(BASH, WORK / "before")) if has_edition() else None
    projects = [project for project in (now, before) if project]
    try:
        for count, aim in ((3, "≤ 0.8"), (10, "≤ 0.6"), (30, "≤ 0.6")):
            for project in projects:
                add_functions(project.root, count)
                succeeded(project.deploy_sh())
            again = [functools.partial(deploy_again, project) for project in projects]
            seconds = median_time(*again, times=5)
            figure = f"./deploy.sh --local, second run, with {count} functions"
            row(figure, f"{seconds[0]:.2f} s", "reported")
            if before:
                row(f"the same / edition {BASH}", f"{seconds[0] / seconds[1]:.2f}", aim)
    finally:
        for project in projects:
            project.deploy_sh("destroy")


def deploy_again(project):
    succeeded(project.deploy_sh())


def has_edition():
    asked = ("git", "-C", str(ROOT), "cat-file", "-e", BASH)
    return subprocess.run(asked, capture_output=True).returncode == 0


def first_run():
    """The first ./deploy.sh --local of a fresh clone, and that of an older edition."""
    if not has_edition():
        return
    fresh = itertools.count()

    def first(commit):
        root = edition(commit, WORK / f"fresh {next(fresh)}")
        shutil.rmtree(root / ".venv")
        project = LocalProject(root)
        begun = time.perf_counter()
        succeeded(project.deploy_sh())
        taken[commit].append(time.perf_counter() - begun)
        project.deploy_sh("destroy")

    taken = {"HEAD": [], BASH: []}
    first(BASH), first("HEAD")  # so that uv has all packages in its cache
    for commit in taken:
        taken[commit].clear()
    for _ in range(3):
        for commit in taken:
            first(commit)
    seconds = {commit: statistics.median(times) for commit, times in taken.items()}
    figure = "the first ./deploy.sh --local in a fresh clone"
    row(figure, f"{seconds['HEAD']:.1f} s", "reported")
    row(f"the same / edition {BASH}", f"{seconds['HEAD'] / seconds[BASH]:.2f}", "≤ 1.0")


def add_functions(clone, count):
    """Adds copies of search until there are this many functions."""
    with (clone / "trust-map").open("a") as trust_map:
        for n in range(len(list((clone / "functions").iterdir())), count):
            folder = clone / "functions" / f"extra_{n}"
            shutil.copytree(clone / "functions" / "search", folder)
            main = (folder / "main.py").read_text()
            (folder / "main.py").write_text(main.replace("def search(", f"def extra_{n}("))
            trust_map.write(f"extra-{n}  -  -\n")


def ways():
    """How long "who" takes, in a large project, to find every way to a function and how to close it."""
    dice = random.Random(1)
    accounts = [f"a{n}-sa@p.iam.gserviceaccount.com" for n in range(100)]
    functions = {f"r/f{n}": grants.Function(account) for n, account in enumerate(accounts[:30])}
    members = [
        *(f"user:u{n}@example.com" for n in range(800)), *(f"group:g{n}@example.com" for n in range(50)),
        *(f"serviceAccount:{account}" for account in accounts),
    ]  # fmt: skip
    roles = {f"roles/{name}": frozenset(predefined(f"roles/{name}").permissions) for name in (
        "viewer", "editor", "owner", "run.admin", "run.developer", "run.invoker", "run.viewer", "iam.serviceAccountUser",
        "iam.serviceAccountTokenCreator", "iam.serviceAccountAdmin", "logging.viewer", "storage.admin",
    )}  # fmt: skip
    places = [
        Resource(Level.PROJECT, "p"), *(Resource(Level.FUNCTION, name) for name in functions),
        *(Resource(Level.ACCOUNT, account) for account in accounts),
    ]  # fmt: skip

    def grant():
        condition = Condition("night", "true") if dice.random() < 0.1 else None
        on = places[0] if dice.random() < 0.25 else dice.choice(places)
        return Grant(Binding(dice.choice(members), dice.choice(sorted(roles)), condition), on)

    bound = tuple(grant() for _ in range(6000))
    read = grants.Facts("p", functions, frozenset(accounts), bound, roles)
    graph, found = median_time(lambda: Graph(read, "r/f3"), lambda: found_by(read, "r/f3"), times=5)
    size = "30 functions, 100 accounts, 6,000 bindings"
    row(f"who, {size}: the graph of ways to a function", f"{graph:.2f} s", "≤ 0.5 s")
    row("the same with every principal's ways and what ends them", f"{found:.2f} s", "reported")


def console():
    """How much the console slows a function down, and how soon it shows a call if there are many."""
    project = LocalProject(copied(WORK / "shown"))
    try:
        succeeded(project.deploy_sh())
        project.enter()
        address, page = project.url(LOGIN).removeprefix("http://"), project.env["CONSOLE_URL"]
        own = threading.local()

        def call(path="/", headers=None):
            if not hasattr(own, "connection"):
                own.connection = http.client.HTTPConnection(address, timeout=20)
            own.connection.request("GET", path, headers=headers or {})
            own.connection.getresponse().read()

        token = {"Authorization": f"Bearer {project.token('you', None)}"}
        ratios = []
        for _ in range(15):
            without = per_second(lambda: call(headers=token), 1)
            with watched(page):
                ratios.append(without / per_second(lambda: call(headers=token), 1))
        ratio = statistics.median(ratios)
        row("a function's calls a second without the console's page / while it is open", f"{ratio:.2f}", "≤ 1.02")
        late, rate = appearing(call, page)
        row(f"of {rate:.0f} calls a second for ten seconds, one appears after (median, last)", late, "reported")
    finally:
        project.end()


@contextlib.contextmanager
def watched(page):
    """Does what the console's page does while it is open: reads the events, and the map twice a second."""
    asks = (f"{page}/events",), ("--rate", "2/s", f"{page}/map?[1-10000]")
    readers = [subprocess.Popen(["curl", "-sN", *ask], stdout=subprocess.DEVNULL) for ask in asks]
    try:
        yield
    finally:
        for reader in readers:
            reader.kill()
            reader.wait()


def appearing(call, page):
    """How long after its answer a call is in the events, with 500 calls a second for ten seconds."""
    count, came = 5000, {}
    answered = [0.0] * count
    stream = requests.get(f"{page}/events", stream=True, timeout=60)

    def read():
        for line in stream.iter_lines(chunk_size=None):
            if line.startswith(b"data: ["):
                for one in json.loads(line[6:]):
                    came.setdefault(one["path"], time.perf_counter())
            if f"/{count - 1}" in came:
                return

    begun = time.perf_counter()

    def paced(n):
        time.sleep(max(0, begun + n / 500 - time.perf_counter()))
        call(f"/{n}")
        answered[n] = time.perf_counter()

    reader = threading.Thread(target=read)
    reader.start()
    with concurrent.futures.ThreadPoolExecutor(2 * CORES) as pool:
        list(pool.map(paced, range(count)))
    rate = count / (time.perf_counter() - begun)
    reader.join(60)
    stream.close()
    late = sorted(came.get(f"/{n}", math.inf) - answered[n] for n in range(count))
    return f"{statistics.median(late):.2f} s, {late[-1]:.2f} s", rate


def recovery():
    """How long a log-in takes to succeed after user-profiles hung for 20 s under 64 clients."""
    clone = copied(WORK / "hanging")
    main = clone / "functions" / "user_profiles" / "main.py"
    switch = WORK / "hang"
    main.write_text(
        main.read_text()
        + f"""

import pathlib, time

@app.before_request
def hang():
    while pathlib.Path({str(switch)!r}).exists() and request.method == "POST":
        time.sleep(0.1)
"""
    )
    project = LocalProject(clone)
    try:
        succeeded(project.deploy_sh())
        project.enter()
        account = {"username": "ada", "password": "correct horse", "display_name": "Ada"}
        assert project.request("POST", LOGIN, "/signup", json=account).status_code == 201

        def client(until):
            while time.monotonic() < until:
                project.request("POST", LOGIN, "/", json=account)

        switch.touch()
        with concurrent.futures.ThreadPoolExecutor(64) as pool:
            list(pool.map(client, [time.monotonic() + 20] * 64))
            switch.unlink()
            begun = time.monotonic()
            while project.request("POST", LOGIN, "/", json=account).status_code != 200:
                pass
            seconds = time.monotonic() - begun
        row("after 20 s in which user-profiles hung under 64 clients, a log-in succeeds in", f"{seconds:.1f} s", "≤ 5 s")
    finally:
        project.end()


def edit_loop():
    """The time from a save to the new answer, with --watch, and that of a bare restart of functions-framework."""
    clone = copied(WORK / "watched")
    trust_map = clone / "trust-map"
    trust_map.write_text(re.sub("(?m)^search +-", "search  you", trust_map.read_text()))
    project = LocalProject(clone)
    command = [str(clone / "deploy.sh"), "--local", "--watch"]
    watching = subprocess.Popen(command, env=project.env, text=True, stdout=subprocess.PIPE)
    try:
        for line in watching.stdout:
            if line.startswith("Watching"):
                break
        project.enter()
        main = clone / "functions" / "search" / "main.py"
        bare = WORK / "restarted"
        shutil.copytree(clone / "functions" / "search", bare)
        shutil.copytree(clone / "shared", bare / "shared")
        text, running = main.read_text(), []

        def save():
            save.n += 1
            changed = text.replace('"results": ', f'"n": {save.n}, "results": ')
            assert changed != text  # otherwise there is nothing to wait for
            main.write_text(changed)
            next(line for line in watching.stdout if "search is deployed" in line)
            assert project.request("GET", "search").json()["n"] == save.n

        save.n = 0

        def restart():
            while running:
                running.pop().stop()
            function = Alone(bare, "search", **urls("127.0.0.1:9"))
            running.append(function)
            requests.get(function.url, timeout=30)

        saved, restarted = median_time(save, restart, times=7)
        running.pop().stop()
        row("from a save under --watch to the new answer", f"{saved:.1f} s", "≤ 2 s")
        row("the same / a bare restart of the function", f"{saved / restarted:.2f}", "≤ 2")
    finally:
        watching.send_signal(signal.SIGTERM)  # Ctrl-C would be ignored if this runs in the background
        watching.communicate(timeout=60)
        project.end()


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the clean-up runs
    version = ".".join(map(str, sys.version_info[:2]))
    print(f"Python {version}, {CORES} cores\n\n| figure | measured | aim |\n|---|---|---|")
    try:
        for measure in (calls, token_requests, starts, logins, recovery, edit_loop, growth, first_run, ways, console):
            measure()
    finally:
        shutil.rmtree(WORK, ignore_errors=True)
