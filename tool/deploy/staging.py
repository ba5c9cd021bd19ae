"""What a function is deployed with: its staged folder, and the flags that say how Cloud Run runs it."""

from __future__ import annotations

import hashlib
import os
import pathlib
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from tool.deploy.app import App, Function
from tool.deploy.cloud import Service
from tool.deploy.leftovers import MIN_INSTANCES, not_asked_for
from tool.deploy.target import Target
from tool.python.reading import text_of

BASE_IMAGE = "python314"
DEFAULTS = {
    "concurrency": "80",
    "memory": "512Mi",
    "cpu": "1",
    "max-instances": "5",
    "timeout": "60",
    "ingress": "all",
}
PRIVATE_KEY = re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----")
OF_THE_TOOL = ("flags", "variables", "verify", "requirements.in", "requirements.txt")


class NotStaged(Exception):
    """The folder cannot be staged, and why."""


class LeftOut(NamedTuple):
    """A file or folder that is not deployed, and why."""

    path: pathlib.Path
    why: str


KEY = "holds a private key, and is left out. Give it to the function as a secret: see docs/recipes.md"
NOWHERE = "is a link to nothing, and is left out"
NO_FILE = "is no file, and is left out"
VENV = "is a virtual environment, and is left out: what requirements.txt names is installed"


def settings(app: App, function: Function, target: Target) -> list[str]:
    """The flags of gcloud run deploy that say how the function runs."""
    places = function.flag("concurrency", DEFAULTS["concurrency"])
    variables = {
        "GOOGLE_CLOUD_PROJECT": target.project,
        "THREADS": DEFAULTS["concurrency"] if places == "default" else places,
        **{f"{other.variable}_URL": target.url(other.name) for other in app.called_by(function)},
    }
    if function.uses_firestore:
        variables["STORE"] = target.store()
    variables |= {variable.name: variable.value for variable in function.variables}
    builder = f"projects/{target.project}/serviceAccounts/{target.email(target.builder)}"
    given = {flag.partition("=")[0] for flag in function.flags if "=" in flag}
    return [
        f"--function={pathlib.PurePath(function.folder).name}",
        f"--base-image={BASE_IMAGE}",
        "--automatic-updates",
        "--invoker-iam-check",
        f"--service-account={target.email(function.name)}",
        f"--build-service-account={builder}",
        f"--set-env-vars={joined(variables)}",
        *(f"--{name}={value}" for name, value in DEFAULTS.items() if f"--{name}" not in given),
        *function.flags,
    ]


def stated(function: Function, service: Service | None) -> list[str]:
    """The flags that end what an earlier deploy, or somebody by hand, may have left in the service.

    They are not in the fingerprint: a service without any of it needs no new revision.
    """
    flags = [] if function.secrets else ["--clear-secrets"]
    left = not_asked_for(service.kept if service else (), function.flags)
    flags += [kept.ended_by for kept in left if kept.ended_by and kept is not MIN_INSTANCES]
    if not function.flag("min-instances", ""):
        flags.append(MIN_INSTANCES.ended_by)
    return flags


def joined(variables: Mapping[str, str]) -> str:
    """The variables as one value for gcloud, with a separator that does not occur in them."""
    pairs = [f"{name}={value}" for name, value in variables.items()]
    separators = ("##", "@@", ";;", "%%", "::", "||")
    separator = next((s for s in separators if not any(s in pair for pair in pairs)), "||")
    return f"^{separator}^{separator.join(pairs)}"


def stage(function: Function, folder: pathlib.Path) -> list[LeftOut]:
    """Fills the folder that is deployed: the function, a copy of shared/, one requirements.txt.

    Returns what was left out of it, for example a file with a private key in it, whatever its name.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    own = pathlib.Path(function.folder)
    venvs = [file.parent for place in (own, pathlib.Path("shared")) for file in place.rglob("pyvenv.cfg")]
    left_out = [LeftOut(venv, VENV) for venv in venvs if not venv.name.startswith(".")]
    for file in tracked(function.folder, "shared"):
        if any(file.is_relative_to(venv) for venv in venvs):
            continue
        inside = file.is_relative_to(own)
        place = folder / (file.relative_to(own) if inside else file)
        if inside and str(file.relative_to(own)) in OF_THE_TOOL:
            continue
        if file.is_dir():
            raise NotStaged(
                f"{file} is a link to a folder, which gcloud would leave out. Put a copy of the"
                " folder there"
            )
        if not file.exists():  # deleted, and git has not been told yet
            if file.is_symlink():
                left_out.append(LeftOut(file, NOWHERE))
        elif not file.is_file():  # a pipe, from which reading would not end
            left_out.append(LeftOut(file, NO_FILE))
        elif holds_private_key(file):
            left_out.append(LeftOut(file, KEY))
        else:
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, place)
    (folder / "requirements.txt").write_bytes(requirements(own))
    # Without one, gcloud may make up its own.
    (folder / ".gcloudignore").write_text(".gcloudignore\n")
    return left_out


def holds_private_key(file: pathlib.Path) -> bool:
    """Whether it contains a key in PEM, also inside the JSON of a service account's key."""
    return bool(re.search(PRIVATE_KEY, file.read_bytes()))


def requirements(own: pathlib.Path) -> bytes:
    """The requirements of the app and the function, in UTF-8, however an editor or PowerShell wrote them."""
    files = [file for file in (pathlib.Path("requirements.txt"), own / "requirements.txt") if file.exists()]
    lines = [line for file in files for line in text_of(file).splitlines()]
    return "".join(line + "\n" for line in lines).encode("utf-8", "surrogateescape")


def tracked(*folders: str) -> list[pathlib.Path]:
    """The files in these folders that git tracks or would track; without git, all but dotfiles and caches.

    A repository around this folder may ignore all of it, for example because it ignores clones. Then only
    the .gitignore files here count. They also count if there is no repository, or git does not trust it.
    """
    names = listed("--cached", *folders)
    if names is None:
        names = set(untracked(*folders))
        names &= not_ignored(*folders) or names
    elif listed_none(names, folders[0]):
        names = not_ignored(*folders) or set(untracked(*folders))
    # A repository within this one is listed as a folder.
    inner = [name for name in names if os.path.isdir(name) and not os.path.islink(name.rstrip("/"))]
    names = names.difference(inner).union(untracked(*inner))
    return [file for name in sorted(names) if not OF_EDITORS.fullmatch((file := pathlib.Path(name)).name)]


def not_ignored(*folders: str) -> set[str]:
    """The files that no .gitignore here names; none without git."""
    with tempfile.TemporaryDirectory() as empty:  # all that git takes for a repository
        for part in ("objects", "refs"):
            os.mkdir(os.path.join(empty, part))
        pathlib.Path(empty, "HEAD").write_text("ref: refs/heads/none\n")
        return listed(*folders, git=("git", f"--git-dir={empty}", "--work-tree=.")) or set()


def listed(*words: str, git: tuple[str, ...] = ("git",)) -> set[str] | None:
    """What git lists; None if there is no git, or no repository."""
    listing = [*git, "ls-files", "-z", "--others", "--exclude-standard", *words]
    try:
        names = subprocess.run(listing, capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
    return {os.fsdecode(name) for name in names.split(b"\0") if name}


def listed_none(names: set[str], folder: str) -> bool:
    return not any(name.startswith(f"{folder}/") for name in names)


def untracked(*folders: str) -> Iterator[str]:
    for folder in folders:
        for path, inner, files in os.walk(folder):
            inner[:] = [name for name in inner if is_of_the_app(name) and not is_venv(path, name)]
            links = [name for name in inner if os.path.islink(os.path.join(path, name))]
            yield from (os.path.join(path, name) for name in (*files, *links) if is_of_the_app(name))


# Temporary files of editors and desktops: Emacs, Vim, JetBrains, GNOME, Kate, LibreOffice,
# macOS, network folders.
OF_EDITORS = re.compile(
    r"#.*#|\.#.*|4913|.*___jb_(tmp|old|bak)___|\..*\.(sw[a-z]|kate-swp)|.*~|\.goutputstream-.*|\.~lock\..*#|\.DS_Store|\.nfs.*"
)


def is_venv(*path: str) -> bool:
    return os.path.exists(os.path.join(*path, "pyvenv.cfg"))


def is_of_the_app(name: str) -> bool:
    """Whether to stage it if there is no git, which knows better what belongs to the app."""
    hidden = name.startswith(".") or name in ("__pycache__", "node_modules")
    return not (hidden or name.endswith(".pyc") or OF_EDITORS.fullmatch(name))


def files_in(folder: pathlib.Path) -> list[str]:
    """The staged files, each with the name of the folder in front."""
    paths = (path.relative_to(folder.parent) for path in folder.rglob("*") if path.is_file())
    return sorted(map(str, paths), key=os.fsencode)


def fingerprint(folder: pathlib.Path, settings: list[str], project_number: str) -> str:
    """Changes with any staged file or setting, but not with the project's number, which a --dry-run
    does not know."""
    digest = hashlib.sha256()
    for name in files_in(folder):
        content = hashlib.sha256((folder.parent / name).read_bytes()).hexdigest()
        digest.update(f"{content}  ".encode() + os.fsencode(name) + b"\n")
    said = " ".join(settings)
    if project_number:
        said = said.replace(project_number, "NUMBER")
    digest.update(f"{said}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()[:12]
