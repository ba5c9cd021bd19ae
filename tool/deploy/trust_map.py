"""Reads trust-map: three columns, # comments. Errors name the line, the column and what is allowed."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import NamedTuple

from tool.deploy.environment import NO_ENVIRONMENT, Environment

MEMBER = re.compile(r"(user|group|serviceAccount|domain):[^:@ ]*@?[^:@ ]+|principal(Set)?://.+")
ROLE = re.compile(r"roles/[A-Za-z0-9_.]+")


class Line(NamedTuple):
    """A line of trust-map."""

    number: int
    name: str
    invoked_by: tuple[str, ...]
    may_use: tuple[str, ...]
    missing: tuple[str, ...] = ()  # an error for each $NAME in it that has no value


SAMPLE = "sample"  # the name of an app whose trust-map gives none


def app_name(text: str) -> str:
    """The app's name, from the comment "# app: NAME"; it tells apps in one project apart."""
    named = re.search(r"^#\s*app:\s*([a-z][a-z0-9-]{0,30})\s*$", text, re.M)
    return named[1] if named else SAMPLE


def parsed(
    text: str, environment: Environment = NO_ENVIRONMENT, prefix: str = ""
) -> tuple[list[Line], list[str]]:
    """The lines of a trust-map, and what is wrong with them but for names without a value."""
    values = {**environment.values, "PREFIX": prefix}
    environment = environment._replace(values=values)
    lines: list[Line] = []
    problems: list[str] = []
    for number, content in enumerate(text.splitlines(), 1):
        columns = content.partition("#")[0].split()
        if not columns:
            continue
        if len(columns) != 3:
            problems.append(
                f"line {number}: it has {len(columns)} columns; three are needed: function, invoked"
                " by, its account may use. Several names in a column are joined by commas, without"
                " a space"
            )
            continue
        name, callers, uses = columns
        earlier = next((line for line in lines if line.name == name), None)
        if not re.fullmatch(r"[a-z][a-z0-9-]*", name):
            what = "a function's name consists of a-z, 0-9 and -"
            problems.append(f"line {number}: column 1, {name}: {what}")
        elif earlier:
            problems.append(
                f"line {number}: column 1, {name}: it has a line already, line {earlier.number}"
            )
        else:
            words = [environment.expanded(column, left=("PROJECT",)) for column in (callers, uses)]
            missing = tuple(
                f"line {number}: column {place}, ${missed}: {environment.nowhere(missed)}"
                for place, column in enumerate(words, 2) for missed in column.missing
            )
            invoked_by, may_use = (tuple(column.text.split(",")) for column in words)
            lines.append(Line(number, name, invoked_by, may_use, missing))
    known = [line.name for line in lines]
    for line in lines:
        problems += wrong_words(line, known)
    if not lines and not problems:
        problems.append("it has no line. One function that you alone may call: hello  you  -")
    return lines, problems


def wrong_words(line: Line, known: list[str]) -> Iterable[str]:
    for word in line.invoked_by:
        alone = word == "-" and len(line.invoked_by) == 1
        if alone or word in ("you", "anonymous", *known) or MEMBER.fullmatch(word) or "$" in word:
            continue
        hint = "write anonymous for everyone; " if word == "allUsers" else ""
        near = difflib.get_close_matches(word, [*known, "anonymous"], 1)
        question = f". There is no such function; did you mean {near[0]}?" if near else ""
        yield (
            f"line {line.number}: column 2, {shown(word)}: {hint}allowed are you, anonymous,"
            " functions that have a line, members such as user:ada@example.com or"
            f" group:admins@example.com, and - for nobody{question}"
        )
    for word in line.may_use:
        alone = word == "-" and len(line.may_use) == 1
        if not (alone or word == "firestore" or ROLE.fullmatch(word) or "$" in word):
            yield (
                f"line {line.number}: column 3, {shown(word)}: allowed are firestore, roles such as"
                " roles/pubsub.publisher, and - for nothing"
            )


def shown(word: str) -> str:
    return word or "nothing between two commas"
