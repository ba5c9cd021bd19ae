"""What an error from gcloud means: whether waiting helps, and which role is missing.

errors.txt and roles.txt hold what is known, with one line for each kind of error.
"""

from __future__ import annotations

import fnmatch
import functools
import pathlib
import re
from typing import NamedTuple

HERE = pathlib.Path(__file__).resolve().parent
NEW = 180  # seconds that a service account counts as new
FOREVER = 999_999


class Patience(NamedTuple):
    """How long to wait for something, and for what."""

    seconds: int  # 0: waiting does not help
    what: str = ""  # what to wait for; if waiting does not help, what does


class Situation(NamedTuple):
    """What matters besides the text of an error."""

    youngest_account: float  # its age in seconds
    apis_known: bool  # it is known which APIs are enabled: this run may have enabled one
    accounts: tuple[str, ...]  # the addresses of the app's own accounts


class Known(NamedTuple):
    """A line of errors.txt."""

    limit: str
    what: str
    words: str


class Needed(NamedTuple):
    """A line of roles.txt."""

    role: str
    permissions: str  # how their names begin
    commands: str


def table(name: str) -> list[list[str]]:
    """The lines of a table, split into columns at |."""
    lines = (HERE / name).read_text("utf-8").splitlines()
    return [
        [column.strip() for column in line.split("|")]
        for line in lines if line and not line.startswith("#")
    ]  # fmt: skip


@functools.cache
def known() -> list[Known]:
    return [Known(*line) for line in table("errors.txt")]


@functools.cache
def needed() -> list[Needed]:
    return [Needed(*line) for line in table("roles.txt")]


def error_in(said: str) -> str:
    """What gcloud said from its first ERROR on, without warnings."""
    lines = said.splitlines()
    first = next((i for i, line in enumerate(lines) if line.startswith("ERROR")), 0)
    return "\n".join(line for line in lines[first:] if not line.startswith("WARNING"))


def patience(said: str, now: Situation) -> Patience:
    """How long to wait for it to pass. The first line of errors.txt that matches decides."""
    text = " ".join(error_in(said).lower().split("\n"))
    for line in known():
        if not fnmatch.fnmatchcase(text, f"*{line.words}*"):
            continue
        if line.limit == "age":
            young = now.youngest_account < NEW and not names_only_strangers(text, now.accounts)
            return Patience(FOREVER, line.what) if young else Patience(0)
        if line.limit == "api":
            return Patience(300, line.what) if now.apis_known else Patience(0)
        return Patience(int(line.limit), line.what)
    return Patience(0)


def names_only_strangers(text: str, ours: tuple[str, ...]) -> bool:
    """Whether it names service accounts, but none of ours."""
    return "@" in text and not any(email in text for email in ours)


def missing_package(text: str, folder: str) -> str:
    """The advice for a function that imports a package which is not installed."""
    found = re.search(r"No module named '([\w-]+)", text)
    if not found:
        return ""
    return (
        f"If {found[1]} is a package, write its name into {folder}/requirements.in, and run"
        " ./deploy.sh lock"
    )


def missing_role(said: str, project: str) -> str:
    """A sentence that names the role with the permission that you lack; "" if none is known."""
    text = error_in(said)
    small = text.lower()
    if "service agent" in small:  # one of Google's own, not you
        return ""
    grants = "an owner of the project can grant it."
    found = re.search(r"[Pp]ermission[: ]*'?([a-zA-Z]*\.[a-zA-Z.]*[a-zA-Z])'?", text)
    if found:
        for line in needed():
            if found[1].startswith(line.permissions):
                return (
                    f"You lack the permission {found[1]} in project {project}. The role {line.role}"
                    f" holds it; {grants}"
                )
        return ""
    denied = ("permission_denied", "not have permission", "access denied")
    if "has not been used in project" in small or "service_disabled" in small:
        return ""
    command = re.match(r"ERROR: \(gcloud\.([a-z.-]*)\)", text)
    if not command or not any(word in small for word in denied):
        return ""
    words = command[1].replace(".", " ")
    roles = dict.fromkeys(line.role for line in needed() if words.startswith(line.commands))
    if not roles:
        return ""
    return (
        f"You lack a permission in project {project} that gcloud {words} needs."
        f" {' or '.join(roles)} holds it; {grants}"
    )
