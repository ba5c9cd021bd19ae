"""The local project as a whole: started again, beside another one, and ended."""

import fcntl
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from tool.local.runtime import ports
from tool.testing import ROOT, run, succeeded
from toys import Local, call

GOOD = "def entry(request):\n    return 'good'\n"


def pids(local):
    return {file: int(file.read_text().split()[0]) for file in (local.state / "run").iterdir()}


def alive(pid):
    state = run("ps", "-o", "stat=", "-p", str(pid)).stdout.strip()
    return bool(state) and not state.startswith("Z")  # a zombie has ended, and only waits for init


def deployed(local, *names):
    local.up(*names)
    for name in names:
        succeeded(local.deploy(name, GOOD, entry="entry"))
        local.let_in("allUsers", name)


@pytest.fixture(scope="module")
def second(tmp_path_factory):
    """A second local project with one function, which everybody may call."""
    second = Local(tmp_path_factory.mktemp("second"))
    try:
        deployed(second, "inner")
        yield second
    finally:
        second.end()


def test_two_projects_run_side_by_side_and_down_leaves_nothing_of_one(local, inner, token, other):
    deployed(other, "inner")
    # Neither accepts tokens that the other one signed.
    other.put_out("allUsers", "inner")
    assert call(other.url("inner"), token).status_code == 401
    running = pids(other).values()
    assert len(running) == 2
    succeeded(other.tool("down"))
    assert not any(alive(pid) for pid in running)
    assert not other.state.exists()
    assert succeeded(other.tool("down")).stdout == ""
    assert call(inner, token).status_code == 200


def test_after_down_a_clone_has_the_same_ports_again(other):
    other.up("inner", "outer")
    before = other.addresses()
    succeeded(other.tool("down"))
    other.up("inner", "outer")
    assert other.addresses() == before
    # If somebody else uses one of them now, it gets another one.
    succeeded(other.tool("down"))
    taken = int(before["inner"][0].rpartition(":")[2])
    with socket.create_server(("127.0.0.1", taken)):
        other.up("inner", "outer")
        assert other.addresses()["inner"][0] != before["inner"][0]
        assert other.addresses()["outer"] == before["outer"]


def test_a_port_that_another_process_is_about_to_use_is_not_taken():
    code = "from tool.local.runtime import ports; print(ports.set_aside('a name', set()), flush=True); input()"
    command, pipes = [sys.executable, "-c", code], {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with (
        subprocess.Popen(command, cwd=ROOT, text=True, **pipes) as one,
        subprocess.Popen(command, cwd=ROOT, text=True, **pipes) as other,
    ):
        assert one.stdout.readline() != other.stdout.readline()
        one.communicate("\n")
        other.communicate("\n")


def test_up_again_changes_nothing_and_takes_in_new_names(second):
    before, running = second.addresses(), pids(second)
    second.up("inner")
    second.up("inner", "another")
    assert pids(second) == running
    assert second.addresses()["inner"] == before["inner"]
    assert call(second.url("another")).status_code == 404  # the port is open, but nothing is deployed there
    assert call(second.url("inner")).text == "good"


def test_two_at_once_bring_up_one_project(other):
    with ThreadPoolExecutor() as pool:
        done = list(
            pool.map(lambda _: other.tool("up", "local-project", "us-central1", "inner"), "12")
        )
    for result in done:
        succeeded(result)
    assert len(pids(other)) == 1


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGQUIT, signal.SIGINT])
def test_what_died_or_is_just_dying_comes_back(second, number):
    for pid in pids(second).values():
        os.kill(pid, number) if number != signal.SIGKILL else os.killpg(pid, number)
    second.up("inner")
    assert call(second.url("inner")).text == "good"


def test_a_function_whose_server_was_told_to_end_comes_back(second):
    """After kill -TERM, functions-framework itself first finishes the calls in progress."""
    [pid] = [pid for file, pid in pids(second).items() if file.name != "servers"]
    server = int(run("pgrep", "-P", str(pid)).stdout.split()[0])
    port = json.loads((second.state / "services" / "inner.json").read_text())["serving"]["port"]
    os.kill(server, signal.SIGTERM)
    end = time.monotonic() + 30
    while ports.answers(port):  # until then, nothing shows that it is ending
        assert time.monotonic() < end
        time.sleep(0.01)
    second.up("inner")
    assert call(second.url("inner")).text == "good"


def test_after_a_reboot_all_comes_back_where_it_was(second):
    before = second.addresses()
    for file, pid in pids(second).items():
        os.killpg(pid, signal.SIGKILL)
        with file.open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # the lock is released when the last of them has ended
    second.up("inner")
    assert second.addresses() == before
    assert call(second.url("inner")).text == "good"


def test_a_project_that_was_copied_while_it_runs_is_another_one(second, tmp_path):
    copy = Local(tmp_path / "copy")
    shutil.copytree(second.state, copy.state, symlinks=True)
    try:
        copy.up("inner")
        assert copy.url("inner") != second.url("inner")
        assert call(copy.url("inner")).text == "good"
        copy.put_out("allUsers", "inner")
        assert call(copy.url("inner")).status_code == 403
        succeeded(copy.tool("down"))
        assert call(second.url("inner")).text == "good"
    finally:
        copy.end()


def test_the_state_is_private(local):
    assert local.state.stat().st_mode & 0o777 == 0o700
    assert (local.state / "key.json").stat().st_mode & 0o777 == 0o600


def test_a_folder_of_somebody_else_is_neither_used_nor_removed(other):
    other.state.mkdir()
    (other.state / "precious").write_text("mine")
    for words in (("up", "local-project", "us-central1", "inner"), ("down",)):
        result = other.tool(*words)
        assert result.returncode == 1
        assert "contains precious, which is not the local project's" in result.stderr
    assert (other.state / "precious").read_text() == "mine"


def test_a_start_that_was_cut_short_does_no_harm(other):
    other.state.mkdir()
    (other.state / "key.json").write_text("half a key")
    deployed(other, "inner")
    assert call(other.url("inner")).text == "good"


def test_a_project_of_an_earlier_version_has_to_end(other):
    other.up("inner")
    (other.state / "key.json").rename(other.state / "key.pem")
    result = other.tool("up", "local-project", "us-central1", "inner")
    assert result.returncode == 1
    assert "an earlier version made the local project; destroy it first" in result.stderr
    succeeded(other.tool("down"))
    assert not other.state.exists()


def test_another_project_id_needs_another_project(other):
    other.up("inner")
    result = other.tool("up", "elsewhere", "us-central1", "inner")
    assert result.returncode == 1
    assert "the local project is --project=local-project --region=us-central1" in result.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="left out: needs /proc")
def test_everything_listens_on_loopback_only(local):
    ports = {
        int(address.rpartition(":")[2]) for pair in local.addresses().values() for address in pair
    }
    ports.add(int(local.token_url().rpartition(":")[2]))
    for file in (local.state / "services").glob("*.json"):
        service = json.loads(file.read_text())
        ports |= {service["serving"]["port"]} if "serving" in service else set()
    listening = []
    for table in ("tcp", "tcp6"):
        for line in pathlib.Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            address, _, port = line.split()[1].partition(":")
            if line.split()[3] == "0A" and int(port, 16) in ports:
                listening.append(address)
    assert listening == ["0100007F"] * len(ports)  # 127.0.0.1, its bytes reversed


def test_no_secret_is_in_a_log(local, inner, token):
    requests.get(inner, headers={"Authorization": f"Bearer {token}"}, timeout=20)
    requests.get(inner, headers={"Authorization": f"Bearer x{token}"}, timeout=20)
    files = [*(local.state / "logs").iterdir(), local.state / "audit.log"]
    for file in files:
        text = file.read_text()
        assert "PRIVATE KEY" not in text and "eyJ" not in text, file
