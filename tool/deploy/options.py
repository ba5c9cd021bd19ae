"""What was typed: a verb, names, options. Never repeats a word that may be a token."""

from __future__ import annotations

import argparse
import difflib
import enum
import os
import pathlib
import re
from typing import NamedTuple, NoReturn
from urllib.parse import urlsplit

from tool.deploy import environment
from tool.deploy.environment import Environment
from tool.deploy.progress import Stop

REGION = "us-central1"  # the default
ROOT = pathlib.Path(__file__).resolve().parent.parent.parent


class Form(enum.Enum):
    TEXT = "text"
    JSON = "json"
    MERMAID = "mermaid"


class Options(NamedTuple):
    verb: str
    names: tuple[str, ...] = ()
    local: bool = False
    project: str = ""
    region: str = ""
    app: str = ""  # as typed; "": the folder of deploy.sh
    public: bool = False
    dry_run: bool = False
    as_everyone: bool = False
    form: Form = Form.TEXT
    watch: bool = False
    propagation: int | None = None  # seconds
    quiet: bool = False
    delete_data: bool = False
    check: bool = False
    cut: bool = False
    environment: str = ""
    prefix: str = ""  # put before every name
    typed_prefix: str = ""  # the shell's PREFIX

    @property
    def name(self) -> str:
        return self.names[0] if self.names else ""


HELP = f"""\
usage: ./deploy.sh [VERB] [NAME...] [OPTION...]

  deploy [FUNCTION...]  the default: deploy the functions and their bindings, then verify; safe to
                   run again. With names: only these functions
  verify           call every function as every caller, and print the trust map as measured
  who FUNCTION     print every principal that could make the function run, how, and what ends it;
                   --cut: the commands that leave only the callers in the map
  explain URL      say why the platform lets in a token (on standard input), or answers it with 401, 403 or 404
  diff COMMIT      print what trust-map and flags open and close, compared with that commit; fails if they open something
  env              print what a shell needs to try things out: eval "$(./deploy.sh env)"
  run FUNCTION     with --local: run a deployed function in this terminal, so that breakpoint() works
  lock             lock the newest packages that work together; --check: say which lock is out of date
  destroy [FUNCTION]  remove what was deployed, or one function
  help             print this

  --local         on this machine instead of Google Cloud, with the same verbs
  --project=ID    default: gcloud's own, or local-project with --local
  --region=NAME   default: gcloud's own (run/region), or {REGION}
  --environment=NAME   use environments/NAME; default with --local: environments/local, if it exists
  --app=DIR       the folder with trust-map and functions/; default: deploy.sh's own
  --public        let everyone call what "you" may call; pass it to verify, too
  --dry-run       print the commands that would change something, and run none
  --as-everyone   with verify: let yourself act as each function's service account, until verify ends
  --format=FORM   with verify and who: text, json or mermaid
  --watch         with --local: deploy again whenever a file is saved, until Ctrl-C
  --propagation=SECONDS   with --local: how long a policy change takes to work, as on Google Cloud
  --quiet         with destroy: do not ask first
  --delete-data   with destroy: delete the database, too
  --check         with lock: change nothing
  --cut           with who: print one list of commands for the function; they are not run

PREFIX=dev- ./deploy.sh puts dev- before every name, so that several copies can live in one project.
PREFIX, PROJECT and REGION: an option wins, then the shell, then environments/NAME.
Exit status: 0 done, or as the map says; 1 failed, or not as the map says; 2 wrong usage;
3 not known (explain: refused, too).
"""
VERBS = ("deploy", "verify", "who", "explain", "diff", "env", "run", "lock", "destroy", "help")
TAKES_ONE = ("who", "explain", "diff", "run", "destroy")
SWITCHES = ("local", "public", "dry-run", "as-everyone", "watch", "quiet", "delete-data", "check", "cut")
VALUES = ("project", "region", "app", "environment", "format", "propagation")


class Words(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:  # argparse repeats words, and one may be a token
        raise Stop(f"the arguments are not understood ({LISTS_THEM})", 2)


LISTS_THEM = "./deploy.sh help lists them"


def parsed(words: list[str]) -> Options:
    """The options. Raises Stop for a word that is not one."""
    for word in words:
        check_option(word)
    parser = Words(add_help=False, allow_abbrev=False)
    parser.add_argument("words", nargs="*")
    parser.add_argument("-h", "--help", action="store_true")
    for name in SWITCHES:
        parser.add_argument(f"--{name}", action="store_true")
    for name in VALUES:
        parser.add_argument(f"--{name}", default="")
    given = parser.parse_intermixed_args(words)
    verb, names = verb_of(given.words)
    if given.help:
        verb = "help"
    if given.format not in ("", *(form.value for form in Form)):
        raise Stop("--format is text, json or mermaid", 2)
    if given.propagation and not given.propagation.isdecimal():
        raise Stop("--propagation needs a number of seconds", 2)
    options = Options(
        verb, tuple(names), given.local, given.project, given.region, given.app, given.public,
        given.dry_run, given.as_everyone, Form(given.format or "text"), given.watch,
        int(given.propagation) if given.propagation else None, given.quiet, given.delete_data,
        given.check, given.cut, given.environment,
    )  # fmt: skip
    check_together(options)
    return options


def check_option(word: str) -> None:
    name, assigned, value = word.partition("=")
    if not name.startswith("-") or word in ("-h", "--help"):
        return
    if name[2:] in VALUES:
        if not assigned:
            raise Stop(f"write {name}=VALUE, in one word", 2)
        if value:
            return
    if name[2:] not in SWITCHES or assigned:
        known = [f"--{known}" for known in (*SWITCHES, *VALUES)]
        said = name + assigned if plain(name.lstrip("-")) else ""
        raise Stop(f"unknown option{did_you_mean(said, known)}", 2)


def verb_of(words: list[str]) -> tuple[str, list[str]]:
    verb, names = (words[0], words[1:]) if words else ("deploy", [])
    if verb not in VERBS:
        raise Stop(f"unknown verb{did_you_mean(verb if plain(verb) else '', VERBS)}", 2)
    if verb in TAKES_ONE and len(names) > 1:
        if verb == "explain":
            raise Stop("explain takes one URL; the token comes by standard input", 2)
        said = " and ".join(names) if all(map(plain, names)) else str(len(names))
        raise Stop(f"{verb} takes one name, not {said}", 2)
    if verb not in (*TAKES_ONE, "deploy") and names:
        if names[0] in VERBS:
            raise Stop(f"one verb at a time, not {verb} and {names[0]}", 2)
        raise Stop(f"{verb} takes no name", 2)
    return verb, names


def plain(word: str) -> bool:
    """Whether it is safe to repeat: no token looks like this."""
    return bool(re.fullmatch(r"[A-Za-z][A-Za-z-]{0,30}", word))


def did_you_mean(word: str, known: list[str] | tuple[str, ...]) -> str:
    near = difflib.get_close_matches(word.rstrip("="), known, 1) if word else []
    question = f"; did you mean {near[0]}?" if near else ""
    return f"{f': {word}' if word else ''} ({LISTS_THEM}){question}"


def check_together(options: Options) -> None:
    """Checks which options go together, and with which verb."""
    deploys_here = options.verb == "deploy" and options.local
    for name, is_given, fits, needs in (
        ("--watch", options.watch, deploys_here, "--local, and with no verb but deploy"),
        ("--propagation", options.propagation is not None, deploys_here, "--local, and with no verb but deploy"),
        ("--as-everyone", options.as_everyone, options.verb == "verify", "verify"),
        ("--format", options.form is not Form.TEXT, options.verb in ("verify", "who"), "verify and who"),
        ("--check", options.check, options.verb == "lock", "lock"),
        ("--cut", options.cut, options.verb == "who" and options.form is not Form.MERMAID, "who, as text or json"),
        ("run", options.verb == "run", options.local or options.verb != "run", "--local"),
    ):  # fmt: skip
        if is_given and not fits:
            raise Stop(f"{name} goes with {needs}", 2)
    if options.verb == "explain":
        check_url(options.name)
    if not re.fullmatch("[A-Za-z0-9_-]*", options.environment):
        raise Stop("--environment is the name of a file in environments/", 2)


def in_environment(options: Options) -> tuple[Options, Environment]:
    """The options, completed from the environment. Raises Stop for a file that cannot be used."""
    found, problems = environment.read(options.environment, os.environ, options.local)
    if problems:
        raise Stop("; ".join(problems))
    prefix = found.setting("PREFIX")
    if not re.fullmatch("[a-z0-9-]*", prefix):
        raise Stop(f"PREFIX={prefix} cannot begin a name: it may only contain a-z, 0-9 and -", 2)
    # A shell that was set up for the local project has its REGION.
    shell_is_local = bool(os.environ.get("LOCAL_STATE")) and not options.local
    settings = found._replace(shell={}) if shell_is_local else found
    project = options.project or settings.setting("PROJECT")
    region = options.region or region_of(settings)
    if not re.fullmatch("([A-Za-z0-9][A-Za-z0-9_.:-]{0,99})?", project):
        raise Stop("PROJECT or --project is the id of a project, such as my-project-1", 2)
    if not re.fullmatch("[A-Za-z0-9-]{0,99}", region):
        raise Stop(f"REGION or --region is the name of a region, such as {REGION}", 2)
    typed_prefix = os.environ.get("PREFIX", "")
    return options._replace(prefix=prefix, typed_prefix=typed_prefix, project=project, region=region), found


def region_of(environment: Environment) -> str:
    """Nobody typed the REGION that `env` exported, so what a file says wins over it."""
    exported = environment.shell.get("REGION") == environment.shell.get("REGION_OF_ENV")
    return exported and environment.values.get("REGION") or environment.setting("REGION")


def check_url(url: str) -> None:
    """Says what is wrong without repeating any of it: it may be a token."""
    if not url:
        raise Stop(
            "explain needs the URL of the call, and a token: gcloud auth print-identity-token |"
            " ./deploy.sh explain URL",
            2,
        )
    if not re.fullmatch(r"https?://([A-Za-z0-9.:-]+|\[[0-9A-Fa-f:.]+\](:\d+)?)([/?#].*)?", url):
        raise Stop("explain needs a URL that begins with http:// or https://", 2)
    try:
        urlsplit(url)
    except ValueError:  # brackets without an IPv6 address in them
        raise Stop("explain needs a URL that begins with http:// or https://", 2) from None
