"""--watch deploys any file that is saved, in the same way as a deploy."""

import json
import os
import re
import shutil
import signal
import subprocess

import pytest
import requests

from local_toy import Local, merged, start, url
from recorded_cloud import TOY
from tool.deploy import watch

pytestmark = pytest.mark.xdist_group("test_watch")
CODE = "def {}(request):\n    return {!r}\n"


class Watched(Local):
    """The toy app while it is watched."""

    def until(self, pattern):
        """The output up to a line that matches, from both streams, as a terminal shows it."""
        said = ""
        for line in self.stream:
            said += line
            if re.search(pattern, line):
                return said
        pytest.fail(f"it ended: {said}")

    def save(self, name, content):
        """Saves in one step, as most editors do. A half-written file would count as another save."""
        file = self.app / name
        new = file.with_name(f".{file.name}.new")
        new.write_text(content)
        new.replace(file)

    def answer(self, name="front", token=True):
        you = self.gcloud("auth print-identity-token").stdout.strip()
        headers = {"Authorization": f"Bearer {you}"} if token else {}
        return requests.get(url(self, name), headers=headers, timeout=20)


@pytest.fixture(scope="module")
def watched(tmp_path_factory):
    """Deployed and watched once, with one file that is a link. Each test undoes what it saved."""
    local = Watched(shutil.copytree(TOY, tmp_path_factory.mktemp("app") / "a toy"))
    subprocess.run(["git", "init", "--quiet"], cwd=local.app, check=True)
    local.save("functions/front/main.py", CODE.format("front", "first"))
    (local.app / "elsewhere").mkdir()
    local.save("elsewhere/word.txt", "a")
    (local.app / "functions/back/word.txt").symlink_to("../../elsewhere/word.txt")
    watching = start(local, "--watch")
    with merged(watching) as local.stream:
        local.until("Watching")
        yield local
        watching.send_signal(signal.SIGINT)
        assert watching.wait(30) == 0
    assert local.answer().status_code == 200  # watching ends, but the functions keep running
    local.end()


def test_a_saved_change_answers_and_a_broken_one_leaves_the_last_good_revision(watched):
    main = "functions/front/main.py"
    watched.save(main, CODE.format("front", "second"))
    watched.until("front is deployed")
    assert watched.answer().text == "second"
    watched.save(main, "def front(request)\n")
    assert "front: main.py line 1: " in watched.until("front is not deployed")
    assert watched.answer().text == "second"
    watched.save(main, CODE.format("front", "second"))
    watched.until("front is as it was")
    # Vim saves into another file and then renames it.
    watched.save("functions/front/4913", "")
    (watched.app / "functions/front/4913").unlink()
    watched.save("functions/front/main.py~", CODE.format("front", "third"))
    (watched.app / "functions/front/main.py~").rename(watched.app / main)
    watched.until("front is deployed")
    assert watched.answer().text == "third"


def test_saved_flags_are_deployed_and_wrong_ones_are_named(watched):
    flags = "functions/front/flags"
    before = (watched.app / flags).read_text()
    watched.save(flags, f"{before}--concurrency=7\n")
    watched.until("front is deployed")
    shown = watched.gcloud("run services describe front --region=us-central1 --format=json").stdout
    assert '"containerConcurrency": 7' in shown
    watched.save(flags, f"{before}--concurrency 7\n")
    watched.until("write --concurrency=VALUE, in one word")
    watched.save(flags, f"{before}--concurrency=7\n")
    watched.until("front is as it was")
    watched.save(flags, before)
    watched.until("front is deployed")
    watched.until("Every call that could be made was answered as the map says")


def test_saved_variables_are_checked_as_a_deploy_checks_them(watched):
    variables = "functions/front/variables"
    watched.save(variables, "STORE=elsewhere\n")
    watched.until("STORE is set by Cloud Run or by deploy.sh")
    watched.save(variables, "MINE=1\n")
    watched.until("front is deployed")
    (watched.app / variables).unlink()
    watched.until("front is deployed")
    watched.until("Every call that could be made was answered as the map says")


def test_a_saved_map_is_deployed_and_measured(watched):
    trust_map = watched.app / "trust-map"
    before = trust_map.read_text()
    watched.save("trust-map", before.replace("closed   -", "closed   anonymous"))
    said = watched.until("Every call that could be made was answered as the map says")
    assert re.search("closed +200 ok|anonymous +403 ok +403 ok +200 ok", said)
    assert watched.answer("closed", token=False).status_code == 200
    watched.save("trust-map", before.replace("closed", "closd"))
    watched.until("trust-map cannot be used|no functions/closd")
    assert watched.answer("closed", token=False).status_code == 200
    watched.save("trust-map", before)
    watched.until("closed: removed allUsers")
    watched.until("Every call that could be made was answered as the map says")
    assert watched.answer("closed", token=False).status_code == 403


def test_a_saved_environment_is_deployed(watched):
    (watched.app / "environments").mkdir(exist_ok=True)
    watched.save("functions/front/variables", "MINE=$MINE\n")
    watched.until("front/variables: MINE=.MINE, but MINE is not set")
    watched.save("environments/local", "MINE=1\n")
    watched.until("front is deployed")
    watched.until("Every call that could be made was answered as the map says")
    (watched.app / "functions/front/variables").unlink()
    watched.until("front is deployed")
    watched.until("Every call that could be made was answered as the map says")


@pytest.mark.parametrize("line", ["PREFIX=dev-", "PROJECT=other", "REGION=asia-east1"])
def test_what_a_running_project_cannot_follow_is_said(watched, line):
    (watched.app / "environments").mkdir(exist_ok=True)
    before = file.read_text() if (file := watched.app / "environments/local").exists() else ""
    watched.save("environments/local", f"{before}{line}\n")
    watched.until(f"{line.partition('=')[0]} has changed. Stop watching with Ctrl-C, and deploy again")
    watched.save("environments/local", before)
    watched.until("nothing has changed")


def test_a_saved_secret_makes_a_new_revision(watched):
    flags = (watched.app / "functions/front/flags").read_text()
    (watched.app / "environments").mkdir(exist_ok=True)
    watched.save("environments/local", "MINE=1\nsecret token=first\n")
    watched.save("functions/front/flags", f"{flags}\n--set-secrets=TOKEN=token:latest\n")
    watched.until("front is deployed")
    watched.until("Every call that could be made was answered as the map says")
    watched.save("environments/local", "MINE=1\nsecret token=second\n")
    watched.until("front: there is a new value of token, so a new revision starts")
    watched.until("front is deployed")
    watched.until("Every call that could be made was answered as the map says")
    (watched.app / ".secrets").mkdir()
    watched.save(".secrets/token", "third, of one's own")
    watched.until("front: there is a new value of token, so a new revision starts")
    watched.until("Every call that could be made was answered as the map says")
    watched.save("environments/local", "MINE=1\n")
    watched.until("Every call that could be made was answered as the map says")
    (watched.app / ".secrets/token").unlink()
    watched.until("the secret token has no value on this machine")
    watched.save("environments/local", "MINE=1\nsecret token=second\n")
    watched.until("Every call that could be made was answered as the map says")
    watched.save("functions/front/flags", flags)
    watched.until("front is deployed")
    watched.until("Every call that could be made was answered as the map says")


def test_saved_requirements_without_their_lock_are_named(watched):
    watched.save("functions/front/requirements.in", "iniconfig\n")
    watched.until("functions/front/requirements.txt is not the lock of functions/front/requirements.in")
    (watched.app / "functions/front/requirements.in").unlink()
    requirements = (watched.app / "requirements.txt").read_text()
    watched.save("requirements.txt", f"{requirements}# checksum 1\n")
    for _ in range(3):
        watched.until("is deployed")
    watched.save("requirements.in", "functions-framework\n")
    watched.until(" requirements.txt is not the lock of requirements.in")
    (watched.app / "requirements.in").unlink()
    watched.save("requirements.txt", requirements)
    for _ in range(3):
        watched.until("is deployed")


def test_what_all_functions_are_made_of_deploys_all(watched):
    requirements = (watched.app / "requirements.txt").read_text()
    watched.save("requirements.txt", f"{requirements}# a word\n")
    for _ in range(3):
        watched.until("is deployed")
    (watched.app / "shared").mkdir()
    watched.save("shared/word.py", "WORD = 1\n")
    for _ in range(3):
        watched.until("is deployed")


def test_the_target_of_a_linked_file_counts_and_the_app_s_other_files_do_not(watched):
    watched.save("elsewhere/another.txt", "x")
    watched.save("elsewhere/word.txt", "b")
    said = watched.until("back is deployed")
    assert "front is" not in said


EDITORS = ("#main.py#", ".#main.py", "4913", "main.py___jb_tmp___", "main.py___jb_old___", ".main.py.swp", "main.py~")


def test_what_editors_leave_is_no_change_and_is_not_deployed(watched):
    folder = watched.app / "functions/front"
    for name in EDITORS:
        (folder / name).write_bytes(b"\0\xff")
    os.unlink(folder / ".#main.py")
    (folder / ".#main.py").symlink_to("you@host.1234:567")  # the form of a lock in Emacs
    try:
        watched.save("functions/closed/main.py", CODE.format("closed", "anew"))
        assert "front is" not in watched.until("closed is deployed")
        watched.save("functions/front/main.py", CODE.format("front", "last"))
        watched.until("front is deployed")
        revision = next((watched.state / "revisions").glob(f"{serving(watched)}/"))
        assert not {path.name for path in revision.iterdir()} & set(EDITORS)
    finally:
        for name in EDITORS:
            (folder / name).unlink()


def serving(local):
    service = json.loads((local.state / "services/front.json").read_text())
    return service["serving"]["revision"]


def test_nothing_of_the_system_is_needed_to_see_a_save(tmp_path, monkeypatch):
    """No watches are used: they can run out, and network folders do not report changes."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "functions/x/.venv").mkdir(parents=True)
    (tmp_path / "functions/x/venv").mkdir()
    (tmp_path / "functions/x/venv/pyvenv.cfg").touch()
    before = watch.seen()
    for name in ("functions/x/main.py", "functions/x/venv/x.py", "functions/x/.venv/x.py", "other"):
        (tmp_path / name).write_text("x")
    (tmp_path / "functions/x/nothing").symlink_to("nowhere")
    assert [str(path) for path in watch.changed(before, watch.seen())] == ["functions/x/main.py"]
    before = watch.seen()
    (tmp_path / "functions/x/main.py").unlink()
    assert [str(path) for path in watch.changed(before, watch.seen())] == ["functions/x/main.py"]
