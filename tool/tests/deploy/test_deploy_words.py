"""What deploy.sh says to wrong words, before a deploy, and about itself; and checks of its scripts."""

import os
import shutil

import pytest

from tool.deploy import options as known
from tool.testing import ROOT, run

DEPLOY_SH = str(ROOT / "deploy.sh")
SCRIPTS = ["deploy.sh", "tool/python/venv", "tool/local/bin/gcloud", "tests/run", ".ci/run"]


@pytest.mark.parametrize(
    "words, message",
    [
        (["deplyo"], "unknown verb: deplyo (./deploy.sh help lists them); did you mean deploy?"),
        (["--locally"], "unknown option: --locally (./deploy.sh help lists them); did you mean --local?"),
        (["--local=yes"], "unknown option: --local= (./deploy.sh help lists them)"),
        (["--project="], "unknown option: --project="),
        (["--app="], "unknown option: --app="),
        (["verify", "env"], "one verb at a time, not verify and env"),
        (["destroy", "front", "back"], "destroy takes one name, not front and back"),
        (["who", "front", "back", "--local"], "who takes one name, not front and back"),
        (["verify", "front"], "verify takes no name"),
        (["front"], "unknown verb: front (./deploy.sh help lists them)"),
        (["eyJhbGciOi.x"], "unknown verb (./deploy.sh help lists them)"),
        (["--eyJhbGciOi9.x"], "unknown option (./deploy.sh help lists them)"),
        (["run", "front"], "run goes with --local"),
        (["deploy", "nothing", "--local"], "there is no function nothing, but"),
        (["verify", "--cut"], "--cut goes with who, as text or json"),
        (["who", "front", "--cut", "--format=mermaid"], "--cut goes with who, as text or json"),
        (["who", "front", "--format=xml"], "--format is text, json or mermaid"),
        (["who", "front", "--format", "json"], "write --format=VALUE, in one word"),
        (["--app=nowhere"], "there is no folder nowhere"),
        (["--watch"], "--watch goes with --local, and with no verb"),
        (["--watch", "--local", "verify"], "--watch goes with --local, and with no verb"),
    ],
)
def test_wrong_words_are_answered_in_one_line(words, message):
    result = run(DEPLOY_SH, *words)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith(f"deploy.sh: {message}") and result.stderr.count("\n") == 1


@pytest.mark.parametrize("prefix", ["/usr", "Dev-", "a_"])
def test_a_prefix_that_cannot_begin_a_name_is_named(prefix):
    result = run(DEPLOY_SH, "--dry-run", env={**os.environ, "PREFIX": prefix})
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == f"deploy.sh: PREFIX={prefix} cannot begin a name: it may only contain a-z, 0-9 and -\n"


@pytest.mark.parametrize("word", ["--project=a/b", "--project=..", "--project=x y", "--region=a b", "--region=a;b"])
def test_what_cannot_be_the_name_of_a_project_or_region_is_refused_before_anything_is_made(word, toy):
    refused = run(DEPLOY_SH, f"--app={toy}", "--local", word)
    assert (refused.returncode, refused.stdout, refused.stderr.count("\n")) == (2, "", 1)
    assert not list(toy.glob(".local*"))


@pytest.mark.parametrize("verb", ["env", "verify"])
def test_before_a_deploy_there_is_nothing_to_look_at(verb, toy):
    result = run(DEPLOY_SH, f"--app={toy}", "--local", verb)
    assert (result.returncode, result.stdout) == (1, "")
    assert "nothing is deployed on this machine yet. Run ./deploy.sh --local" in result.stderr


def test_a_folder_of_somebody_else_is_neither_used_nor_removed(toy, tmp_path):
    precious = tmp_path / "home"
    precious.mkdir()
    (precious / "precious").write_text("mine")
    env = {**os.environ, "LOCAL_STATE": str(precious)}
    for verb in ("deploy", "destroy"):
        result = run(DEPLOY_SH, f"--app={toy}", verb, "--local", env=env)
        assert result.returncode == 1
        assert "contains precious, which is not the local project's" in result.stderr
    assert (precious / "precious").read_text() == "mine"


@pytest.mark.parametrize("word", ["help", "-h", "--help"])
def test_help_names_every_verb_and_option(word):
    shown = run(DEPLOY_SH, word).stdout
    options = [f"--{name}" for name in (*known.SWITCHES, *known.VALUES)]
    for word in (*options, *known.VERBS, "PREFIX="):
        assert word in shown


# ---- the scripts


@pytest.mark.skipif(not shutil.which("shellcheck"), reason="left out: shellcheck is not installed")
def test_shellcheck_finds_nothing():
    there = [script for script in SCRIPTS if (ROOT / script).exists()]
    result = run("shellcheck", "-x", *there)
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize("newer", ["declare -A", "local -A", "mapfile", "readarray", "wait -n", ",,}", "^^}", "&>>", "|&", "BASHPID", "EPOCH"])
def test_bash_3_2_is_enough(newer):
    for script in SCRIPTS:
        if (ROOT / script).exists():
            assert newer not in (ROOT / script).read_text(), script
