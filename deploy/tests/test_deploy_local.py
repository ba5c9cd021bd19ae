"""deploy.sh with the toy app on this machine: faults, kills, several runs at once, other folders."""

import contextlib
import fcntl
import json
import os
import queue
import re
import shlex
import shutil
import signal
import subprocess
import threading
import time

import pytest
import requests

from local.testing import ROOT, run, succeeded
from recorded_cloud import NAMES, TOY


class Local:
    """The toy app on this machine, in a folder of its own."""

    def __init__(self, app):
        self.app, self.state = app, app / ".local"
        self.env = {k: v for k, v in os.environ.items() if k not in ("LOCAL_STATE", "PREFIX")}

    def command(self, *words):
        return [str(ROOT / "deploy.sh"), "--local", f"--app={self.app}", *words]

    def deploy_sh(self, *words):
        return run(*self.command(*words), env=self.env)

    def gcloud(self, line):
        env = {**self.env, "LOCAL_STATE": str(self.state)}
        return run("bash", "-c", f"{shlex.quote(str(ROOT / 'local/bin/gcloud'))} {line}", env=env)

    def set_policy(self, name, *members):
        bindings = [{"role": "roles/run.invoker", "members": members}] if members else []
        policy = shlex.quote(json.dumps({"bindings": bindings}))
        succeeded(
            self.gcloud(
                f"run services set-iam-policy {name} /dev/stdin --region=us-central1 <<< {policy}"
            )
        )

    def members(self, name):
        shown = self.gcloud(
            f"run services get-iam-policy {name} --region=us-central1 --format=json"
        )
        bindings = json.loads(shown.stdout).get("bindings", []) if shown.returncode == 0 else []
        return {member for binding in bindings for member in binding["members"]}

    def faults(self, *faults):
        faults = [dict(zip(("match", "times", "error"), f, strict=True)) for f in faults]
        (self.state / "faults.json").write_text(json.dumps(faults))

    def end(self):
        run(str(ROOT / ".venv/bin/python"), "-I", str(ROOT / "local/__main__.py"), "down",
            env={**self.env, "LOCAL_STATE": str(self.state)})  # fmt: skip


@pytest.fixture(scope="module")
def deployed(tmp_path_factory):
    """Deployed once for all tests that leave it as it was."""
    local = Local(shutil.copytree(TOY, tmp_path_factory.mktemp("app") / "o'brien & söhne"))
    try:
        succeeded(local.deploy_sh())
        yield local
    finally:
        local.end()


@pytest.fixture
def local(toy):
    local = Local(toy)
    yield local
    local.end()


def url(local, name):
    return re.search(rf"{name.upper()}_URL=(\S+)", local.deploy_sh("env").stdout)[1]


def shell(local, line):
    """What a line prints in a shell that ran the eval of "env"."""
    eval_line = f'eval "$({shlex.join(local.command("env"))})"'
    return run("bash", "-c", f"{eval_line}; {line}", env=local.env)


def test_env_leaves_out_what_is_not_deployed_and_gives_the_rest(deployed):
    succeeded(deployed.deploy_sh("destroy", "closed"))
    said = shell(deployed, 'echo "$FRONT_URL ${CLOSED_URL:-none}"; gcloud config get project')
    assert said.stdout.split() == [url(deployed, "front"), "none", "local-project"]
    assert "closed is not deployed" in said.stderr
    succeeded(deployed.deploy_sh())


def test_a_second_clone_is_not_taken_for_the_first(deployed, tmp_path):
    other = Local(shutil.copytree(TOY, tmp_path / "other"))
    destroy = shlex.join(other.command("destroy"))
    for line in (destroy, f"LOCAL_STATE={shlex.quote(str(tmp_path / 'mine'))} {destroy}"):
        assert shell(deployed, line).stdout == "There is no local project.\n"
    succeeded(deployed.deploy_sh("verify"))


def test_a_shell_of_the_local_project_does_not_deploy_to_the_cloud_by_mistake(deployed):
    words = shlex.join([str(ROOT / "deploy.sh"), f"--app={deployed.app}"])
    refused = shell(deployed, words)
    assert refused.returncode == 1 and "Add --local" in refused.stderr


def test_it_can_be_called_by_a_link(deployed, tmp_path):
    (tmp_path / "link").symlink_to(ROOT / "deploy.sh")
    (tmp_path / "link to it").symlink_to("link")
    assert run(str(tmp_path / "link to it"), "help").returncode == 0


# ---- what a deploy makes


def test_the_printed_map_is_what_was_measured(deployed):
    assert rows(succeeded(deployed.deploy_sh("verify"))) == {
        "anonymous": ["403 ok", "403 ok", "403 ok"],
        "you": ["200 ok", "403 ok", "403 ok"],
        "front": ["403 ok", "200 ok", "403 ok"],
        "back": ["403 ok", "403 ok", "403 ok"],
        "closed": ["403 ok", "403 ok", "403 ok"],
    }


def test_a_function_finds_its_settings_and_nothing_of_this_shell(deployed):
    token = deployed.gcloud("auth print-identity-token").stdout.strip()
    headers = {"Authorization": f"Bearer {token}"}
    found = requests.get(url(deployed, "front"), headers=headers, timeout=20).json()["environment"]
    assert found["BACK_URL"] == url(deployed, "back") and found["THREADS"] == "80"
    assert found["K_SERVICE"] == "front" and found["GOOGLE_CLOUD_PROJECT"] == "local-project"
    assert "STORE" not in found and not any("LOCAL" in name for name in found)


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_env_survives_any_folder(deployed, shell):
    if not shutil.which(shell):
        pytest.skip(f"left out: {shell} is not installed")
    line = f'eval "$({shlex.join(deployed.command("env"))})"; gcloud config get project; echo "$LOCAL_STATE"'
    env = {**deployed.env, "no_proxy": "example.com"}
    said = run(shell, "-c", f'{line}; echo "$no_proxy"', env=env)
    assert said.stdout.split("\n")[:3] == [
        "local-project", str(deployed.state), "127.0.0.1,localhost,example.com",
    ]  # fmt: skip


def test_a_second_deploy_changes_nothing_and_says_so(deployed):
    before = len((deployed.state / "audit.log").read_text().splitlines())
    said = succeeded(deployed.deploy_sh()).stdout
    assert all(f"{name} is unchanged" in said for name in NAMES)
    commands = (deployed.state / "audit.log").read_text().splitlines()[before:]
    changing = [
        c
        for c in commands
        if re.search(r" (deploy|create|enable|set-iam|add-iam|remove-iam|update)\b", c)
    ]
    assert changing == []


def test_a_stray_binding_is_taken_away_and_said(deployed):
    for member in ("allUsers", "user:mallory@example.com"):
        assert deployed.gcloud(
            f"run services add-iam-policy-binding closed --region=us-central1 --member={member} --role=roles/run.invoker"
        ).returncode == 0  # fmt: skip
    assert requests.options(url(deployed, "closed"), timeout=20).status_code == 200
    verified = deployed.deploy_sh("verify")
    assert verified.returncode == 1 and "anonymous -> closed" in verified.stderr
    drawn = deployed.deploy_sh("verify", "--format=mermaid")
    assert drawn.returncode == 1 and drawn.stdout.count(" closed\n") == 1  # everyone, and so not each again
    assert "200 WRONG" in verified.stdout
    said = succeeded(deployed.deploy_sh()).stdout
    assert "closed: removed allUsers user:mallory@example.com" in said
    assert deployed.members("closed") == set()
    assert requests.options(url(deployed, "closed"), timeout=20).status_code == 403


def test_public_opens_what_you_may_call_and_only_that_until_the_next_deploy(deployed):
    try:
        succeeded(deployed.deploy_sh("--public"))
        answers = {n: requests.options(url(deployed, n), timeout=20).status_code for n in NAMES}
        assert answers == {"front": 200, "back": 403, "closed": 403}
    finally:
        succeeded(deployed.deploy_sh())
    assert requests.options(url(deployed, "front"), timeout=20).status_code == 403


# ---- errors


@pytest.fixture
def disturbed(deployed):
    """For a test that lets commands fail, or bindings take their time; afterwards all is right again."""
    yield deployed
    deployed.env.pop("PATIENCE", None)
    for file in ("faults.json", "propagation.json"):
        (deployed.state / file).unlink(missing_ok=True)
    for name in NAMES:
        deployed.set_policy(name)
    succeeded(deployed.deploy_sh())


def test_what_passes_by_itself_is_waited_for(disturbed):
    disturbed.gcloud("run services delete closed --region=us-central1 --quiet")
    disturbed.set_policy("front")
    disturbed.faults(
        ("run deploy closed", 1, "ABORTED: Conflict for resource 'closed'"),
        ("set-iam-policy front", 1, "UNAVAILABLE: The service is currently unavailable."),
    )
    said = succeeded(disturbed.deploy_sh())
    assert "waiting for another change to end" in said.stderr
    assert disturbed.members("front") == {"user:you@example.com"}


def test_a_binding_that_takes_time_is_waited_for_both_ways(disturbed, tmp_path):
    disturbed.env["PATIENCE"] = "120"
    disturbed.set_policy("back")
    disturbed.set_policy("closed", "allUsers")
    (disturbed.state / "propagation.json").write_text("600")
    with open(tmp_path / "said", "w") as file:
        deploy = subprocess.Popen(disturbed.command(), env=disturbed.env, stdout=file, stderr=file)
    for sentence in ("waiting for back to let front in", "waiting for closed to refuse anonymous"):
        while sentence not in (tmp_path / "said").read_text():
            assert deploy.poll() is None, (tmp_path / "said").read_text()
            time.sleep(0.05)
    (disturbed.state / "propagation.json").unlink()
    disturbed.set_policy("back", "serviceAccount:front-sa@local-project.iam.gserviceaccount.com")
    disturbed.set_policy("closed")
    assert deploy.wait(120) == 0, (tmp_path / "said").read_text()


def test_a_binding_that_does_not_come_is_named(disturbed):
    disturbed.env["PATIENCE"] = "1"
    disturbed.set_policy("back")
    (disturbed.state / "propagation.json").write_text("600")
    failed = disturbed.deploy_sh()
    assert failed.returncode == 1 and "front -> back" in failed.stderr


# ---- interruption


def start(local, *words):
    """deploy.sh under way; its process id is in PID before it starts anything."""
    env = {**local.env, "PID": str(local.app / "pid")}
    script = f'echo $$ > "$PID"; exec {shlex.join(local.command(*words))}'
    return subprocess.Popen(
        ["bash", "-c", script], env=env, text=True, start_new_session=True,
        preexec_fn=heed_ctrl_c, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def heed_ctrl_c():
    """As at a terminal; where the tests run in the background, Ctrl-C may be ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def after_change(local, number, then):
    """What the stand-in does once that many commands have changed something: `then`, for a shell."""
    (local.state / "after_change.json").write_text(json.dumps({"number": number, "then": then}))


KILLS = {
    "SIGKILL": "kill -9 $(cat {pid})",
    "Ctrl-C": "kill -INT $(cat {pid})",
    "SIGTERM": "kill -TERM $(cat {pid})",
}


def end_state(local):
    """Everything that a deploy makes true, without what differs from run to run."""
    emails = local.gcloud("iam service-accounts list --format='value(email)'").stdout.split()
    services = local.gcloud("run services list --format='value(metadata.name)'").stdout.split()
    granted = local.gcloud(
        "projects get-iam-policy local-project --flatten='bindings[].members'"
        " --format='value(bindings.members,bindings.role)'"
    ).stdout.splitlines()
    return sorted(emails), sorted(services), sorted(granted), {n: local.members(n) for n in NAMES}


@pytest.fixture(scope="module")
def undisturbed(deployed):
    return end_state(deployed)


def open_to_more_than_the_map_says(local):
    """Whether any function ever was: the audit log has every policy that was set, and every command."""
    allowed = {
        "front": {"user:you@example.com"},
        "back": {"serviceAccount:front-sa@local-project.iam.gserviceaccount.com"},
        "closed": set(),
    }
    log = (local.state / "audit.log").read_text()
    policies = re.findall(r"^# policy (front|back|closed) (.*)", log, re.M)
    opened = re.findall(r".* --(?:no-invoker-iam-check|allow-unauthenticated).*", log)
    for name, bindings in policies:
        members = {member for binding in json.loads(bindings) for member in binding["members"]}
        if members - allowed[name]:
            opened.append((name, members))
    return opened


@pytest.mark.parametrize("kind", KILLS)
@pytest.mark.parametrize("number", range(1, 12))
def test_killed_anywhere_and_run_again_it_ends_as_if_undisturbed(
    local, undisturbed, kind, number, request
):
    sample = {"SIGKILL": (9,), "Ctrl-C": (8,), "SIGTERM": (11,)}
    if number not in sample[kind] and not request.config.getoption("--full"):
        pytest.skip("left out: runs with --full")
    succeeded(run(str(ROOT / "local/venv")))
    local.state.mkdir()
    after_change(local, number, KILLS[kind].format(pid=shlex.quote(str(local.app / "pid"))))
    killed = start(local)
    said = killed.communicate(timeout=120)
    assert killed.returncode == {"SIGKILL": -9, "Ctrl-C": 130, "SIGTERM": 143}[kind], said
    if kind != "SIGKILL":
        assert "interrupted. What was done so far stays. Run the same command again" in said[1]
    assert open_to_more_than_the_map_says(local) == []
    succeeded(local.deploy_sh())
    assert open_to_more_than_the_map_says(local) == []
    assert end_state(local) == undisturbed
    end = time.monotonic() + 30
    while len(running(local)) > 1 + len(NAMES):  # the servers, and an instance of each function
        assert time.monotonic() < end, running(local)
        time.sleep(0.05)


def running(local):
    """The processes of the project: each holds a lock on its file."""
    held = []
    for path in (local.state / "run").iterdir():
        with open(path) as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                held.append(path.name)
    return held


@pytest.mark.parametrize("number", [1, 3, 5, 7])
def test_a_destroy_that_is_killed_and_run_again_leaves_nothing(local, number, request):
    if number != 3 and not request.config.getoption("--full"):
        pytest.skip("left out: runs with --full")
    succeeded(local.deploy_sh())
    pids = [int(file.read_text()) for file in (local.state / "run").iterdir() if file.read_text()]
    assert pids
    after_change(local, number, KILLS["SIGKILL"].format(pid=shlex.quote(str(local.app / "pid"))))
    killed = start(local, "destroy")
    killed.communicate(timeout=120)
    assert killed.returncode == -9
    assert open_to_more_than_the_map_says(local) == []
    destroyed = succeeded(local.deploy_sh("destroy"))
    assert "Ending the local project" in destroyed.stdout and not local.state.exists()
    for pid in pids:
        state = run("ps", "-o", "stat=", "-p", str(pid)).stdout.strip()
        assert state[:1] in ("", "Z")  # a zombie has ended, and waits for init
    assert local.deploy_sh("destroy").stdout == "There is no local project.\n"


def test_nothing_changes_after_an_interrupted_deploy_has_ended(local):
    """The gcloud that runs while the signal comes is ended, and not left behind."""
    succeeded(run(str(ROOT / "local/venv")))
    local.state.mkdir()
    after_change(local, 1, f"kill -TERM $(cat {shlex.quote(str(local.app / 'pid'))}); sleep 60")
    began = time.monotonic()
    ended = start(local)
    ended.communicate(timeout=50)
    assert ended.returncode == 143 and time.monotonic() - began < 50
    assert run("pgrep", "-f", f"sleep 60.*{local.app}").stdout == ""


# ---- the edit loop


def test_a_saved_change_answers_and_a_broken_one_leaves_the_last_good_revision(local):
    (local.app / "functions" / "front" / "main.py").write_text(FRONT.format("first"))
    watching = start(local, "--watch")

    def until(pattern):
        """What is said until a line matches; the terminal shows both streams."""
        said = ""
        for line in stream:
            said += line
            if re.search(pattern, line):
                return said
        pytest.fail(f"it ended: {said}")

    def answer():
        token = local.gcloud("auth print-identity-token").stdout.strip()
        return requests.get(
            url(local, "front"), headers={"Authorization": f"Bearer {token}"}, timeout=20
        ).text

    with merged(watching) as stream:
        until("Watching")
        assert answer() == "first"
        (local.app / "functions" / "front" / "main.py").write_text(FRONT.format("second"))
        until("front is deployed")
        assert answer() == "second"
        (local.app / "functions" / "front" / "main.py").write_text("def front(request)\n")
        assert "front: main.py line 1: " in until("front is not deployed")
        assert answer() == "second"
        watching.send_signal(signal.SIGINT)
        assert watching.wait(30) == 0
    assert answer() == "second"  # the watching ends, the functions do not


FRONT = "def front(request):\n    return {!r}\n"


@contextlib.contextmanager
def merged(process):
    """The lines of both streams of a process, which is ended if a test ends early."""
    lines = queue.Queue()

    def read(stream):
        for line in stream:
            lines.put(line)
        lines.put(None)

    readers = [threading.Thread(target=read, args=[s]) for s in (process.stdout, process.stderr)]
    for reader in readers:
        reader.start()
    try:
        yield iter(lambda: lines.get(timeout=60), None)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)
        for reader in readers:
            reader.join(30)
        process.stdout.close()
        process.stderr.close()


# ---- who could call a function

TOKENS = "roles/iam.serviceAccountTokenCreator"
EVE = "--member=user:eve@example.com"


def test_an_opened_door_is_shown_with_what_closes_it(deployed):
    front = "front-sa@local-project.iam.gserviceaccount.com"
    succeeded(deployed.gcloud(f"iam service-accounts add-iam-policy-binding {front} {EVE} --role={TOKENS}"))
    said = succeeded(deployed.deploy_sh("who", "back")).stdout
    assert f"serviceAccount:{front}, as trust-map says" in said
    assert "  user:eve@example.com\n" in said and f"may make tokens of {front}" in said
    shown = json.loads(succeeded(deployed.deploy_sh("who", "back", "--format=json")).stdout)
    [eve] = [one for one in shown["reached_by"] if one["principal"] == "user:eve@example.com"]
    assert len(eve["steps"]) == 2 and eve["ends"] in said
    succeeded(deployed.gcloud(eve["ends"].removeprefix("gcloud ")))
    assert "eve" not in succeeded(deployed.deploy_sh("who", "back")).stdout
    assert "closed can be reached by nobody" in succeeded(deployed.deploy_sh("who", "closed")).stdout
    assert "no function nothing, but front back closed" in deployed.deploy_sh("who", "nothing").stderr
    assert "who needs a function: front back closed" in deployed.deploy_sh("who").stderr


def test_a_role_of_the_project_s_own_is_looked_into(deployed):
    role = "projects/local-project/roles/opener"
    binding = f"local-project --member=user:you@example.com --role={role}"
    succeeded(deployed.gcloud("iam roles create opener --project=local-project --permissions=run.routes.invoke"))
    succeeded(deployed.gcloud(f"projects add-iam-policy-binding {binding} --condition=None"))
    said = succeeded(deployed.deploy_sh("verify")).stdout
    assert f"  user:you@example.com  {role} (project local-project)" in said
    assert rows(deployed.deploy_sh("verify"))["you"] == ["200 ok", "200 inherited", "200 inherited"]
    assert f"may call closed ({role} on project local-project)" in deployed.deploy_sh("who", "closed").stdout
    succeeded(deployed.gcloud(f"projects remove-iam-policy-binding {binding}"))
    succeeded(deployed.deploy_sh())


def test_the_map_is_also_a_picture_and_json(deployed):
    drawn = succeeded(deployed.deploy_sh("verify", "--format=mermaid")).stdout.splitlines()
    assert [" ".join(line.split()) for line in drawn] == [
        "flowchart LR", "you --> front", "front --> back", 'closed["closed<br>lets nobody in"]',
    ]  # fmt: skip
    cells = json.loads(succeeded(deployed.deploy_sh("verify", "--format=json")).stdout)
    assert {"caller": "you", "function": "front", "measured": "200 ok"} in cells and len(cells) == 15


@pytest.fixture
def powerless(deployed):
    """A project in which you may not act as anybody, as an owner on Google Cloud may not at first."""
    binding = f"local-project --member=user:you@example.com --role={TOKENS}"
    succeeded(deployed.gcloud(f"projects remove-iam-policy-binding {binding}"))
    yield deployed
    succeeded(deployed.gcloud(f"projects add-iam-policy-binding {binding} --condition=None"))


def makers(local):
    """Who may make tokens of each function's account."""
    emails = [f"{name}-sa@local-project.iam.gserviceaccount.com" for name in NAMES]
    shown = [local.gcloud(f"iam service-accounts get-iam-policy {email} --format=json") for email in emails]
    return [json.loads(succeeded(one).stdout).get("bindings", []) for one in shown]


def test_as_everyone_measures_all_and_takes_back_what_it_needed(powerless):
    assert rows(powerless.deploy_sh("verify"))["front"] == ["refused, by policy", "in, by policy", "refused, by policy"]
    front = "front-sa@local-project.iam.gserviceaccount.com"
    you = "--member=user:you@example.com"
    succeeded(powerless.gcloud(f"iam service-accounts add-iam-policy-binding {front} {you} --role={TOKENS}"))
    before = makers(powerless)
    done = succeeded(powerless.deploy_sh("verify", "--as-everyone"))
    assert rows(done)["back"] == ["403 ok", "403 ok", "403 ok"] and "by policy" not in rows(done)["front"]
    assert done.stderr.startswith("Until verify ends, you may make tokens")
    assert makers(powerless) == before  # front's, which was there, stays
    succeeded(powerless.gcloud(f"iam service-accounts remove-iam-policy-binding {front} {you} --role={TOKENS}"))


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_as_everyone_takes_back_when_it_is_interrupted(powerless, sent):
    process = start(powerless, "verify", "--as-everyone")
    (powerless.state / "after_change.json").write_text(
        json.dumps({"number": 2, "then": f"kill -{sent.value} {process.pid}"})
    )
    said = process.communicate(timeout=120)
    (powerless.state / "after_change.json").unlink()
    assert process.returncode == 128 + sent, said
    assert makers(powerless) == [[], [], []]
    assert said[1].count("Taken back: ") == 2


def test_propagation_is_waited_for_and_can_be_watched(local):
    succeeded(local.deploy_sh("--propagation=1"))  # verify waits for what has not come yet
    succeeded(local.deploy_sh("--propagation=600"))
    address, token = url(local, "closed"), local.gcloud("auth print-identity-token").stdout.strip()
    headers = {"Authorization": f"Bearer {token}"}
    local.set_policy("closed", "user:you@example.com")
    assert requests.get(address, headers=headers, timeout=20).status_code == 403
    succeeded(local.deploy_sh("--propagation=0"))
    local.set_policy("closed", "user:you@example.com")
    assert requests.get(address, headers=headers, timeout=20).status_code == 200
    for words in (["--propagation=soon"], ["verify", "--propagation=2"]):
        assert local.deploy_sh(*words).returncode == 1


# ---- several at once


def test_deploys_at_the_same_time_end_well_and_each_as_it_was_told(local, tmp_path):
    """Two of one folder, and a public one of another."""
    succeeded(run(str(ROOT / "local/venv")))
    other = Local(shutil.copytree(local.app, tmp_path / "other"))
    try:
        runs = [start(local), start(local), start(other, "--public")]
        said = [r.communicate(timeout=170) for r in runs]
        assert [r.returncode for r in runs] == [0, 0, 0], said
        assert open_to_more_than_the_map_says(local) == []
        succeeded(local.deploy_sh("verify"))
        assert other.members("front") == {"user:you@example.com", "allUsers"}
    finally:
        other.end()


# ---- environments, and members that are no functions


def test_environments_live_side_by_side_and_end_alone(deployed):
    """Without a prefix, with one in the same project, and in a project of its own."""
    dev, prod = Local(deployed.app), Local(deployed.app)
    dev.env["PREFIX"] = "dev-"
    prod.state = deployed.app / ".local-shop-prod"
    try:
        for said in (dev.deploy_sh(), prod.deploy_sh("--project=shop-prod")):
            assert "Every call that could be made was answered as the map says" in said.stdout
        members = {"serviceAccount:dev-front-sa@local-project.iam.gserviceaccount.com"}
        assert dev.members("dev-back") == members
        ended = succeeded(dev.deploy_sh("destroy")).stdout
        assert ended.endswith("Kept: the local project, for back closed front\n")
        assert "Run PREFIX=dev- ./deploy.sh --local --app=" in dev.deploy_sh("verify").stderr
        succeeded(deployed.deploy_sh("verify"))
        succeeded(prod.deploy_sh("destroy", "--project=shop-prod"))
        assert not prod.state.exists()
        said = prod.deploy_sh("verify", "--project=shop-prod").stderr
        assert "Run ./deploy.sh --local --project=shop-prod --app=" in said
    finally:
        prod.end()
        dev.deploy_sh("destroy")


@pytest.fixture
def schedule(deployed):
    """A service account that is no function's."""
    succeeded(deployed.gcloud("iam service-accounts create schedule"))
    text = (deployed.app / "trust-map").read_text()
    yield "schedule@local-project.iam.gserviceaccount.com"
    (deployed.app / "trust-map").write_text(text)
    shutil.rmtree(deployed.app / ".groups", ignore_errors=True)
    succeeded(deployed.deploy_sh())
    deployed.gcloud(
        "iam service-accounts delete schedule@local-project.iam.gserviceaccount.com --quiet"
    )


def test_an_account_that_is_not_there_is_named_at_once(deployed, schedule):
    trust_map = deployed.app / "trust-map"
    trust_map.write_text(re.sub("closed +-", "closed serviceAccount:nightly@$PROJECT.iam.gserviceaccount.com", trust_map.read_text()))
    failed = deployed.deploy_sh()
    assert failed.returncode == 1 and "waiting" not in failed.stderr
    assert "closed: trust-map names an account that does not exist" in failed.stderr


def test_members_that_are_no_functions_are_let_in_and_shown(deployed, schedule):
    trust_map, groups = deployed.app / "trust-map", deployed.app / ".groups"
    text, group = trust_map.read_text(), "group:admins@example.com"
    groups.mkdir()
    members = f"{group},serviceAccount:schedule@$PROJECT.iam.gserviceaccount.com"
    trust_map.write_text(re.sub("closed +-", f"closed {members}", text))
    assert rows(succeeded(deployed.deploy_sh())) == {
        "anonymous": ["403 ok", "403 ok", "403 ok"],
        "you": ["200 ok", "403 ok", "403 ok"],  # not in the group
        "front": ["403 ok", "200 ok", "403 ok"],
        "back": ["403 ok", "403 ok", "403 ok"],
        "closed": ["403 ok", "403 ok", "403 ok"],
        group: ["refused, by policy", "refused, by policy", "in, by policy"],
        f"serviceAccount:{schedule}": ["403 ok", "403 ok", "200 ok"],
    }
    (groups / "admins@example.com").write_text("You@Example.com\n")
    assert rows(succeeded(deployed.deploy_sh("verify")))["you"] == ["200 ok", "403 ok", "200 ok"]
    # A person whom the map names is "you", where that person deploys.
    trust_map.write_text(re.sub("closed +-", "closed user:you@example.com", text))
    found = rows(succeeded(deployed.deploy_sh()))
    assert found["you"] == ["200 ok", "403 ok", "200 ok"] and len(found) == 5


def rows(result):
    """The measured map: caller to cells."""
    table = result.stdout.partition("(ok: as trust-map says)\n")[2].partition("\n\n")[0].splitlines()
    cells = [re.split(r"\s{2,}", line.strip()) for line in table[1:]]
    return {caller: rest for caller, *rest in cells}
