"""A stand-in for gcloud: exactly the commands that deploy.sh and the README use.

Same words, same flags, same output; anything else is refused. It acts as the project's
administrator, and asks no policy whether it may: policies decide who calls the functions.
"""

import argparse
import importlib
import json
import re
import shlex
import sys

from local import project as state
from local.project import STATE

COMMANDS = {}


class Failed(Exception):
    """What gcloud would say on standard error, before it exits with 1."""


class Parser(argparse.ArgumentParser):
    def error(self, message):
        print(f"ERROR: ({self.prog.replace(' ', '.')}) {message}", file=sys.stderr)
        raise SystemExit(2)


def command(words: str, *arguments: str):
    """Registers a command: NAME is a positional argument, NAMES+ several; --a a flag, --a! a switch."""

    def register(function):
        COMMANDS[words] = arguments, function
        return function

    return register


def parsed(words: str, arguments: tuple[str, ...], rest: list[str]):
    parser = Parser(prog=f"gcloud {words}", allow_abbrev=False, add_help=False)
    for name in (*arguments, "--project", "--format", "--quiet!"):
        how = {"!": {"action": "store_true"}, "+": {"nargs": "+"}}.get(name[-1], {})
        how = {"required": True} if name == "--region" else how
        parser.add_argument(name.rstrip("!+?"), **how)
    return parser.parse_args(rest)


def main(*argv: str) -> None:
    """Runs one command line and prints its result in the --format that was asked for."""
    for family in ("iam", "run"):
        importlib.import_module(f"local.gcloud_{family}")  # which registers its commands
    try:
        words, rest = known_command(list(argv))
        arguments, function = COMMANDS[words]
        args = parsed(words, arguments, rest)
        project = state.read("project")
        if not project:
            raise Failed("there is no local project: run ./deploy.sh --local")
        if args.project and args.project != project["id"]:
            raise Failed(f"[{args.project}] is not the local project, which is {project['id']}")
        if getattr(args, "region", None) not in (None, project["region"]):
            raise Failed(f"the local project has no region but {project['region']}")
        keep_record(argv)
        meet_fault(" ".join(argv))
        result = function(args)
    except Failed as failure:
        words = " ".join(a for a in argv[:3] if not a.startswith("-"))
        raise SystemExit(f"ERROR: (gcloud.{words.replace(' ', '.')}) {failure}") from None
    if result is not None:
        show(result, args.format)


def keep_record(argv) -> None:
    """The local project's audit log: every command, as it was given."""
    with open(STATE / "audit.log", "a") as log:
        print(shlex.join(["gcloud", *argv]), file=log)


def meet_fault(line: str) -> None:
    """Fails as the cloud does, where faults.json says so: [{"match", "times", "error"}, ...]."""
    faults = state.read("faults") or []
    for fault in faults:
        if fault["times"] > 0 and re.search(fault["match"], line):
            fault["times"] -= 1
            state.write("faults", faults)
            raise Failed(fault["error"])


def known_command(argv: list[str]) -> tuple[str, list[str]]:
    for length in (5, 4, 3, 2, 1):
        words = " ".join(argv[:length])
        if words in COMMANDS:
            return words, argv[length:]
    known = "".join(f"\n  gcloud {words}" for words in sorted(COMMANDS))
    asked = " ".join(["gcloud", *argv]).split(" --")[0]
    print(f"ERROR: the local stand-in for gcloud does not know: {asked}", file=sys.stderr)
    print(f"It knows:{known}", file=sys.stderr)
    raise SystemExit(2)


# ---- output


def show(result, wanted: str | None) -> None:
    wanted = wanted or "yaml"
    if isinstance(result, str):
        print(result)
    elif wanted == "json":
        print(json.dumps(result, indent=2))
    elif match := re.fullmatch(r"value(?:\[separator=[\"'](.)[\"']\])?\((.*)\)", wanted):
        for row in result if isinstance(result, list) else [result]:
            print((match[1] or "\t").join(value(row, key) for key in match[2].split(",")))
    elif wanted == "yaml":
        print("\n".join(yaml(result)))
    elif wanted != "none":
        raise SystemExit(f"ERROR: (gcloud) the local stand-in does not know --format={wanted}")


def value(row, key: str) -> str:
    for part in re.findall(r'"[^"]*"|[^."]+', key.strip()):
        if part == "basename()":
            row = row.rpartition("/")[2]
        elif part.startswith("segment("):
            row = row.split("/")[int(part[8:-1])]
        else:
            row = row.get(part, "") if isinstance(row, dict) else ""
    return ";".join(row) if isinstance(row, list) else str(row)


def yaml(content, indent: str = ""):
    """The lines of a dict or list as gcloud prints them: keys sorted, lists not indented."""
    for key in sorted(content) if isinstance(content, dict) else range(len(content)):
        inner, start = (
            content[key],
            f"{indent}{key}:" if isinstance(content, dict) else f"{indent}-",
        )
        if isinstance(inner, (dict, list)) and inner:
            lines = list(yaml(inner, indent + ("  " if isinstance(inner, dict) else "")))
            if isinstance(content, list):
                yield f"{start} {lines[0].strip()}"
                lines = lines[1:]
            else:
                yield start
            yield from lines
        else:
            yield f"{start} {inner}"


def table(headings: list[str], rows: list[list[str]]) -> str:
    widths = [max(len(row[i]) for row in [headings, *rows]) for i in range(len(headings))]
    lines = [
        "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip()
        for row in [headings, *rows]
    ]
    return "\n".join(lines)
