"""The app: what trust-map, functions/NAME/flags and variables say. Reads files, starts nothing.

`read` gives an App, or raises Wrong with every problem that it found.
"""

from __future__ import annotations

import enum
import pathlib
import re
from collections.abc import Callable, Iterable
from typing import NamedTuple

from tool.deploy.environment import Environment
from tool.deploy.function_files import lines_of, secrets_in, wrong_flags, wrong_variables
from tool.deploy.trust_map import Line, parsed

NAME = re.compile(r"[a-z][a-z0-9-]{1,25}[a-z0-9]")
TAKEN = ("builder", "you", "anonymous")


class Wrong(Exception):
    """The app's files cannot be deployed: one sentence for each thing that is wrong."""

    def __init__(self, problems: list[str]):
        super().__init__("\n".join(problems))


class Kind(enum.Enum):
    """The kinds of callers in the second column."""

    YOU = "you"
    EVERYONE = "anonymous"
    FUNCTION = "function"
    MEMBER = "member"


class Caller(NamedTuple):
    kind: Kind
    name: str  # you, anonymous, a function with the prefix, or a member as a policy names it


class Variable(NamedTuple):
    """A line of variables."""

    name: str
    value: str


class Function(NamedTuple):
    """A function of the app."""

    name: str  # with the prefix, as it is deployed
    in_map: str
    invoked_by: tuple[Caller, ...]
    may_use: tuple[str, ...]
    flags: tuple[str, ...]
    variables: tuple[Variable, ...]
    asks_for: tuple[str, ...]  # X_URL that its variables ask for

    @property
    def folder(self) -> str:
        return f"functions/{folder_name(self.in_map)}"

    @property
    def variable(self) -> str:
        """How the names of variables about it begin, such as NAME in NAME_URL."""
        return self.in_map.upper().replace("-", "_")

    def flag(self, name: str, default: str) -> str:
        """The value of a flag; the last one counts."""
        values = [f.partition("=")[2] for f in self.flags if f.startswith(f"--{name}=")]
        return next((value for value in reversed(values) if value), default)

    @property
    def secrets(self) -> list[str]:
        """The names of the secrets that its flags ask for."""
        return secrets_in(self.flags)

    @property
    def uses_firestore(self) -> bool:
        return "firestore" in self.may_use


EVERYONE = Caller(Kind.EVERYONE, "anonymous")
YOU = Caller(Kind.YOU, "you")


class App(NamedTuple):
    prefix: str
    functions: tuple[Function, ...]
    only: tuple[str, ...] = ()  # the functions to deploy; none: all
    missing: tuple[str, ...] = ()  # errors about names in trust-map that have no value

    @property
    def chosen(self) -> tuple[Function, ...]:
        return tuple(f for f in self.functions if f.name in self.only) if self.only else self.functions

    def function(self, name: str) -> Function | None:
        return next((f for f in self.functions if f.name == name), None)

    @property
    def names(self) -> list[str]:
        return [function.name for function in self.functions]

    @property
    def uses_firestore(self) -> bool:
        return any(function.uses_firestore for function in self.chosen)

    @property
    def members(self) -> list[str]:
        """The members that the map names, each once."""
        callers = {c.name for f in self.functions for c in f.invoked_by if c.kind is Kind.MEMBER}
        return sorted(callers)

    def in_project(self, project: str) -> App:
        """Replaces $PROJECT in members with the project's id."""
        return self._with_callers(
            lambda _, callers: tuple(
                caller._replace(name=caller.name.replace("$PROJECT", project)) for caller in callers
            )
        )

    def public(self) -> App:
        """Lets everyone call what "you" may call."""
        return self._with_callers(
            lambda _, callers: (*callers, EVERYONE)
            if YOU in callers and EVERYONE not in callers else callers
        )  # fmt: skip

    def private(self, names: Iterable[str]) -> App:
        """Takes everyone out of these functions' callers."""
        return self._with_callers(
            lambda name, callers: tuple(c for c in callers if c != EVERYONE)
            if name in names else callers
        )  # fmt: skip

    def _with_callers(
        self, change: Callable[[str, tuple[Caller, ...]], tuple[Caller, ...]]
    ) -> App:
        changed = (f._replace(invoked_by=change(f.name, f.invoked_by)) for f in self.functions)
        return self._replace(functions=tuple(changed))

    def called_by(self, caller: Function) -> list[Function]:
        """The functions whose URLs it gets: it may call them, or its variables ask for them."""
        return [
            other for other in self.functions
            if Caller(Kind.FUNCTION, caller.name) in other.invoked_by
            or f"{other.variable}_URL" in caller.asks_for
        ]  # fmt: skip


def folder_name(in_map: str) -> str:
    return in_map.replace("-", "_")


def read(prefix: str, environment: Environment, complete: bool = True) -> App:
    """The app in this folder. Members may still contain $PROJECT (see App.in_project), flags and
    variables any $NAME (see `expanded`). Unless `complete`, trust-map may, too (see App.missing)."""
    folder = pathlib.Path()
    file = folder / "trust-map"
    if not file.exists():
        raise Wrong([f"there is no trust-map in {folder.absolute()}"])
    text = file.read_text("utf-8-sig", "replace") if file.is_file() else "\0"
    if "\0" in text:
        raise Wrong(["trust-map cannot be read as text in UTF-8"])
    lines, problems = parsed(text, environment, prefix)
    problems += without_a_line(folder, lines)
    missing = [said for line in lines for said in line.missing]
    if problems or complete and missing:
        problems += missing
        raise Wrong(["\n".join(["trust-map cannot be used:", *(f"  {p}" for p in problems)])])
    if not NAME.fullmatch(f"{prefix}builder"):
        too_long = f"PREFIX={prefix} is too long: the builder's service account, {prefix}builder-sa,"
        problems.append(f"{too_long} may have at most 30 characters")
    known = {line.name for line in lines}
    urls = {f"{name.upper().replace('-', '_')}_URL" for name in known}
    functions = []
    for line in lines:
        name_problems = list(wrong_name(folder, prefix, line.name))
        function, file_problems = with_files(folder, prefix, line, known, urls)
        problems += name_problems + file_problems
        functions.append(function)
    if problems:
        raise Wrong(problems)
    return App(prefix, tuple(functions), missing=tuple(f"trust-map: {said}" for said in missing))


def expanded(app: App, environment: Environment) -> tuple[App, list[str]]:
    """The app with the environment's values in flags and variables, and the names that have none."""
    problems = list(app.missing)

    def value_of(file: str, line: str, text: str, is_chosen: bool) -> str:
        found = environment.expanded(text)
        if is_chosen:
            problems.extend(f"{file}: {line}, but {environment.nowhere(n)}" for n in found.missing)
        return found.text

    functions = []
    for function in app.functions:
        chosen, folder = function in app.chosen, function.folder
        flags = [value_of(f"{folder}/flags", f, f, chosen) for f in function.flags]
        variables = [
            Variable(v.name, value_of(f"{folder}/variables", f"{v.name}={v.value}", v.value, chosen))
            for v in function.variables
        ]
        function = function._replace(flags=tuple(flags), variables=tuple(variables))
        functions.append(function)
    return app._replace(functions=tuple(functions)), problems


def without_a_line(folder: pathlib.Path, lines: list[Line]) -> list[str]:
    known = {folder_name(line.name) for line in lines}
    return [
        f"functions/{main.parent.name} has no line. To let nobody call it, add:"
        f" {main.parent.name.replace('_', '-')}  -  -"
        for main in sorted(folder.glob("functions/*/main.py"))
        if main.parent.name not in known
    ]


def wrong_name(folder: pathlib.Path, prefix: str, in_map: str) -> Iterable[str]:
    name = prefix + in_map
    if not NAME.fullmatch(name):
        yield (
            f"{name} cannot be a function's name: it needs 3 to 27 of a-z, 0-9 and -, with a"
            " letter first"
        )
    if in_map in TAKEN:
        yield f"{name} cannot be a function's name: it is taken"
    main = f"functions/{folder_name(in_map)}/main.py"
    if not (folder / main).exists():
        yield f"trust-map names {in_map}, but there is no {main}"


# ---- a function's own files


def with_files(
    folder: pathlib.Path, prefix: str, line: Line, known: set[str], urls: set[str]
) -> tuple[Function, list[str]]:
    where = f"functions/{folder_name(line.name)}"
    flags, no_flags = lines_of(folder / where / "flags")
    variables, no_variables = lines_of(folder / where / "variables")
    problems = [f"{where}/flags: {p}" for p in (*no_flags, *wrong_flags(flags, where))]
    problems += [
        f"{where}/variables: {p}" for p in (*no_variables, *wrong_variables(variables, urls))
    ]
    function = Function(
        prefix + line.name,
        line.name,
        tuple(caller_named(word, prefix, known) for word in line.invoked_by if word != "-"),
        tuple(word for word in line.may_use if word != "-"),
        tuple(flags),
        tuple(variable_of(text) for text in variables if "=" in text),
        tuple(text for text in variables if "=" not in text),
    )
    return function, problems


def caller_named(word: str, prefix: str, known: set[str]) -> Caller:
    if word in ("you", "anonymous"):
        return Caller(Kind(word), word)
    if word in known:
        return Caller(Kind.FUNCTION, prefix + word)
    return Caller(Kind.MEMBER, word)


def variable_of(line: str) -> Variable:
    name, _, value = line.partition("=")
    return Variable(name, value)
