"""diff COMMIT: what trust-map and flags open and close, compared with a commit. For a pull request."""

from __future__ import annotations

import pathlib
import subprocess
from collections.abc import Mapping
from typing import NamedTuple

from tool.deploy import environment, function_files, trust_map
from tool.deploy.environment import Environment
from tool.deploy.progress import Stop, say


class Edge(NamedTuple):
    """Something that is allowed."""

    who: str
    may: str
    what: str

    def __str__(self) -> str:
        return f"{self.who} {self.may} {self.what}"


def diff(commit: str, environment: Environment) -> None:
    """Prints what was opened and closed since. Raises Stop if something was opened."""
    if not commit:
        raise Stop("compared with which commit? For instance ./deploy.sh diff main", 2)
    if git("rev-parse", "--verify", "--quiet", f"{commit}^{{commit}}") is None:
        raise Stop(f"there is no commit {commit} here")
    before = edges(files_at(commit), at(commit, environment))
    now = edges(files_here(), environment)
    opened = [edge for edge in now if edge not in before]
    for edge in opened:
        say(f"opened: {edge}")
    for edge in before:
        if edge not in now and edge._replace(who="anonymous") not in now:  # otherwise it still may
            say(f"closed: {edge}")
    if opened:
        raise Stop(f"this allows more than {commit} does")
    say(f"Nothing is opened that {commit} does not have.")


def at(commit: str, now: Environment) -> Environment:
    """The environment as its file was at that commit."""
    if not now.name:
        return now
    values, secrets, _ = environment.parsed(git("show", f"{commit}:./environments/{now.name}") or "")
    return now._replace(values=values, secrets=secrets)


def edges(files: Mapping[str, str], there: Environment) -> list[Edge]:
    """What these files allow: trust-map and functions/NAME/flags, by their paths."""
    lines, _ = trust_map.parsed(files.get("trust-map", ""), there, there.setting("PREFIX"))
    allowed = [
        Edge(who, "may call", line.name) for line in lines for who in line.invoked_by if who != "-"
    ]
    allowed += [
        Edge(f"the account of {line.name}", "may use", use)
        for line in lines for use in line.may_use if use != "-"
    ]  # fmt: skip
    for path, text in sorted(files.items()):
        _, name, file = path.split("/") if path.count("/") == 2 else ("", "", "")
        if file == "flags":
            account = f"the account of {name.replace('_', '-')}"
            secrets = function_files.secrets_in(there.expanded(line).text for line in function_files.lines_in(text))
            allowed += [Edge(account, "may read the secret", secret) for secret in secrets]
    return allowed


def files_here() -> dict[str, str]:
    paths = [pathlib.Path("trust-map"), *pathlib.Path("functions").glob("*/flags")]
    return {str(path): path.read_text("utf-8-sig", "replace") for path in paths if path.is_file()}


def files_at(commit: str) -> dict[str, str]:
    listed = git("ls-tree", "-r", "-z", "--name-only", commit, "--", "trust-map", "functions") or ""
    paths = [p for p in listed.split("\0") if p == "trust-map" or p.endswith("/flags")]
    return {path: git("show", f"{commit}:./{path}") or "" for path in paths}


def git(*words: str) -> str | None:
    """What git prints; None if it fails."""
    try:
        done = subprocess.run(["git", *words], capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.decode("utf-8-sig", "replace")
