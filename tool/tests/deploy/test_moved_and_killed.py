"""The local project after somebody moved its folder, removed it, or killed its processes."""

import contextlib
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import time

import pytest
import requests

from local_toy import Local, url
from recorded_cloud import TOY
from tool.testing import run, succeeded

pytestmark = pytest.mark.xdist_group("test_moved_and_killed")


@pytest.fixture(scope="module")
def deployed(tmp_path_factory):
    """Deployed once; each test leaves it running in its place, even if it moved it for a while."""
    local = Local(shutil.copytree(TOY, tmp_path_factory.mktemp("app") / "the app"))
    try:
        succeeded(local.deploy_sh())
        yield local
    finally:
        local.end()


def running(state):
    """The ids of the processes that the files of a local project name, and of their children."""
    found = [int(file.read_text().split()[0]) for file in (state / "run").iterdir()]
    return found + [int(pid) for one in found for pid in children(one)]


def children(pid):
    mine = run("pgrep", "-P", str(pid)).stdout.split()
    return mine + [below for one in mine for below in children(one)]


def is_alive(pid):
    """A zombie counts as ended, because nobody waits for it here."""
    state = run("ps", "-o", "stat=", "-p", str(pid)).stdout.strip()
    return bool(state) and not state.startswith("Z")


def have_ended(pids):
    end = time.monotonic() + 30
    while left := [pid for pid in pids if is_alive(pid)]:
        assert time.monotonic() < end, left
        time.sleep(0.05)


RIGHT = "Every call that could be made was answered as the map says."


def test_what_runs_ends_when_its_folder_is_removed(tmp_path):
    local = Local(shutil.copytree(TOY, tmp_path / "removed"))
    try:
        succeeded(local.deploy_sh())
        pids = running(local.state)
        assert len(pids) >= 10
        shutil.rmtree(local.app)
        have_ended(pids)
        shutil.copytree(TOY, local.app)  # another clone at the same path
        assert RIGHT in succeeded(local.deploy_sh()).stdout
    finally:
        local.end()


def test_a_clone_that_was_moved_is_found_and_put_right(deployed, tmp_path):
    here, there = deployed.app, tmp_path / "moved here"
    pids = running(deployed.state)
    shutil.move(here, there)
    moved = Local(there)
    try:
        found = moved.deploy_sh("verify")
        assert found.returncode in (1, 3) and RIGHT not in found.stdout, found.stdout
        said = succeeded(moved.deploy_sh())
        assert RIGHT in said.stdout and "? " not in said.stdout.partition("(ok:")[2]
        have_ended(pids)
        second = Local(shutil.copytree(TOY, here))  # another one at its former path
        try:
            assert RIGHT in succeeded(second.deploy_sh()).stdout
            assert RIGHT in succeeded(moved.deploy_sh("verify")).stdout
        finally:
            succeeded(second.deploy_sh("destroy", "--quiet"))
            shutil.rmtree(here)
    finally:
        shutil.move(there, here)
    assert RIGHT in succeeded(deployed.deploy_sh()).stdout


def test_what_could_not_be_measured_is_not_called_as_the_map_says(deployed):
    """The calls end before they are answered, and everything else looks right."""
    (deployed.state / "addresses").rename(deployed.state / "addresses.new")
    try:
        found = deployed.deploy_sh("verify")
        assert found.returncode == 3 and "no answer came" in found.stderr
        assert RIGHT not in found.stdout
    finally:
        (deployed.state / "addresses.new").rename(deployed.state / "addresses")


def serving(local, name):
    service = json.loads((local.state / "services" / f"{name}.json").read_text())
    return service["serving"]["revision"]


def killed(pid):
    os.kill(pid, signal.SIGKILL)
    have_ended([pid])


@pytest.mark.parametrize("which", ["the keeper", "the master", "the worker", "the servers"])
def test_what_was_killed_is_put_right_by_the_next_deploy(deployed, which):
    keeper = int((deployed.state / "run" / serving(deployed, "front")).read_text().split()[0])
    master = int(run("pgrep", "-P", str(keeper)).stdout.split()[0])
    worker = int(run("pgrep", "-P", str(master)).stdout.split()[0])
    servers = int((deployed.state / "run" / "servers").read_text().split()[0])
    killed({"the keeper": keeper, "the master": master, "the worker": worker, "the servers": servers}[which])
    if which == "the master":
        have_ended([worker, keeper])
    if which in ("the keeper", "the master"):
        found = deployed.deploy_sh("verify")
        assert found.returncode == 1 and "is not ready" in found.stdout
    said = succeeded(deployed.deploy_sh())
    assert RIGHT in said.stdout
    restarted = "front was no longer running, and was started again" in said.stdout + said.stderr
    assert restarted == (which in ("the keeper", "the master"))
    assert len(running(deployed.state)) >= 10


def test_a_state_of_another_version_is_taken_or_named(deployed):
    for file in (deployed.state / "run").iterdir():
        file.write_text(file.read_text().split()[0])  # as an older version wrote it
    for file in (deployed.state / "locks").glob("keeper.*"):
        file.unlink()
    service = deployed.state / "services" / "front.json"
    service.write_text(json.dumps({**json.loads(service.read_text()), "of_a_newer_one": [1]}))
    assert RIGHT in succeeded(deployed.deploy_sh()).stdout
    (deployed.state / "of-a-newer-one").touch()
    try:
        refused = deployed.deploy_sh()
        assert refused.returncode == 1 and "of-a-newer-one" in refused.stderr
    finally:
        (deployed.state / "of-a-newer-one").unlink()


def test_a_new_value_of_a_secret_arrives_with_the_next_deploy(deployed):
    main, flags = deployed.app / "functions/back/main.py", deployed.app / "functions/back/flags"
    before, secret = main.read_text(), deployed.app / ".secrets" / "a-key"
    main.write_text("import os\ndef back(request):\n    return os.environb[b'KEY'].hex()\n")
    flags.write_text("--set-secrets=KEY=a-key:latest\n")
    secret.parent.mkdir(exist_ok=True)
    try:
        secret.write_bytes(b"one\n")
        succeeded(deployed.deploy_sh())
        assert value_of(deployed) == b"one\n"
        assert "back is unchanged" in succeeded(deployed.deploy_sh()).stdout
        secret.write_bytes(b"\xff two")
        said = succeeded(deployed.deploy_sh()).stdout
        assert "back: there is a new value of a-key, so a new revision starts" in said
        assert value_of(deployed) == b"\xff two"
        succeeded(deployed.gcloud("secrets versions add a-key --data-file=- <<< three"))
        succeeded(deployed.deploy_sh())
        assert value_of(deployed) == b"three\n"
    finally:
        main.write_text(before)
        flags.unlink()
        succeeded(deployed.deploy_sh())


def value_of(local):
    return bytes.fromhex(call(local, "back").text)


# ---- what a developer sees


def test_an_error_names_the_files_that_one_edits(deployed):
    back = deployed.app / "functions/back"
    before = (back / "main.py").read_text()
    (deployed.app / "shared").mkdir()
    (deployed.app / "shared/inner.py").write_text("def broken():\n    raise ValueError('of shared')\n")
    try:
        (back / "main.py").write_text("\nimport no_such_package\n")
        said = deployed.deploy_sh().stderr
        assert "main.py line 2: ModuleNotFoundError: No module named 'no_such_package'" in said
        hint = "If no_such_package is a package, write its name into functions/back/requirements.in, and run ./deploy.sh lock"
        assert hint in said
        log = re.search(r"Its log: (.+)", said)[1]
        text = pathlib.Path(log).read_text()
        assert f'File "{back}/main.py", line 2, in <module>\n' in text and '"message"' not in text

        (back / "main.py").write_text("import shared.inner\nshared.inner.broken()\n")
        said = deployed.deploy_sh().stderr
        assert "shared/inner.py line 2: ValueError: of shared" in said

        (back / "main.py").write_text("import shared.inner\n\ndef back(request):\n    return shared.inner.broken() if request.method == 'GET' else ''\n")
        succeeded(deployed.deploy_sh())
        end = time.monotonic() + 20
        while ", line 4, in back" not in (read := deployed.gcloud("run services logs read back").stdout):
            assert time.monotonic() < end, read
            call(deployed, "back")
        assert f'File "{back}/main.py", line 4, in back' in read
        assert f'File "{deployed.app}/shared/inner.py", line 2, in broken' in read
    finally:
        (back / "main.py").write_text(before)
        shutil.rmtree(deployed.app / "shared")
        succeeded(deployed.deploy_sh())


@contextlib.contextmanager
def in_a_terminal(local, name):
    """A process of "run NAME" whose output can be read."""
    words = local.command("run", name)
    process = subprocess.Popen(words, env=local.env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        yield process
    finally:
        process.terminate()
        process.communicate(timeout=60)


def until(process, text):
    said = ""
    for line in process.stdout:
        said += line
        if text in line:
            return said
    raise AssertionError(f"it ended: {said}")


def test_what_is_saved_is_run_in_this_terminal_from_the_files_that_one_edits(deployed):
    main = deployed.app / "functions/back/main.py"
    before = main.read_text()
    main.write_text("def back(request):\n    return __file__\n")
    try:
        with in_a_terminal(deployed, "back") as process:
            said = until(process, "back runs here")
            assert "back: the saved files are newer than what runs, and are deployed first" in said
            assert call(deployed, "back").text == str(main)
        assert call(deployed, "back").text != str(main)
        with in_a_terminal(deployed, "back") as process:
            assert "newer" not in until(process, "back runs here")
        main.write_text("def back(request)\n")
        refused = deployed.deploy_sh("run", "back")
        assert refused.returncode == 1 and "back: main.py line 1" in refused.stderr
    finally:
        main.write_text(before)
        succeeded(deployed.deploy_sh())


def test_run_in_a_fresh_clone_deploys_first(tmp_path):
    local = Local(shutil.copytree(TOY, tmp_path / "fresh"))
    refused = local.deploy_sh("run", "frnt")
    assert refused.returncode == 2 and "there is no function frnt" in refused.stderr
    assert refused.stderr.endswith("Did you mean front?\n")
    try:
        with in_a_terminal(local, "front") as process:
            assert "Deploying everything first" in until(process, "front runs here")
    finally:
        local.end()


def call(local, name):
    front = "--impersonate-service-account=front-sa@local-project.iam.gserviceaccount.com"
    token = local.gcloud(f"auth print-identity-token {front} --include-email").stdout.strip()
    return requests.get(url(local, name), headers={"Authorization": f"Bearer {token}"}, timeout=20)
