"""Builds an uploaded folder as Cloud Run does: with an environment of its own, and checked code."""

import fnmatch
import hashlib
import os
import pathlib
import py_compile
import re
import shutil
import subprocess
import sys

from tool.local.state import STATE, locked
from tool.python import settings
from tool.python.reading import text_of

UV = pathlib.Path(sys.executable).parent / "uv"
SHARED = pathlib.Path(sys.prefix).resolve() / "environments"  # for all local projects of this clone
FRAMEWORK = "functions-framework"  # added if no line of requirements.txt begins with it


class BuildFailed(Exception):
    """One line that says why, and the whole output for the log."""

    def __init__(self, cause: str, said: str = ""):
        super().__init__(cause)
        self.said = said or cause


def upload(source: pathlib.Path, target: pathlib.Path) -> None:
    """Copies what gcloud would upload: without what .gcloudignore names, and without linked folders."""
    ignore = source / ".gcloudignore"
    lines = ignore.read_text("utf-8").splitlines() if ignore.exists() else []
    rules = [line.strip() for line in lines if line.strip() and not line.startswith("#")]

    def left_out(folder: str, names: list[str]) -> list[str]:
        inside = pathlib.Path(folder).relative_to(source)
        return [name for name in names if is_left_out(source / inside / name, inside / name, rules)]

    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target, ignore=left_out, ignore_dangling_symlinks=True)


def is_left_out(file: pathlib.Path, name: pathlib.PurePath, rules: list[str]) -> bool:
    """Follows the rules of .gitignore: the last match counts, ! takes back, a / inside anchors."""
    if file.is_dir() and file.is_symlink():
        return True
    ignored = False
    for rule in rules:
        keep, rule = rule.startswith("!"), rule.removeprefix("!")
        only_folders, pattern = rule.endswith("/"), rule.strip("/")
        against = str(name) if "/" in rule.rstrip("/") else name.name
        if fnmatch.fnmatchcase(against, pattern) and (file.is_dir() or not only_folders):
            ignored = not keep
    return ignored


def build(folder: pathlib.Path) -> str:
    """Builds what was uploaded there, and returns the folder of its environment."""
    if not (folder / "main.py").exists():
        raise BuildFailed("there is no main.py in the source")
    compile_all(folder)
    return environment(folder)


def compile_all(folder: pathlib.Path) -> None:
    for file in sorted(folder.rglob("*.py")):
        try:
            py_compile.compile(str(file), doraise=True)
        except py_compile.PyCompileError as error:
            cause, name = error.exc_value, file.relative_to(folder)
            number = getattr(cause, "lineno", None)
            line = f" line {number}" if number else ""
            raise BuildFailed(f"{name}{line}: {getattr(cause, 'msg', cause)}") from None
        except (ValueError, UnicodeError) as error:
            raise BuildFailed(f"{file.relative_to(folder)}: {error}") from None


def environment(folder: pathlib.Path) -> str:
    """Makes the environment that requirements.txt asks for, once for the same requirements.

    Locked requirements outlive the project. The next project resolves all others again.
    """
    file = folder / "requirements.txt"
    wanted = text_of(file) if file.exists() else ""
    home = SHARED if is_locked(wanted) else STATE / "environments"
    name = hashlib.sha256(f"{sys.version} {home} {wanted}".encode(errors="surrogateescape"))
    # If it names other files, their content counts, too.
    if re.search(
        r"^\s*(-[rce]|--(requirement|constraint|editable)|\.|/)|@\s*(file:|\.)", wanted, re.M
    ):
        for part in sorted(folder.rglob("*")):
            if part.is_file() and "__pycache__" not in part.parts:
                name.update(os.fsencode(part.relative_to(folder)) + part.read_bytes())
    place = home / name.hexdigest()[:20]
    with locked(place.name, home):  # of two functions with the same one, the second finds it
        if not (place / "built").exists() or not (place / "bin" / "python").exists():
            try:
                install(folder, place, wanted)
            except BuildFailed:
                shutil.rmtree(place, ignore_errors=True)
                raise
            (place / "built").touch()
    return str(place)


def install(folder: pathlib.Path, place: pathlib.Path, wanted: str) -> None:
    shutil.rmtree(place, ignore_errors=True)
    python = os.path.realpath(sys.executable)
    uv("venv", "--quiet", "--no-project", "--python", python, str(place), cwd=folder)
    into = ("--python", str(place / "bin" / "python"))
    what = ["-r", "requirements.txt"] if wanted.strip() else []
    if not re.search(rf"^{FRAMEWORK}", wanted, re.M):
        what.append(FRAMEWORK)
    installing = ["pip", "install", "--quiet", *into, *what]
    # Locked packages are the same from the cache as from the network, which can be slow or down.
    if not (is_locked(wanted) and uv_can(*installing, "--offline", cwd=folder)):
        uv(*installing, cwd=folder)
    uv("pip", "check", *into, cwd=folder)


def is_locked(wanted: str) -> bool:
    """Whether each line names one version."""
    lines = [line.partition("#")[0].strip() for line in wanted.splitlines()]
    return bool(wanted.strip()) and all("==" in line.partition(";")[0] for line in lines if line)


def uv_can(*words: str, cwd: pathlib.Path) -> bool:
    try:
        uv(*words, cwd=cwd)
    except BuildFailed:
        return False
    return True


def uv(*words: str, cwd: pathlib.Path) -> None:
    """Runs uv. What it cannot get from the network or its cache makes the build fail."""
    env = settings.to_run_uv(os.environ) | {"UV_NO_PROGRESS": "1", "NO_COLOR": "1", "UV_PYTHON_DOWNLOADS": "never"}
    done = subprocess.run(
        [UV, *words], cwd=cwd, env=env, text=True, errors="replace", capture_output=True, stdin=subprocess.DEVNULL
    )
    if done.returncode:
        raise BuildFailed(cause(done.stderr), done.stderr)


def cause(said: str) -> str:
    """What uv said, without ornaments and in one line."""
    text = re.sub(r"^[\s×╰─▶|]*((error|cause|hint): )?", "", said, flags=re.M)
    lines = [s for s in text.splitlines() if s and not re.match(r"Using |Checked |Found \d", s)]
    starts = [i for i, line in enumerate(lines) if line.startswith("Because ")]
    return " ".join(lines[starts[0] :] if starts else lines) or "uv failed and did not say why"
