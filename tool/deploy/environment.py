"""environments/NAME: what differs from one environment to another, and what $NAME means.

Its lines are NAME=value or # comments. PREFIX, PROJECT and REGION are the tool's own. Any other name
gives $NAME a value in trust-map, flags and variables; without a line, the shell does. $$ is a dollar.
An environment for this machine may have lines secret NAME=value, too.
"""

from __future__ import annotations

import difflib
import os
import pathlib
import re
from collections.abc import Mapping
from typing import NamedTuple

FOLDER = pathlib.Path("environments")
LOCAL = "local"
NAME = "[A-Za-z_][A-Za-z0-9_]*"
LINE = re.compile(rf"(?:export\s+)?({NAME})=(.*)", re.S)
SECRET = re.compile(r"secret\s+([A-Za-z0-9_-]{1,255})=(.*)", re.S)
DOLLAR = re.compile(rf"\$(?:(\$)|({NAME})|\{{({NAME})\}})")


class Environment(NamedTuple):
    """What an environment says. `name`: "" if there is none."""

    name: str
    values: Mapping[str, str]
    secrets: Mapping[str, str]
    shell: Mapping[str, str]

    def value(self, name: str) -> str | None:
        return self.values.get(name, self.shell.get(name))

    def setting(self, name: str) -> str:
        """PREFIX, PROJECT or REGION: the shell's value wins."""
        return self.shell.get(name) or self.values.get(name, "")

    def expanded(self, text: str, left: tuple[str, ...] = ()) -> Expanded:
        """The text with the values of its names; names in `left` stay as they are."""
        missing: list[str] = []

        def value_of(match: re.Match[str]) -> str:
            name = match[2] or match[3]
            if match[1] or name in left:
                return "$" if match[1] else match[0]
            value = self.value(name)
            if value is None:
                missing.append(name)
            return match[0] if value is None else value

        return Expanded(DOLLAR.sub(value_of, text), tuple(missing))

    def nowhere(self, name: str) -> str:
        """The message for a name without a value: it says where to write one."""
        if not self.name:
            return (
                f"{name} is not set in this shell. Or write {name}=VALUE into environments/NAME, and"
                " give --environment=NAME"
            )
        file = FOLDER / self.name
        return f"{name} is not set in this shell, nor in {file}. Write {name}=VALUE into {file}"


class Expanded(NamedTuple):
    text: str
    missing: tuple[str, ...]  # the names that have no value


NO_ENVIRONMENT = Environment("", {}, {}, {})


def read(name: str, shell: Mapping[str, str], local: bool) -> tuple[Environment, list[str]]:
    """The environment of this name, by default environments/local with --local, and what is wrong with it."""
    by_itself = not name and local and os.path.lexists(FOLDER / LOCAL)
    name = LOCAL if by_itself else name
    if not name:
        return Environment("", {}, {}, shell), []
    file = FOLDER / name
    if not os.path.lexists(file):
        there = [path.name for path in FOLDER.glob("*") if path.is_file()]
        near = difflib.get_close_matches(name, there, 1)
        question = f"; did you mean {near[0]}?" if near else ""
        return Environment(name, {}, {}, shell), [f"there is no {file}{question}"]
    text = text_of(file)
    if text is None:
        return Environment(name, {}, {}, shell), [f"{file} cannot be read as text in UTF-8"]
    values, secrets, problems = parsed(text)
    if secrets and not local:
        problems.append((0, "a line secret NAME=value is for --local only: on Google Cloud, Secret Manager keeps secrets"))
    said = [f"{file}{f': line {number}' if number else ''}: {problem}" for number, problem in problems]
    return Environment(name, values, secrets, shell), said


def text_of(file: pathlib.Path) -> str | None:
    """A file that a person wrote; None if it is not text, not a file (a pipe does not end), or cannot be read."""
    try:
        return file.read_text("utf-8-sig") if file.is_file() else None
    except (OSError, ValueError):
        return None


def parsed(text: str) -> tuple[dict[str, str], dict[str, str], list[tuple[int, str]]]:
    """Values, secrets, and problems with their line numbers. No value is ever repeated."""
    values: dict[str, str] = {}
    secrets: dict[str, str] = {}
    problems: list[tuple[int, str]] = []
    for number, line in enumerate(text.split("\n"), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        secret, variable = SECRET.fullmatch(line), LINE.fullmatch(line)
        found = secret or variable
        if not found:
            problems.append((number, "it is not NAME=value"))
        elif len(found[2]) > 1 and found[2][0] == found[2][-1] and found[2][0] in "\"'":
            problems.append((number, f"{found[1]}: quotes would be a part of the value; leave them out"))
        elif found[1] in (secrets if secret else values):
            problems.append((number, f"{found[1]} has a line already"))
        else:
            (secrets if secret else values)[found[1]] = found[2]
    return values, secrets, problems
