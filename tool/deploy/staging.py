"""What a function is deployed with: its staged folder, and the flags that say how Cloud Run runs it."""

from __future__ import annotations

import hashlib
import os
import pathlib
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping

from tool.deploy.app import App, Function
from tool.deploy.cloud import Service
from tool.deploy.leftovers import MIN_INSTANCES, not_asked_for
from tool.deploy.target import Target

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

    They are not in the fingerprint: a service that has nothing of it needs no new revision.
    """
    flags = [] if function.secrets else ["--clear-secrets"]
    left = not_asked_for(service.kept if service else (), function.flags)
    flags += [kept.ended_by for kept in left if kept.ended_by and kept is not MIN_INSTANCES]
    if not function.flag("min-instances", ""):
        flags.append(MIN_INSTANCES.ended_by)
    return flags


def joined(variables: Mapping[str, str]) -> str:
    """As one value of gcloud's, with a separator that does not occur in it."""
    pairs = [f"{name}={value}" for name, value in variables.items()]
    separators = ("##", "@@", ";;", "%%", "::", "||")
    separator = next((s for s in separators if not any(s in pair for pair in pairs)), "||")
    return f"^{separator}^{separator.join(pairs)}"


def stage(function: Function, folder: pathlib.Path) -> list[pathlib.Path]:
    """The folder that is deployed: the function, a copy of shared/, one requirements.txt.

    Returns what was left out because a private key is in it, whatever the file is called.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    own, left_out = pathlib.Path(function.folder), []
    for file in tracked(function.folder, "shared"):
        inside = file.is_relative_to(own)
        place = folder / (file.relative_to(own) if inside else file)
        if inside and str(file.relative_to(own)) in OF_THE_TOOL:
            continue
        if file.is_dir():
            raise NotStaged(
                f"{file} is a link to a folder, which gcloud would leave out. Put a copy of the"
                " folder there"
            )
        if file.exists() and holds_private_key(file):
            left_out.append(file)
        elif file.exists():  # else deleted, and git has not been told yet
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, place)
    (folder / "requirements.txt").write_bytes(requirements(own))
    # Without one, gcloud may make up its own.
    (folder / ".gcloudignore").write_text(".gcloudignore\n")
    return left_out


def holds_private_key(file: pathlib.Path) -> bool:
    """A key in PEM, also inside the JSON of a service account's key."""
    return bool(PRIVATE_KEY.search(file.read_bytes()))


def requirements(own: pathlib.Path) -> bytes:
    files = [file for file in (pathlib.Path("requirements.txt"), own / "requirements.txt") if file.exists()]
    lines = [line for file in files for line in file.read_bytes().splitlines()]
    return b"".join(line + b"\n" for line in lines)


def tracked(*folders: str) -> Iterator[pathlib.Path]:
    """Their files that git tracks or would track; without git, all but dotfiles and caches."""
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *folders]
    try:
        listed = subprocess.run(listing, capture_output=True, check=True).stdout
        names = {os.fsdecode(name) for name in listed.split(b"\0") if name}
    except (OSError, subprocess.CalledProcessError):
        names = set(untracked(*folders))
    return map(pathlib.Path, sorted(names))


def untracked(*folders: str) -> Iterator[str]:
    for folder in folders:
        for path, inner, files in os.walk(folder):
            inner[:] = [name for name in inner if is_of_the_app(name)]
            links = [name for name in inner if os.path.islink(os.path.join(path, name))]
            yield from (os.path.join(path, name) for name in (*files, *links) if is_of_the_app(name))


def is_of_the_app(name: str) -> bool:
    return not (name.startswith(".") or name == "__pycache__" or name.endswith((".pyc", "~")))


def files_in(folder: pathlib.Path) -> list[str]:
    """What is staged, with the name of the folder before each."""
    paths = (path.relative_to(folder.parent) for path in folder.rglob("*") if path.is_file())
    return sorted(map(str, paths), key=os.fsencode)


def fingerprint(folder: pathlib.Path, settings: list[str], project_number: str) -> str:
    """Changes when a staged file does, or a setting; not with the project's number, which a
    --dry-run does not know."""
    digest = hashlib.sha256()
    for name in files_in(folder):
        content = hashlib.sha256((folder.parent / name).read_bytes()).hexdigest()
        digest.update(f"{content}  ".encode() + os.fsencode(name) + b"\n")
    said = " ".join(settings)
    if project_number:
        said = said.replace(project_number, "NUMBER")
    digest.update(f"{said}\n".encode())
    return digest.hexdigest()[:12]
