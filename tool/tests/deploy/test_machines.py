"""Whatever shell, locale and names somebody has: a deploy does the same."""

import codecs
import os

import pytest

from tool.deploy.__main__ import as_it_can_be_printed
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


def test_cdpath_changes_nothing(tmp_path):
    for place in ("tool/python", "tool/local/bin", "tests"):
        (tmp_path / place).mkdir(parents=True)
    env = {**os.environ, "CDPATH": str(tmp_path)}
    assert "stand-in" in succeeded(run("tool/local/bin/gcloud", "version", env=env, cwd=ROOT)).stdout
    assert succeeded(run("tool/python/venv", env=env, cwd=ROOT)).stdout == ""
    assert "usage" in succeeded(run("./deploy.sh", "help", env=env, cwd=ROOT)).stdout


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
    (function / "requirements.txt").write_text("pluggy==1\n# checksum 1\n")
    said = succeeded(deployed.deploy_sh()).stderr
    assert "functions/front/requirements.txt is not the lock of functions/front/requirements.in" in said
    (function / "requirements.txt").write_text("pluggy==1\n")  # of another tool
    assert "is not the lock of" not in succeeded(deployed.deploy_sh()).stderr
