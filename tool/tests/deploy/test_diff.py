"""deploy.sh diff: what a change of trust-map opens, in a repository of two commits."""

import os
import shutil

import pytest

from recorded_cloud import TOY
from tool.testing import ROOT, run, succeeded

BEFORE = """
front   you     -
back    front   firestore
closed  -       -
"""


@pytest.fixture
def repository(tmp_path):
    app = shutil.copytree(TOY, tmp_path / "app")
    (app / "trust-map").write_text(BEFORE)
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "before"]):
        identity = ["-c", "user.name=a", "-c", "user.email=a@example.com"]
        succeeded(run("git", *identity, *words, cwd=app))
    return app


def compared(app, *words):
    env = {**os.environ, "PATH": "/usr/bin:/bin"}  # neither gcloud nor a login is needed
    return run(str(ROOT / "deploy.sh"), f"--app={app}", "diff", *words, env=env)


@pytest.mark.parametrize(
    "line, after, opened",
    [
        ("closed  -       -", "closed  front       -", ["front may call closed"]),
        ("closed  -       -", "closed  front,anonymous -", ["front may call closed", "anonymous may call closed"]),
        ("closed  -       -", "closed  group:a@example.com -", ["group:a@example.com may call closed"]),
        ("front   you     -", "front   you     roles/viewer", ["the account of front may use roles/viewer"]),
    ],
)  # fmt: skip
def test_what_is_opened_is_named_and_fails(repository, line, after, opened):
    (repository / "trust-map").write_text(BEFORE.replace(line, after))
    said = compared(repository, "HEAD")
    assert said.returncode == 1 and said.stdout.splitlines() == [f"opened: {edge}" for edge in opened]
    assert said.stderr == "deploy.sh: this allows more than HEAD does\n"


@pytest.mark.parametrize(
    "after, closed",
    [
        (BEFORE, []),
        ("# another order\n" + "\n".join(reversed(BEFORE.splitlines())), []),
        (BEFORE.replace("firestore", "-"), ["closed: the account of back may use firestore"]),
        (BEFORE.replace("back    front", "back    -    "), ["closed: front may call back"]),
    ],
)
def test_what_opens_nothing_passes(repository, after, closed):
    (repository / "trust-map").write_text(after)
    said = succeeded(compared(repository, "HEAD")).stdout.splitlines()
    assert said == [*closed, "Nothing is opened compared with HEAD."]


def test_a_secret_is_a_door_too(repository):
    flags = repository / "functions" / "closed" / "flags"
    flags.write_text("# two\n  --set-secrets=A=payments-key:latest,B=other:1")
    secrets = ["payments-key", "other"]
    opened = [f"opened: the account of closed may read the secret {secret}" for secret in secrets]
    assert compared(repository, "HEAD").stdout.splitlines() == opened
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.com"]
    succeeded(run("git", *identity, "add", ".", cwd=repository))
    succeeded(run("git", *identity, "commit", "-qm", "secrets", cwd=repository))
    succeeded(compared(repository, "HEAD"))
    flags.unlink()
    assert "closed: the account of closed may read the secret other" in compared(repository, "HEAD").stdout


def test_who_may_call_as_one_of_everyone_is_not_shut_out(repository):
    (repository / "trust-map").write_text(BEFORE.replace("front   you ", "front   anonymous "))
    assert compared(repository, "HEAD").stdout == "opened: anonymous may call front\n"


def test_where_there_was_no_map_everything_is_opened(repository):
    succeeded(run("git", "rm", "-q", "--cached", "trust-map", cwd=repository))
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.com"]
    succeeded(run("git", *identity, "commit", "-qm", "none", cwd=repository))
    assert compared(repository, "HEAD").stdout.count("opened: ") == 3


@pytest.mark.parametrize(
    "words, status, said",
    [([], 2, "compared with which commit?"), (["nowhere"], 1, "no commit nowhere")],
)
def test_a_commit_is_needed(repository, words, status, said):
    failed = compared(repository, *words)
    assert failed.returncode == status and said in failed.stderr
