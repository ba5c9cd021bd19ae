"""deploy.sh as a person uses it: again, after a reboot, beside another one, and wrongly."""

import fcntl
import json
import os
import shutil
import signal
import socket

import pytest
import requests
from local.testing import FUNCTIONS, ROOT, run
from names import LOGIN, SEARCH


def processes_of(project):
    """The ids of the local project's processes, by the files that they hold locked."""
    return {file: int(file.read_text()) for file in (project.state / "run").iterdir()}


def alive(pid):
    state = run("ps", "-o", "stat=", "-p", str(pid)).stdout.strip()
    return bool(state) and not state.startswith("Z")  # a zombie has ended, and waits for init


def test_two_clones_run_side_by_side_and_destroy_leaves_nothing_of_one(project, clone):
    clone.state.mkdir()
    (clone.state / "key.pem").write_text("half a key")  # a start that was cut short
    assert clone.deploy_sh().returncode == 0
    clone.enter()
    assert clone.request("OPTIONS", LOGIN).status_code == 200
    assert project.request("OPTIONS", LOGIN).status_code == 200
    # Neither accepts what the clone one signed.
    headers = {"Authorization": f"Bearer {clone.token('you', None)}"}
    assert requests.options(project.url(LOGIN), headers=headers, timeout=20).status_code == 401

    pids = processes_of(clone).values()
    assert len(pids) == len(FUNCTIONS) + 1
    destroyed = clone.deploy_sh("destroy")
    assert destroyed.returncode == 0, destroyed.stderr
    assert not any(alive(pid) for pid in pids)
    assert not clone.state.exists()
    again = clone.deploy_sh("destroy")
    assert (again.returncode, again.stdout) == (0, "There is no local project.\n")
    assert project.request("OPTIONS", LOGIN).status_code == 200


def test_a_project_whose_processes_died_comes_back_with_its_data(clone):
    assert clone.deploy_sh().returncode == 0
    clone.enter()
    account = {"username": "grace", "password": "long enough", "display_name": "Grace"}
    assert clone.request("POST", LOGIN, "/signup", json=account).status_code == 201
    for file, pid in processes_of(clone).items():
        os.killpg(pid, signal.SIGKILL)
        with file.open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # free as soon as the last of them has ended
    old = clone.env["LOGIN_URL"].rpartition(":")[2]
    assert clone.deploy_sh("verify").returncode == 1
    with socket.create_server(("127.0.0.1", int(old))):  # and somebody took a port meanwhile
        deployed = clone.deploy_sh()
        assert deployed.returncode == 0, deployed.stdout + deployed.stderr
    clone.enter()
    assert clone.request("POST", LOGIN, json=account).status_code == 200


def test_the_state_is_private(project):
    assert project.state.stat().st_mode & 0o777 == 0o700
    assert (project.state / "key.pem").stat().st_mode & 0o777 == 0o600


def test_a_folder_of_somebody_else_is_neither_used_nor_removed(tmp_path):
    (tmp_path / "precious").write_text("mine")
    env = {**os.environ, "LOCAL_STATE": str(tmp_path)}
    for verb in ("deploy", "destroy"):
        result = run(str(ROOT / "deploy.sh"), verb, "--local", env=env)
        assert result.returncode == 1
        assert "holds precious, which is not the local project's" in result.stderr
    assert (tmp_path / "precious").read_text() == "mine"


def test_a_function_that_does_not_start_is_named_with_its_log(clone):
    main = clone.root / "functions" / "search" / "main.py"
    main.write_text("import no_such_module\n")
    failed = clone.deploy_sh()
    assert failed.returncode == 1
    assert "Container Healthcheck failed: search did not start. Its log:" in failed.stderr
    assert "login is deployed." in failed.stdout and "user-profiles is deployed." in failed.stdout
    main.write_text("def search(:\n")
    failed = clone.deploy_sh()
    assert failed.returncode == 1
    assert "Build failed: a syntax error in search" in failed.stderr


def test_what_is_deployed_is_the_staged_folder_only(project):
    revisions = list((project.state / "revisions").glob("search-*"))
    assert len(revisions) == 1
    names = {str(p.relative_to(revisions[0])) for p in revisions[0].rglob("*") if p.is_file()}
    names = {name for name in names if "__pycache__" not in name}
    shared = {f"shared/{p.name}" for p in (ROOT / "shared").glob("*.py")}
    assert names == {"main.py", "articles.json", "requirements.txt", *shared}


def test_the_shell_gets_what_the_readme_needs(project):
    exported = project.deploy_sh("env").stdout
    for name in ("LOGIN", "USER_PROFILES", "SEARCH"):
        assert f"export {name}_URL='http://127.0.0.1:" in exported
        assert f"export {name}_METADATA_HOST='127.0.0.1:" in exported
    assert "export PROJECT_ID='local-project'\nexport REGION='us-east1'\n" in exported
    assert shutil.which("gcloud", path=project.env["PATH"]) == str(
        ROOT / "local" / "bin" / "gcloud"
    )


def test_gcloud_shows_what_it_shows_in_the_cloud(project, open_door):
    policy = project.gcloud("run services get-iam-policy search --region=$REGION")
    assert policy.startswith(
        "bindings:\n- members:\n"
        "  - serviceAccount:login@local-project.iam.gserviceaccount.com\n"
        "  role: roles/run.invoker\netag: "
    )
    as_json = project.gcloud("run services get-iam-policy search --region=$REGION --format=json")
    assert json.loads(as_json)["bindings"][0]["role"] == "roles/run.invoker"
    listed = project.gcloud("run services list").splitlines()
    assert listed[0].split() == "SERVICE REGION URL LAST DEPLOYED BY LAST DEPLOYED AT".split()
    assert [line.split()[1] for line in listed[1:]] == sorted(FUNCTIONS)
    project.request("OPTIONS", SEARCH, caller=None)
    newest = project.gcloud("functions logs read search").splitlines()[1]
    assert newest.startswith("W      search") and "Empty Authorization header value." in newest


@pytest.mark.parametrize(
    "line, status, message",
    [
        ("foo bar", 2, "does not know: gcloud foo bar"),
        ("run services delete login --region=$REGION", 2, "does not know"),
        ("run services list --unknown", 2, "unrecognized arguments: --unknown"),
        ("run services get-iam-policy search", 2, "--region"),
        ("run services get-iam-policy search --region=mars", 1, "no region but us-east1"),
        ("run services get-iam-policy clone --region=$REGION", 1, "Cannot find service [clone]"),
        ("run services get-iam-policy ../project --region=$REGION", 1, "Cannot find service"),
        ("projects describe clone", 1, "does not have permission to access"),
        ("run services list --project=clone", 1, "is not the local project"),
        (
            "run services add-iam-policy-binding search --region=$REGION --role=roles/run.invoker"
            " --member=serviceAccount:nobody@example.com",
            1,
            "Service account nobody@example.com does not exist.",
        ),
        (
            "run services remove-iam-policy-binding search --region=$REGION"
            " --role=roles/run.invoker --member=allUsers",
            1,
            "not found",
        ),
    ],
)
def test_a_gcloud_command_that_makes_no_sense_is_refused(project, line, status, message):
    result = project.gcloud(line, check=False)
    assert result.returncode == status
    assert message in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    "words, message",
    [
        (["deplyo"], "unknown verb: deplyo (./deploy.sh help lists them)"),
        (["--locally"], "unknown option: --locally (./deploy.sh help lists them)"),
        (["--project="], "unknown option: --project="),
        (["verify", "env"], "one verb at a time, not verify and env"),
    ],
)
def test_wrong_words_are_answered_in_one_line(words, message):
    result = run(str(ROOT / "deploy.sh"), *words)
    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr.startswith(f"deploy.sh: {message}") and result.stderr.count("\n") == 1


@pytest.mark.parametrize("verb", ["env", "verify"])
def test_before_a_deploy_there_is_nothing_to_look_at(verb, tmp_path):
    env = {**os.environ, "LOCAL_STATE": str(tmp_path / "state")}
    result = run(str(ROOT / "deploy.sh"), verb, "--local", env=env)
    assert result.returncode == 1
    assert result.stdout == ""
    assert "nothing is deployed on this machine yet: run ./deploy.sh --local" in result.stderr


@pytest.mark.parametrize(
    "fake, message",
    [
        ('echo "Python 3.9.1"; exit 1', "Python 3.10 or newer is needed; "),
        ('case "$*" in *venv*) exit 1;; esac', '-m venv" does not work here'),
    ],
)
def test_a_python_that_will_not_do_is_named_in_one_line(tmp_path, fake, message):
    clone = tmp_path / "clone"
    (clone / "local").mkdir(parents=True)
    shutil.copy(ROOT / "deploy.sh", clone)
    for folder in ("deploy", "functions"):
        shutil.copytree(ROOT / folder, clone / folder)
    shutil.copy(ROOT / "local" / "venv", clone / "local")
    python = tmp_path / "python3"
    python.write_text(f"#!/bin/sh\n{fake}\n")
    python.chmod(0o755)
    env = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHON": ""}
    result = run(str(clone / "deploy.sh"), "--local", env=env)
    assert result.returncode == 1
    assert message in result.stderr and result.stderr.count("\n") == 1
    assert not (clone / ".venv").exists()


def test_help_names_every_verb_and_option():
    shown = run(str(ROOT / "deploy.sh"), "help").stdout
    for word in ("verify", "env", "destroy", "--local", "--project=", "--region=", "--dry-run"):
        assert word in shown


@pytest.mark.skipif(not shutil.which("shellcheck"), reason="left out: shellcheck is not installed")
def test_shellcheck_finds_nothing():
    scripts = ["deploy.sh", "local/venv", "local/bin/gcloud", "tests/run", ".ci/run"]
    result = run("shellcheck", "-x", *scripts)
    assert result.returncode == 0, result.stdout
