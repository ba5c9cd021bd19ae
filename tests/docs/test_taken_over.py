"""A deploy takes over what the bash edition deployed: it makes nothing twice, and loses nothing."""

import json
import re
import shutil

import pytest

from editions import BASH, edition
from local_toy import Local
from recorded_cloud import NAMES, TOY, Cloud
from tool.testing import run, succeeded


@pytest.fixture(scope="module")
def old_edition(tmp_path_factory):
    """A folder with that edition, which uses the packages of this clone."""
    folder = edition(BASH, tmp_path_factory.mktemp("old") / "edition")
    if not folder:
        pytest.skip(f"left out: this repository does not have the commit {BASH}")
    return folder


def test_in_the_cloud_nothing_is_made_anew(tmp_path, old_edition):
    app = shutil.copytree(TOY, tmp_path / "toy")
    (tmp_path / "cloud").mkdir()
    cloud = Cloud(tmp_path / "cloud", app)
    words = (f"--app={cloud.app}", "--project=p-1", "--region=us-east1")
    dry = succeeded(run(str(old_edition / "deploy.sh"), *words, "--dry-run", env=cloud.env))
    replay(cloud, dry.stdout)
    before = {name: cloud.read(f"services/{name}") for name in NAMES}
    cloud.forget()
    said = succeeded(cloud.deploy_sh())
    assert cloud.changes() == [] and said.stdout.count(" is unchanged") == 3
    assert {name: cloud.read(f"services/{name}") for name in NAMES} == before
    succeeded(cloud.deploy_sh("destroy", "--quiet", "--delete-data"))
    for kind in ("services", "accounts"):
        assert list((cloud.folder / kind).iterdir()) == []
    assert cloud.databases() == []


def replay(cloud, dry):
    """Runs the commands that a --dry-run printed."""
    text = dry.replace("$PROJECT_NUMBER", "123456789012").replace("$YOU", "user:dev@example.com")
    for line in text.splitlines():
        if line.startswith(("gcloud ", "echo ")):
            succeeded(run("bash", "-c", line, env=cloud.env, cwd=cloud.app))


def test_on_this_machine_nothing_is_made_anew(tmp_path, old_edition):
    local = Local(shutil.copytree(TOY, tmp_path / "toy"))
    old_command = [str(old_edition / "deploy.sh"), "--local", f"--app={local.app}"]
    try:
        succeeded(run(*old_command, env=local.env))
        (local.state / "data.db").write_bytes(b"what users have saved")
        before = seen(local)
        said = succeeded(local.deploy_sh())
        assert said.stdout.count(" is unchanged") == 3
        assert seen(local) == before
        assert (local.state / "data.db").read_bytes() == b"what users have saved"
        (local.app / "functions/front/main.py").write_text("def front(request):\n    return 'new'\n")
        assert "front is deployed." in succeeded(local.deploy_sh()).stdout
        succeeded(local.deploy_sh("destroy"))
        assert not local.state.exists()
    finally:
        local.end()


def seen(local):
    """The ids of service accounts, what is deployed where, and who may call it."""
    accounts = json.loads(local.gcloud("iam service-accounts list --format=json").stdout)
    revisions = re.findall(r"\S+", local.gcloud("run revisions list --format='value(metadata.name)'").stdout)
    addresses = (local.state / "addresses").read_text()
    numbers = {account["email"]: account["uniqueId"] for account in accounts}
    return numbers, revisions, addresses, {name: local.members(name) for name in NAMES}
