"""deploy.sh with the toy app on this machine: kills, several runs at once, the edit loop."""

import fcntl
import json
import re
import shlex
import shutil
import time

import pytest
import requests

from local_toy import Local, after_change, start, url
from recorded_cloud import NAMES, TOY
from tool.testing import ROOT, run, succeeded

# All tests of this file run in one process, so that the undisturbed deploy is made only once.
pytestmark = pytest.mark.xdist_group("test_deploy_interrupted")


@pytest.fixture
def local(toy):
    local = Local(toy)
    yield local
    local.end()


# ---- interruption


KILLS = {
    "SIGKILL": "kill -9 $(cat {pid})",
    "Ctrl-C": "kill -INT $(cat {pid})",
    "SIGTERM": "kill -TERM $(cat {pid})",
    "SIGHUP": "kill -HUP $(cat {pid})",
}


def end_state(local):
    """Everything that a deploy sets up, without what differs from run to run."""
    emails = local.gcloud("iam service-accounts list --format='value(email)'").stdout.split()
    services = local.gcloud("run services list --format='value(metadata.name)'").stdout.split()
    granted = local.gcloud(
        "projects get-iam-policy local-project --flatten='bindings[].members'"
        " --format='value(bindings.members,bindings.role)'"
    ).stdout.splitlines()
    return sorted(emails), sorted(services), sorted(granted), {n: local.members(n) for n in NAMES}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The result of a deploy that nothing disturbs."""
    local = Local(shutil.copytree(TOY, tmp_path_factory.mktemp("app") / "toy"))
    try:
        succeeded(local.deploy_sh())
        return end_state(local)
    finally:
        local.end()


def open_to_more_than_the_map_says(local):
    """What ever opened a function. The audit log has every policy that was set, and every command."""
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
    sample = {"SIGKILL": (9,), "Ctrl-C": (8,), "SIGTERM": (11,), "SIGHUP": (4,)}
    if number not in sample[kind] and not request.config.getoption("--full"):
        pytest.skip("left out: runs with --full")
    succeeded(run(str(ROOT / "tool/python/venv")))
    local.state.mkdir()
    after_change(local, number, KILLS[kind].format(pid=shlex.quote(str(local.app / "pid"))))
    killed = start(local)
    said = killed.communicate(timeout=120)
    statuses = {"SIGKILL": -9, "Ctrl-C": 130, "SIGTERM": 143, "SIGHUP": 129}
    assert killed.returncode == statuses[kind], said
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
    pids = [int(file.read_text().split()[0]) for file in (local.state / "run").iterdir() if file.read_text()]
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
        assert state[:1] in ("", "Z")  # a zombie has ended, and only waits for init
    assert local.deploy_sh("destroy").stdout == "There is no local project.\n"


def test_nothing_changes_after_an_interrupted_deploy_has_ended(local):
    """If gcloud runs when the signal comes, it is ended, not left behind."""
    succeeded(run(str(ROOT / "tool/python/venv")))
    local.state.mkdir()
    after_change(local, 1, f"kill -TERM $(cat {shlex.quote(str(local.app / 'pid'))}); sleep 60")
    began = time.monotonic()
    ended = start(local)
    ended.communicate(timeout=50)
    assert ended.returncode == 143 and time.monotonic() - began < 50
    assert run("pgrep", "-f", f"sleep 60.*{local.app}").stdout == ""


def test_a_signal_that_was_ignored_at_the_start_stays_ignored(local):
    """As with nohup: the terminal is closed, and the deploy continues."""
    succeeded(run(str(ROOT / "tool/python/venv")))
    local.state.mkdir()
    after_change(local, 3, KILLS["SIGHUP"].format(pid=shlex.quote(str(local.app / "pid"))))
    env = {**local.env, "PID": str(local.app / "pid")}
    script = f'trap "" HUP; echo $$ > "$PID"; exec {shlex.join(local.command())}'
    said = succeeded(run("bash", "-c", script, env=env))
    assert json.loads((local.state / "after_change.json").read_text())["number"] < 0
    assert "Every call that could be made" in said.stdout


def test_propagation_is_waited_for_and_can_be_watched(local):
    succeeded(local.deploy_sh("--propagation=1"))  # verify waits until the bindings take effect
    succeeded(local.deploy_sh("--propagation=600"))
    address, token = url(local, "closed"), local.gcloud("auth print-identity-token").stdout.strip()
    headers = {"Authorization": f"Bearer {token}"}
    local.set_policy("closed", "user:you@example.com")
    assert requests.get(address, headers=headers, timeout=20).status_code == 403
    succeeded(local.deploy_sh("--propagation=0"))
    local.set_policy("closed", "user:you@example.com")
    assert requests.get(address, headers=headers, timeout=20).status_code == 200
    for words in (["--propagation=soon"], ["verify", "--propagation=2"]):
        assert local.deploy_sh(*words).returncode == 2


# ---- several at once


def test_deploys_at_the_same_time_end_well_and_each_as_it_was_told(local, tmp_path):
    """Two deploys of one folder, and a public one of another."""
    succeeded(run(str(ROOT / "tool/python/venv")))
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
