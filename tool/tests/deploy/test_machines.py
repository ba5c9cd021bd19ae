"""A deploy does the same with any shell, any locale and any names."""

import codecs
import os
import pty
import shutil
import subprocess
import sys

import pytest

from local_toy import Local
from recorded_cloud import TOY
from tool.python.printing import as_it_can_be_printed
from tool.testing import ROOT, run, succeeded


@pytest.mark.parametrize("locale", ["C", "POSIX", "tr_TR.UTF-8", "az_AZ.UTF-8", "en_US.ISO-8859-1"])
def test_a_locale_changes_nothing(deployed, locale):
    deployed.grant(("user:İı@example.com", "roles/viewer", "€ ı İ"))
    deployed.env |= {"LC_ALL": locale, "LANG": locale}
    said = succeeded(deployed.deploy_sh())
    assert said.stdout.count(" is unchanged") == 3
    succeeded(deployed.deploy_sh("verify"))


def test_what_a_terminal_cannot_print_is_replaced_and_bytes_of_a_path_stay():
    codecs.register_error("printable", as_it_can_be_printed)
    assert "caf\xe9 € \udcff".encode("latin-1", "printable") == b"caf\xe9 ? \xff"
    assert "\udcff \ud83d".encode("utf-8", "printable") == b"\xff ?"


@pytest.mark.parametrize("name", ["ümlaut €", os.fsdecode(b"\xff\xfe")], ids=ascii)
def test_a_local_project_is_the_same_in_every_locale(tmp_path, latin_1, name):
    local = Local(shutil.copytree(TOY, tmp_path / name / "toy"))

    def deploy_sh(*words, **env):
        done = subprocess.run(local.command(*words), env={**local.env, **env}, capture_output=True, timeout=120)
        assert done.returncode == 0, done
        return done.stdout

    try:
        deploy_sh(LC_ALL="C.UTF-8")
        deploy_sh("verify", **latin_1)
        assert os.fsencode(f"export LOCAL_STATE='{local.state}'\n") in deploy_sh("env", **latin_1)
        assert deploy_sh(LC_ALL="C").count(b" is unchanged") == 3
    finally:
        local.end()


def test_a_word_that_a_locale_does_not_have_arrives(cloud, latin_1):
    (cloud.app / "functions/front/variables").write_text("MINE=€ ü\n")
    cloud.env |= latin_1
    succeeded(cloud.deploy_sh())
    assert any("MINE=€ ü" in word for words in cloud.changes() for word in words)


PRINTING = r"""
import sys
from tool.python.printing import prepare
prepare(sys.stdout)
print("caf\xe9 \u20ac \udcff")
"""


def printed_at_a_terminal(**env):
    ours, theirs = pty.openpty()
    try:
        command = [sys.executable, "-X", "utf8", "-c", PRINTING]
        subprocess.run(command, env={**os.environ, **env}, cwd=ROOT, stdout=theirs, check=True, timeout=60)
        return os.read(ours, 100).strip()
    finally:
        os.close(ours)
        os.close(theirs)


def test_a_terminal_gets_what_its_locale_says(latin_1):
    assert printed_at_a_terminal(**latin_1) == b"caf\xe9 ? \xff"


def test_a_terminal_of_no_locale_and_a_program_get_utf_8():
    expected = "café € ".encode() + b"\xff"
    assert printed_at_a_terminal(LC_ALL="C") == expected
    command = [sys.executable, "-X", "utf8", "-c", PRINTING]
    env = {**os.environ, "LC_ALL": "C"}
    assert subprocess.run(command, env=env, cwd=ROOT, capture_output=True, timeout=60).stdout.strip() == expected


def test_cdpath_changes_nothing(tmp_path):
    for place in ("tool/python", "tool/local/bin", "tests", ROOT.name):
        (tmp_path / place).mkdir(parents=True)
    env = {**os.environ, "CDPATH": str(tmp_path)}
    assert "stand-in" in succeeded(run("tool/local/bin/gcloud", "version", env=env, cwd=ROOT)).stdout
    assert succeeded(run("tool/python/venv", env=env, cwd=ROOT)).stdout == ""
    assert "usage" in succeeded(run("bash", f"{ROOT.name}/deploy.sh", "help", env=env, cwd=ROOT.parent)).stdout


@pytest.mark.parametrize("verb", ["verify", "deploy", "destroy", "help", "run"])
def test_a_function_may_be_named_like_a_verb(cloud, verb):
    folder = cloud.app / "functions" / verb
    (cloud.app / "functions/closed").rename(folder)
    (folder / "main.py").write_text(f"def {verb}(request):\n    return ''\n")
    trust_map = cloud.app / "trust-map"
    trust_map.write_text(trust_map.read_text().replace("closed ", f"{verb} "))
    succeeded(cloud.deploy_sh())
    assert f"{verb} is unchanged" in succeeded(cloud.deploy_sh("deploy", verb)).stdout
    succeeded(cloud.deploy_sh("who", verb))
    succeeded(cloud.deploy_sh("destroy", verb, "--quiet"))
    assert not (cloud.folder / "services" / verb).exists()
    assert (cloud.folder / "services" / "front").exists()


def test_a_lock_that_is_not_the_one_of_its_requirements_is_named(deployed):
    function = deployed.app / "functions/front"
    (function / "requirements.in").write_text("iniconfig\n")
    for encoding in ("utf-8", "utf-16"):
        (function / "requirements.txt").write_text("pluggy==1\n# checksum 1\n", encoding)
        said = succeeded(deployed.deploy_sh()).stderr
        assert "functions/front/requirements.txt is not the lock of functions/front/requirements.in" in said
    (function / "requirements.txt").write_text("pluggy==1\n")  # made by another tool
    assert "is not the lock of" not in succeeded(deployed.deploy_sh()).stderr
