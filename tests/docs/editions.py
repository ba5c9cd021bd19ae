"""Older editions of this repository, for tests and figures that compare with them."""

import shutil
import subprocess

from tool.testing import ROOT

BASH = "70fa1ba"  # the last edition with a tool in bash


def edition(commit, folder):
    """Makes a folder with another edition of the repository, and the packages that are installed here.

    Returns None if this repository does not have the commit.
    """
    archive = subprocess.run(["git", "archive", commit], cwd=ROOT, capture_output=True)
    if archive.returncode:
        return None
    folder.mkdir()
    subprocess.run(["tar", "-x", "-C", str(folder)], input=archive.stdout, check=True)
    venv, ours = folder / ".venv", ROOT / ".venv"
    (venv / "installed").mkdir(parents=True)
    (venv / "installed" / "made").touch()
    shutil.copy(ours / "pyvenv.cfg", venv)
    for name in ("bin", "lib"):
        (venv / name).symlink_to(ours / name)
    for file in ("local/requirements.txt", "tool/python/requirements.txt"):
        if (folder / file).exists():
            shutil.copy(folder / file, venv / "installed" / file.replace("/", "_"))
    return folder
