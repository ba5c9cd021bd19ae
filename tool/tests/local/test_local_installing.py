"""tool/python/venv and deploy.sh lock, in a copy without any installed packages."""

import os
import shutil
import subprocess

import pytest

from tool.python import reading
from tool.testing import ROOT, run, succeeded


@pytest.fixture
def copy(tmp_path):
    """A folder with a space in its name, with only the files that install and lock."""
    folder = tmp_path / "a clöne"
    for part in ("python", "deploy"):
        shutil.copytree(ROOT / "tool" / part, folder / "tool" / part)
    shutil.copy(ROOT / "deploy.sh", folder)
    return folder


def lock(folder, *words, **env):
    return run(str(folder / "deploy.sh"), "lock", *words, env={**os.environ, **env})


def venv(copy, *files, **env):
    return run(str(copy / "tool" / "python" / "venv"), *files, env={**os.environ, **env})


def packages(copy):
    shown = run(
        str(copy / ".venv" / "bin" / "uv"),
        "pip",
        "list",
        "--python",
        str(copy / ".venv"),
        "--format=freeze",
    )
    return set(succeeded(shown).stdout.split())


def test_it_is_made_once_and_then_says_nothing(copy):
    first = succeeded(venv(copy))
    assert first.stdout == "  Installing what these ask for into .venv: tool/python/requirements.txt\n"
    assert any(line.startswith("aiohttp==") for line in packages(copy))
    offline = {
        "UV_OFFLINE": "1",
        "PIP_NO_INDEX": "1",
        "PATH": "/usr/bin:/bin",
        "PYTHON": "/nothing",
    }
    again = succeeded(venv(copy, **offline))
    assert again.stdout == again.stderr == ""

    # With another file, its packages are added; a package that is removed from it is uninstalled.
    (copy / "more.txt").write_text("iniconfig==2.3.1\npluggy\n")
    succeeded(venv(copy, "more.txt"))
    assert "iniconfig==2.3.1" in packages(copy)
    succeeded(venv(copy))  # if the file is not named, its packages stay
    assert "iniconfig==2.3.1" in packages(copy)
    (copy / "more.txt").write_text("pluggy\n")
    succeeded(venv(copy, "more.txt"))
    assert "iniconfig==2.3.1" not in packages(copy)

    # An interrupted install is completed.
    (copy / ".venv" / "installed" / "tool_python_requirements.txt").unlink()
    succeeded(venv(copy))
    assert any(line.startswith("aiohttp==") for line in packages(copy))

    # A requirement that does not exist is reported, and what was installed stays.
    (copy / "more.txt").write_text("pluggy==999\n")
    failed = venv(copy, "more.txt")
    assert failed.returncode == 1
    assert failed.stderr.strip().splitlines()[-1].startswith("uv could not install")
    assert "Traceback" not in failed.stderr

    # The Python of the environment was removed, as by an update of the system.
    python = copy / ".venv" / "bin" / "python"
    python.unlink()
    python.symlink_to("/nothing/python")
    succeeded(venv(copy))
    assert any(line.startswith("aiohttp==") for line in packages(copy))


def test_it_is_made_in_every_locale(copy, latin_1):
    succeeded(venv(copy, **latin_1))
    assert list((copy / ".venv/lib").glob("*/site-packages/aiohttp"))


@pytest.mark.parametrize("name", ["PYTHONPATH", "PYTHONHOME"])
def test_it_is_made_whatever_python_is_told(copy, tmp_path, name):
    for module in ("shutil", "tempfile", "venv", "ensurepip", "pip"):
        (tmp_path / f"{module}.py").write_text("raise SystemExit(1)\n")
    succeeded(venv(copy, **{name: str(tmp_path)}))
    assert list((copy / ".venv/lib").glob("*/site-packages/aiohttp"))


def test_two_first_runs_at_once_do_not_break_each_other(copy):
    (copy / ".venv" / "bin").mkdir(parents=True)  # and a third one before them was interrupted
    running = [
        subprocess.Popen(
            [str(copy / "tool" / "python" / "venv")],
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        for _ in range(2)
    ]
    said = [process.communicate(timeout=180)[0] for process in running]
    assert [process.returncode for process in running] == [0, 0], said
    assert sorted(said)[0] == ""  # the second one had nothing left to do
    assert any(line.startswith("aiohttp==") for line in packages(copy))


@pytest.mark.parametrize(
    "fake, message",
    [
        ('echo "Python 3.10.1"; exit 1', "Python 3.11 or newer is needed; "),
        (
            'case "$*" in *sys.version_info*) ;; *-I*) shift; exec python3 -c "import sys; sys.argv = sys.argv[1:]; sys.executable = \'/bin/false\'; exec(open(sys.argv[0]).read())" "$@";; esac',
            '-m venv" does not work here',
        ),
    ],
)
def test_a_python_that_will_not_do_is_named_in_one_line(copy, tmp_path, fake, message):
    python = tmp_path / "python3"
    python.write_text(f"#!/bin/sh\n{fake}\n")
    python.chmod(0o755)
    result = venv(copy, PYTHON=str(python))
    assert result.returncode == 1
    assert message in result.stderr and result.stderr.count("\n") == 1
    assert not (copy / ".venv").exists()


def test_a_folder_in_which_python_makes_no_environment_is_named(copy):
    folder = copy.with_name(os.fsdecode(b"\xff"))
    copy.rename(folder)
    result = venv(folder)
    assert result.returncode == 1 and result.stderr.count("\n") == 1
    assert "in a folder whose name is not UTF-8" in result.stderr


def test_a_lock_that_is_stale_is_named_without_network(copy):
    for folder in ("functions/some", "tests"):
        (copy / folder).mkdir(parents=True)
    (copy / "requirements.in").write_text("iniconfig\n")
    (copy / "requirements.txt").write_text("iniconfig==2.3.1\n")
    checked = lock(copy, "--check", UV_OFFLINE="1")
    assert checked.returncode == 1
    assert "requirements.txt is not the lock of requirements.in. Run ./deploy.sh lock\n" in checked.stderr


def test_locks_hold_what_goes_together(copy):
    """Every function uses the root's lock. A function's own lock has only what it adds."""
    (copy / "functions" / "some").mkdir(parents=True)
    (copy / "tests").mkdir()
    (copy / "requirements.in").write_bytes("pluggy  # what for\r\n".encode("utf-16"))  # as PowerShell writes it
    (copy / "functions" / "some" / "requirements.in").write_bytes("\ufeffpluggy\niniconfig".encode("utf-16-be"))
    (copy / "tests" / "requirements.in").write_text("pluggy\n")
    succeeded(lock(copy))
    root, own = (
        (copy / name).read_text()
        for name in ("requirements.txt", "functions/some/requirements.txt")
    )
    assert "pluggy==" in root and "# via -r requirements.in" in root and "http" not in root
    assert "iniconfig==" in own and "pluggy==" not in own
    assert succeeded(lock(copy, "--check")).stderr == ""
    for file in ("requirements.in", "functions/some/requirements.txt"):
        before = reading.text_of(copy / file)
        (copy / file).write_text(before + "packaging\n")
        assert lock(copy, "--check").returncode == 1
        (copy / file).write_text(before)
    assert lock(copy, "--check").returncode == 0
    for file in ("requirements.in", "requirements.txt", "functions/some/requirements.in", "functions/some/requirements.txt"):
        text = reading.text_of(copy / file)
        for other in (text.encode("utf-16"), text.encode("utf-8-sig"), text.replace("\n", "\r\n").encode()):
            (copy / file).write_bytes(other)
            assert succeeded(lock(copy, "--check")).stderr == ""
    (copy / "functions/some/requirements.in").write_bytes("packaging".encode("utf-16"))
    assert lock(copy, "--check").returncode == 1


def test_the_locks_of_this_repository_are_not_stale():
    assert succeeded(lock(ROOT, "--check")).stderr == ""


@pytest.mark.skipif(not shutil.which("shellcheck"), reason="left out: shellcheck is not installed")
def test_shellcheck_finds_nothing():
    scripts = [str(ROOT / "tool" / name) for name in ("python/venv", "local/bin/gcloud")]
    assert run("shellcheck", "-x", *scripts).stdout == ""
