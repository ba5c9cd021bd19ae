"""A stand-in for gcloud: the commands that a deploy and a shell with functions need.

Same words, same flags, same output; it refuses anything else. It acts as the project's administrator
without checking any policy: policies only decide who may call the functions.
"""

import argparse
import functools
import importlib
import json
import os
import re
import shlex
import sys
from collections.abc import Callable, Sequence

from tool.local import state
from tool.local.gcloud import output
from tool.local.records import TYPE_CHECKING, Json, Record
from tool.local.state import STATE

if TYPE_CHECKING:
    from typing import NoReturn

VERSION = "528.0.0"
Run = Callable[[argparse.Namespace], object]


class Command(Record):
    """A command of gcloud: its arguments, and the function that runs it and returns what to print."""

    arguments: tuple[str, ...]
    run: Run


COMMANDS: dict[str, Command] = {}


class Failed(Exception):
    """What gcloud would print on standard error before it exits with 1."""


class Misused(Exception):
    """What gcloud would print about an invalid flag or argument before it exits with 2."""


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> "NoReturn":
        raise Misused(message)


def command(words: str, *arguments: str) -> Callable[[Run], Run]:
    """Registers a command: NAME is a positional argument, NAMES+ several; --a a flag, --a! a switch,
    --a* a flag that may be given several times."""

    def register(function: Run) -> Run:
        COMMANDS[words] = Command(arguments, function)
        return function

    return register


ALWAYS = ("--project", "--format", "--flatten", "--filter", "--sort-by", "--quiet!", "--verbosity", "--account")


# The files, by how their commands begin. Only the first match is loaded: a deploy runs many commands.
FAMILIES = {
    "account": ("auth ", "config ", "projects ", "services "),
    "iam": ("iam ",),
    "secrets": ("secrets ",),
    "deploy": ("run deploy ", "run services update "),
    "logs": ("run services logs ", "beta run ", "logging "),
    "invokers": tuple(f"run services {verb}-iam-policy" for verb in ("get", "set", "add", "remove")),
    "run": ("run services ", "run revisions ", "run jobs "),
}


def load(*families: str) -> None:
    for family in families:
        importlib.import_module(f"tool.local.gcloud.{family}")


def parsed(words: str, arguments: Sequence[str], rest: Sequence[str]) -> argparse.Namespace:
    wide = functools.partial(argparse.HelpFormatter, width=100)  # otherwise it loads code that measures the terminal
    parser = Parser(prog=f"gcloud {words}", formatter_class=wide, allow_abbrev=False, add_help=False)
    for name in dict.fromkeys((*arguments, *ALWAYS)):
        how: dict[str, Json] = {}
        if name.endswith("!"):
            how = {"action": "store_true"}
        elif name.endswith("*"):
            how = {"action": "append"}
        elif name.endswith("+"):
            how = {"nargs": "+"}
        elif name.endswith("?") and not name.startswith("-"):
            how = {"nargs": "?"}
        elif name == "--region" and not configured("run/region"):
            how = {"required": True}
        parser.add_argument(*(["-q"] if name == "--quiet!" else []), name.rstrip("!+?*"), **how)
    return parser.parse_args(rest)


def configured(name: str) -> str | None:
    """A property set by `gcloud config set` or by a variable of the environment."""
    variable = "CLOUDSDK_" + name.upper().replace("/", "_")
    return os.environ.get(variable) or (state.read("config") or {}).get(name)


def main(*argv: str) -> None:
    """Runs one command line and prints its result in the requested --format."""
    if argv[:1] in (("--version",), ("version",)):
        show_version(as_json=argv[-1].endswith("json"))
    elif not argv or {"--help", "-h", "help"} & set(argv):
        show_help(" ".join(word for word in argv if word[0] != "-" and word != "help"))
    else:
        run(argv)


def show_version(as_json: bool) -> None:
    said = f"Google Cloud SDK {VERSION} (local stand-in)"
    print(json.dumps({"Google Cloud SDK": VERSION}, indent=2) if as_json else said)


def show_help(asked: str) -> None:
    load(*FAMILIES)
    known = sorted(words for words in COMMANDS if words.startswith(asked)) or sorted(COMMANDS)
    print("The local stand-in for gcloud knows:", *(f"  gcloud {w}" for w in known), sep="\n")


def run(argv: Sequence[str]) -> None:
    line = " ".join(argv)
    load(*[family for family, begin in FAMILIES.items() if line.startswith(begin)][:1])
    words, rest = known_command(argv)
    name = f"gcloud.{words.replace(' ', '.')}"
    try:
        args = parsed(words, COMMANDS[words].arguments, rest)
        check_place(args)
        keep_record(argv)
        meet_fault(line)
        result = COMMANDS[words].run(args)
        after_change(words)
        if result is not None:
            output.show(result, output.Wish(args.format, args.flatten, args.filter, args.sort_by))
        sys.stdout.flush()
    except (Failed, output.Unknown) as failure:
        print(f"ERROR: ({name}) {failure}", file=sys.stderr)
        raise SystemExit(1) from None
    except Misused as misuse:
        print(f"ERROR: ({name}) {misuse}", file=sys.stderr)
        raise SystemExit(2) from None
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # the reader, such as head, has closed the pipe


def check_place(args: argparse.Namespace) -> None:
    """Checks that there is a local project, and that --project and --region do not name another."""
    project = state.found_project()
    if not project:
        raise Failed("there is no local project. Run ./deploy.sh --local")
    if args.project and args.project not in (project.id, project.number):
        raise Failed(f"[{args.project}] is not the local project, which is {project.id}")
    if getattr(args, "region", None) not in (None, project.region):
        raise Failed(f"the local project has no region but {project.region}")


def keep_record(argv: Sequence[str]) -> None:
    """Adds the command, as it was given, to the local project's audit log."""
    with open(STATE / "audit.log", "a", encoding="utf-8", errors="replace") as log:
        log.write(shlex.join(["gcloud", *argv]) + "\n")


def meet_fault(line: str) -> None:
    """Fails as the cloud does, if faults.json says so: [{"match", "times", "error"}, ...]."""
    if not state.read("faults", list):
        return
    with state.locked("faults"):
        faults = state.read("faults", list)
        for fault in faults:
            if fault["times"] > 0 and re.search(fault["match"], line):
                fault["times"] -= 1
                state.write("faults", faults)
                raise Failed(fault["error"])


def after_change(words: str) -> None:
    """Lets tests kill deploy.sh at any point: after_change.json says after which change, and how."""
    reading = ("list", "describe", "read", "tail", "print", "get", "proxy")
    planned = state.read("after_change")
    if not planned or any(word.startswith(reading) for word in words.split()[1:]):
        return
    with state.locked("after_change"):
        planned = state.read("after_change")
        planned["number"] -= 1
        state.write("after_change", planned)
    if planned["number"] == 0:
        import subprocess  # slow to load, and each command of a deploy is a process

        subprocess.run(["bash", "-c", planned["then"]], check=False)


def known_command(argv: Sequence[str]) -> tuple[str, Sequence[str]]:
    """The words of the command that the line begins with, and the rest of the line."""
    for length in (6, 5, 4, 3, 2, 1):
        words = " ".join(argv[:length])
        if words in COMMANDS:
            return words, argv[length:]
    asked = " ".join(["gcloud", *argv]).split(" --")[0]
    hint = "gcloud --help lists what it knows"
    print(f"ERROR: the local stand-in for gcloud does not know: {asked} ({hint})", file=sys.stderr)
    raise SystemExit(2)
