"""Installs what requirement files ask for into .venv. Called by tool/python/venv, in the clone's folder.

Needs only Python and its venv. The pip that comes with Python installs uv; uv does the rest.
.venv/installed/ keeps a copy of each installed file, so that the next run knows.
"""

import fcntl
import os
import pathlib
import re
import shutil
import subprocess
import sys

sys.path.insert(0, os.getcwd())

from tool.python import settings  # noqa: E402

VENV = pathlib.Path(".venv").absolute()
STAMPS, PYTHON, UV = VENV / "installed", VENV / "bin" / "python", VENV / "bin" / "uv"
TOOL = "tool/python/requirements.txt"
WITH_BUNDLED_PIP = """
import ensurepip, pathlib, runpy, sys
folders = [pathlib.Path(ensurepip.__file__).parent / "_bundled", pathlib.Path("/usr/share/python-wheels")]
wheels = [wheel for folder in folders for wheel in folder.glob("pip-*.whl")]
sys.path.insert(0, str(wheels[0]))
runpy.run_module("pip", run_name="__main__")
"""


def main(*asked: str) -> None:
    lock = os.open(f"{VENV.resolve()}.lock", os.O_CREAT | os.O_RDWR, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)  # a second run waits, and then has nothing left to do
    # The environment is missing or incomplete, or its Python is gone.
    if not (STAMPS / "made").exists() or not PYTHON.exists():
        make_venv()
    files = [TOOL, *asked]
    # What was installed for other files stays installed. Files that no longer exist are remembered, too.
    known = [stamp.read_text("utf-8").partition("\n")[0] for stamp in STAMPS.glob("*.name")]
    if all(is_installed(file) for file in files):
        return
    files = sorted({*files, *(name for name in known if pathlib.Path(name).exists())})
    print("  Installing what these ask for into .venv:", *(f for f in files if not is_installed(f)))
    if not UV.exists() or not is_installed(TOOL):
        install_uv()
    installing = [str(UV), "pip", "sync", "--quiet", "--python", str(PYTHON), *files]
    # Locked files are the same from the cache as from the network, which can be slow or down.
    env = settings.to_run_uv(os.environ)
    if failure([*installing, "--offline"], env) and (problem := failure(installing, env)):
        raise SystemExit(f"{problem}\nuv could not install {' '.join(files)}")
    for file in files:
        shutil.copyfile(file, STAMPS / stamp(file))
        (STAMPS / f"{stamp(file)}.name").write_text(f"{file}\n", "utf-8")


def stamp(file: str) -> str:
    return file.replace("/", "_")


def is_installed(file: str) -> bool:
    try:
        return (STAMPS / stamp(file)).read_bytes() == pathlib.Path(file).read_bytes()
    except FileNotFoundError:
        return False


def make_venv() -> None:
    shutil.rmtree(VENV, ignore_errors=True)
    if not is_text(VENV):
        raise SystemExit("Python makes no virtual environment in a folder whose name is not UTF-8: move or rename it")
    if failure([sys.executable, "-I", "-X", "utf8", "-m", "venv", "--without-pip", str(VENV)]) or failure(
        [str(PYTHON), "-I", "-c", "import ensurepip"]
    ):
        shutil.rmtree(VENV, ignore_errors=True)
        called = os.environ.get("PYTHON") or "python3"
        hint = "on Debian and Ubuntu: apt install python3-venv"
        raise SystemExit(f'"{called} -m venv" does not work here; {hint}')
    STAMPS.mkdir()
    (STAMPS / "made").touch()


def is_text(path: pathlib.Path) -> bool:
    try:
        return bool(os.fsencode(path).decode())
    except UnicodeDecodeError:
        return False


def install_uv() -> None:
    [pinned] = re.findall(r"^uv==\S+", pathlib.Path(TOOL).read_text("utf-8"), re.M)
    words, env = ("install", "--quiet", pinned), settings.for_pip(os.environ)
    # The pip that comes with Python works without installing it, which would take seconds.
    bundled = [str(PYTHON), "-I", "-c", WITH_BUNDLED_PIP]
    if not failure([*bundled, *words], env):
        return
    failure([str(PYTHON), "-I", "-m", "ensurepip"])
    pip = [str(PYTHON), "-I", "-m", "pip"]
    if problem := failure([*pip, *words], env):
        raise SystemExit(f"{problem}\npip could not install {pinned}")


def failure(command: list[str], env: dict[str, str] | None = None) -> str:
    """What the command said, if it failed."""
    done = subprocess.run(
        command, text=True, errors="replace", capture_output=True, stdin=subprocess.DEVNULL, env=env
    )
    return (done.stdout + done.stderr).strip() or "it failed" if done.returncode else ""


if __name__ == "__main__":
    main(*sys.argv[1:])
