"""The state of the local project: small JSON files in one private folder, which records are made from.

project            id, number, region, token_port, console_port, key_id, apis
accounts/EMAIL     kind (user or serviceAccount), email, uniqueId; keys, if any      (accounts.py)
ids/UNIQUEID       the account's email address
services/NAME      its ports and URL; once deployed, what was deployed, and what serves (services.py)
addresses          not JSON: name, URL and metadata host of each service, one a line
revisions/NAME     how to start a revision again; its source is in the folder beside it
policies/NAME      the policy of a service; _project, account.EMAIL and secret.NAME likewise (policies.py)
roles/NAME         a role of the project's own, and its permissions

An unknown key is ignored, and a missing one gets its default. An incomplete file is treated as
missing.
"""

import contextlib
import fcntl
import json
import os
import pathlib
import re
from collections.abc import Iterator, Sequence

from tool.local.records import Json, Record

ROOT = pathlib.Path(__file__).resolve().parents[2]
STATE = pathlib.Path(os.environ.get("LOCAL_STATE") or ROOT / ".local").absolute()
SECRETS = pathlib.Path(os.environ.get("LOCAL_SECRETS") or STATE.parent / ".secrets").absolute()
DEVELOPMENT_SECRETS = STATE / "secrets"  # of environments/local
GROUPS = pathlib.Path(os.environ.get("LOCAL_GROUPS") or STATE.parent / ".groups").absolute()
YOU = "you@example.com"


def secret_file(name: str) -> pathlib.Path:
    """The file with a secret's value; your own file wins over environments/local."""
    own, development = SECRETS / name, DEVELOPMENT_SECRETS / name
    return development if development.exists() and not own.exists() else own


def path(name: str) -> pathlib.Path:
    if not is_name(name):
        raise ValueError("no name for a resource")
    return STATE / f"{name}.json"


def is_name(name: str) -> bool:
    named = re.fullmatch(r"([a-z]+/)?[A-Za-z0-9_][A-Za-z0-9@._-]*", name)
    return len(name) <= 200 and named is not None


def read(name: str, kind: type = dict) -> Json:
    """The resource's content, or None if there is none of this kind."""
    try:
        content = json.loads(path(name).read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return content if isinstance(content, kind) else None


def text_of(file: pathlib.Path) -> str | None:
    """A file that a person wrote; None if it is not text, not a file (a pipe does not end), or cannot be read."""
    try:
        return file.read_text("utf-8-sig") if file.is_file() else None
    except (OSError, ValueError):
        return None


def write(name: str, content: object) -> None:
    replace(path(name), json.dumps(content, indent=1))


def replace(target: pathlib.Path, text: str) -> None:
    """Writes a file in one step, so that no reader sees half of it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    new = target.with_name(f"{target.name}.{os.getpid()}.new")
    new.write_text(text, "utf-8")
    os.replace(new, target)


def remove(name: str) -> None:
    path(name).unlink(missing_ok=True)


def names(kind: str) -> list[str]:
    files = (file for file in (STATE / kind).glob("*.json") if file.is_file())
    return sorted(name for file in files if is_name(name := file.name.removesuffix(".json")))


@contextlib.contextmanager
def locked(what: str, folder: pathlib.Path = STATE) -> Iterator[None]:
    """Lets in one process at a time, for what is read, changed and written again."""
    (folder / "locks").mkdir(parents=True, exist_ok=True)
    with open(folder / "locks" / what, "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


# ---- the project


class Project(Record):
    """The local project: its name, its place, the key that signs its tokens."""

    id: str
    number: str
    region: str
    key_id: str = ""
    apis: Sequence[str] = ()
    token_port: int = 0  # the token endpoint's
    console_port: int = 0


class NoProject(Exception):
    """There is no local project, or it has just ended."""


def found_project() -> Project | None:
    return Project.of(read("project"))


def project() -> Project:
    found = found_project()
    if not found:
        raise NoProject
    return found


def put_project(project: Project) -> None:
    write("project", project.as_dict())
