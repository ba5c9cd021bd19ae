"""The verbs and options of deploy.sh."""

from __future__ import annotations

import argparse
import asyncio
import difflib
import os
import pathlib
import re
import sys
import tempfile
from typing import NoReturn

from tool.deploy import app as the_app
from tool.deploy import destroy, diff, env, facts, inventory, table, who
from tool.deploy.app import App
from tool.deploy.apply import deploy
from tool.deploy.cloud import Found
from tool.deploy.interruption import Interrupted, interruptible
from tool.deploy.options import ROOT, Form, Options
from tool.deploy.progress import Progress, Stop, error, say
from tool.deploy.target import (
    LOCAL_MAIN,
    REGION,
    VENV_PYTHON,
    GoogleCloud,
    ThisMachine,
    chosen,
    make_environment,
)
from tool.deploy.verify import Measured, conclude, verify
from tool.deploy.watch import watch
from tool.python import lock

HELP = f"""\
usage: ./deploy.sh [VERB] [NAME...] [OPTION...]

  deploy [FUNCTION...]  the default: deploy the functions and their bindings, then verify; safe to
                   run again. With names: only these functions
  verify           call every function as every caller, and print the trust map as measured
  who FUNCTION     print every principal that could make the function run, how, and what ends it
  explain URL      say why the platform lets in a token (on standard input), or answers it with 401, 403 or 404
  diff COMMIT      print what trust-map and flags open and close, compared with that commit; fails if they open something
  env              print what a shell needs to try things out: eval "$(./deploy.sh env)"
  run FUNCTION     with --local: run a deployed function in this terminal, so that breakpoint() works
  lock             lock the newest packages that go together; --check: say which lock is out of date
  destroy [FUNCTION]  remove what was deployed, or one function
  help             print this

  --local         on this machine instead of Google Cloud, with the same verbs
  --project=ID    default: gcloud's own, or local-project with --local
  --region=NAME   default: gcloud's own (run/region), or {REGION}
  --app=DIR       the folder of trust-map and functions/; default: the one of deploy.sh
  --public        let everyone call what "you" may call; give it to verify, too
  --dry-run       print the commands that would change something, and run none
  --as-everyone   with verify: let yourself act as each function's account, until verify ends
  --format=FORM   with verify and who: text, json or mermaid
  --watch         with --local: deploy again whenever a file is saved, until Ctrl-C
  --propagation=SECONDS   with --local: how long a change of a policy takes, as on Google Cloud
  --quiet         destroy without asking first
  --delete-data   with destroy: the database, too
  --check         with lock: change nothing

PREFIX=dev- ./deploy.sh puts dev- before every name, so that several copies can live in one project.
Exit status: 0 done, or as the map says; 1 failed, or wrong; 2 these words are not understood;
3 not known (of explain: refused, too).
"""
VERBS = ("deploy", "verify", "who", "explain", "diff", "env", "run", "lock", "destroy", "help")
TAKES_ONE = ("who", "explain", "diff", "run", "destroy")
SWITCHES = ("local", "public", "dry-run", "as-everyone", "watch", "quiet", "delete-data", "check")
VALUES = ("project", "region", "app", "format", "propagation")


def main(words: list[str]) -> int:
    """Does what the words say. Returns the exit status."""
    try:
        options = parsed(words)
        if options.verb == "help":
            print(HELP, end="")
            return 0
        folder = folder_of(options)
        if options.verb == "explain":
            in_environment(words, options)
        os.chdir(folder)
        return asyncio.run(interruptible(work(options)))
    except Interrupted as interrupted:
        error(
            "\ndeploy.sh: interrupted. What was done so far stays. Run the same command again: it"
            " goes on from there."
        )
        return interrupted.status
    except the_app.Wrong as wrong:
        error(f"deploy.sh: {wrong}")
        return 1
    except Stop as stop:
        error(f"deploy.sh: {stop}")
        return stop.status
    except BrokenPipeError:  # whoever read has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1


# ---- the words


class Words(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:  # argparse repeats words, and one may be a token
        raise Stop(f"these words are not understood ({LISTS_THEM})", 2)


LISTS_THEM = "./deploy.sh help lists them"


def parsed(words: list[str]) -> Options:
    """The options. Raises Stop for a word that is none; what may be a token is never repeated."""
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
        given.check, os.environ.get("PREFIX", ""),
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
    """Whether it can be repeated: no token looks like this."""
    return bool(re.fullmatch(r"[A-Za-z][A-Za-z-]{0,30}", word))


def did_you_mean(word: str, known: list[str] | tuple[str, ...]) -> str:
    near = difflib.get_close_matches(word.rstrip("="), known, 1) if word else []
    question = f"; did you mean {near[0]}?" if near else ""
    return f"{f': {word}' if word else ''} ({LISTS_THEM}){question}"


def check_together(options: Options) -> None:
    """What goes together, and with which verb."""
    deploys_here = options.verb == "deploy" and options.local
    for name, is_given, fits, needs in (
        ("--watch", options.watch, deploys_here, "--local, and with no verb but deploy"),
        ("--propagation", options.propagation is not None, deploys_here, "--local, and with no verb but deploy"),
        ("--as-everyone", options.as_everyone, options.verb == "verify", "verify"),
        ("--format", options.form is not Form.TEXT, options.verb in ("verify", "who"), "verify and who"),
        ("--check", options.check, options.verb == "lock", "lock"),
        ("run", options.verb == "run", options.local or options.verb != "run", "--local"),
    ):  # fmt: skip
        if is_given and not fits:
            raise Stop(f"{name} goes with {needs}", 2)
    if options.verb == "explain":
        check_url(options.name)
    if not re.fullmatch("[a-z0-9-]*", options.prefix):
        raise Stop(
            f"PREFIX={options.prefix} cannot begin a name: it may only contain a-z, 0-9 and -", 2
        )


def check_url(url: str) -> None:
    """Says what is wrong, and repeats nothing of it: it may be a token."""
    if not url:
        raise Stop(
            "explain needs the URL of the call, and a token: gcloud auth print-identity-token |"
            " ./deploy.sh explain URL",
            2,
        )
    if not re.fullmatch(r"https?://[A-Za-z0-9.:-]+([/?#].*)?", url):
        raise Stop("explain needs a URL that begins with http:// or https://", 2)


def folder_of(options: Options) -> pathlib.Path:
    of_the_clone = options.verb == "lock" or not options.app
    folder = ROOT if of_the_clone else pathlib.Path(options.app)
    if not folder.is_dir():
        raise Stop(f"there is no folder {options.app}", 2)
    return folder


# ---- the verbs


async def work(options: Options) -> int:
    if options.verb == "diff":
        diff.diff(options.name)
        return 0
    if options.verb == "lock":
        if not options.check:
            await make_environment()
        return await lock.lock(options.check)
    changes = options.verb in ("deploy", "destroy")
    options = options._replace(dry_run=options.dry_run and changes)
    progress = Progress(options.dry_run)
    app = None if options.verb in ("destroy", "explain", "run") else the_app.read(options.prefix)
    if app and options.verb == "deploy":
        app = chosen_of(app, options)
    target = chosen(options, progress)
    await target.begin(app)
    if options.verb == "explain":
        return await explain(target, options)
    if options.verb == "destroy":
        await destroy.destroy(options, target)
        return 0
    if options.verb == "run":
        run_here(target, options)
    assert app
    app = app.in_project(target.project)
    with tempfile.TemporaryDirectory() as folder:
        return await of_app(options, app.public() if options.public else app, target, folder)


async def of_app(
    options: Options, app: App, target: GoogleCloud | ThisMachine, folder: str
) -> int:
    """The verbs that read trust-map. `folder`: of this run's, for two may run at the same time."""
    if options.verb == "env":
        for line in await env.exported(app, target):
            say(line)
    elif options.verb == "who":
        await print_who(options, app, target)
    elif options.verb == "verify":
        found = await must_be_deployed(app, target)
        measured = await verify(options, app, target, pathlib.Path(folder), found, None, {})
        show(measured, target, options.form)
    elif deployed := await deploy(options, app, target, pathlib.Path(folder)):
        show(deployed.measured, target, options.form)
        if options.watch and isinstance(target, ThisMachine):
            await watch(app, target, pathlib.Path(folder), deployed.found)
        else:
            say(f'To try it: eval "$({target.again("env")})"')
    return 0


def chosen_of(app: App, options: Options) -> App:
    """For a deploy: with the functions that were named, and all that they need of this shell."""
    names = [app.prefix + name.removeprefix(app.prefix) for name in options.names]
    for name in names:
        if not app.function(name):
            raise no_function(app, name)
    app = app._replace(only=tuple(names))
    if not_set := the_app.not_set(app, os.environ):
        raise the_app.Wrong(not_set)
    return app


def no_function(app: App, name: str) -> Stop:
    near = difflib.get_close_matches(name, app.names, 1)
    question = f". Did you mean {near[0]}?" if near else ""
    return Stop(f"there is no function {name}, but {' '.join(app.names)}{question}", 2)


async def must_be_deployed(app: App, target: GoogleCloud | ThisMachine) -> Found:
    found = await inventory.look(target)
    for name in app.names:
        if not found.service(name, target.region):
            raise not_deployed(target, name)
    await target.know_number(found.services[0].project_number if found.services else "")
    return found


def not_deployed(target: GoogleCloud | ThisMachine, name: str) -> Stop:
    where = f"project {target.project}, region {target.region}"
    return Stop(f"{name} is not deployed in {where}. Run {target.again()}")


def show(measured: Measured, target: GoogleCloud | ThisMachine, form: Form) -> None:
    """Prints what was measured. Raises Stop where it is not what the map says, or not known."""
    if form is Form.JSON:
        say(table.as_json(measured))
    else:
        drawn = table.as_mermaid(measured) if form is Form.MERMAID else table.as_text(measured, target)
        say("\n".join(drawn))
    sentence = conclude(measured)
    if form is Form.TEXT:
        say(sentence)


async def print_who(options: Options, app: App, target: GoogleCloud | ThisMachine) -> None:
    if not options.name:
        raise Stop(f"who needs a function: {' '.join(app.names)}", 2)
    name = app.prefix + options.name.removeprefix(app.prefix)
    found = await inventory.look(target)
    if not found.service(name, target.region):
        raise not_deployed(target, name) if app.function(name) else no_function(app, name)
    collected = await facts.collected(app, target, found, name)
    chains = who.found_by(collected, target.project, f"{target.region}/{name}")
    if options.form is Form.JSON:
        say(who.as_json(chains))
    else:
        drawn = who.as_mermaid(chains) if options.form is Form.MERMAID else who.as_text(chains)
        say("\n".join(drawn))


async def explain(target: GoogleCloud | ThisMachine, options: Options) -> int:
    from tool.deploy import explaining  # it needs a package of the clone's environment

    return await explaining.explained(target, options.name)


def run_here(target: GoogleCloud | ThisMachine, options: Options) -> NoReturn:
    """Takes the place of deploy.sh: a debugger wants the terminal for itself."""
    if not options.name:
        raise Stop("run needs a function: ./deploy.sh run NAME --local", 2)
    name = options.prefix + options.name.removeprefix(options.prefix)
    os.execve(VENV_PYTHON, [VENV_PYTHON, "-I", LOCAL_MAIN, "run", name], dict(target.gcloud.env))


def in_environment(words: list[str], options: Options) -> None:
    """explain checks signatures, with a package of the clone's environment: it goes on there."""
    ours = ROOT / ".venv"
    if options.local and not ours.exists() or pathlib.Path(sys.prefix) == ours:
        return
    asyncio.run(interruptible(made_environment()))
    os.execv(VENV_PYTHON, [VENV_PYTHON, "-I", str(MAIN), *words])


async def made_environment() -> int:
    await make_environment()
    return 0


MAIN = pathlib.Path(__file__).with_name("__main__.py")
