"""The verbs of deploy.sh."""

from __future__ import annotations

import asyncio
import difflib
import os
import pathlib
import sys
import tempfile
from collections.abc import Iterable
from functools import partial
from typing import NoReturn

from tool.deploy import app as the_app
from tool.deploy import (
    cut,
    destroy,
    diff,
    env,
    facts,
    flag_values,
    inventory,
    run,
    table,
    who_forms,
    who_text,
)
from tool.deploy.app import App
from tool.deploy.apply import Deployed, deploy
from tool.deploy.cloud import Found
from tool.deploy.environment import Environment
from tool.deploy.interruption import Interrupted, interruptible
from tool.deploy.options import HELP, ROOT, Form, Options, parsed
from tool.deploy.options import in_environment as options_in_environment
from tool.deploy.progress import Progress, Stop, error, say
from tool.deploy.target import Target
from tool.deploy.targets import chosen
from tool.deploy.this_machine import VENV_PYTHON, ThisMachine, make_environment
from tool.deploy.verify import Measured, conclude, verify
from tool.deploy.watch import Watching
from tool.python import lock

MAIN = pathlib.Path(__file__).with_name("__main__.py")


def main(words: list[str]) -> int:
    """Does what the arguments say. Returns the exit status."""
    try:
        options = parsed(words)
        if options.verb == "help":
            print(HELP, end="")
            return 0
        folder = folder_of(options)
        if options.verb == "explain":
            in_environment(words, options)
        os.chdir(folder)
        options, environment = options_in_environment(options)
        return asyncio.run(interruptible(work(options, environment)))
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
    except BrokenPipeError:  # the reader, such as head, has closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1


def folder_of(options: Options) -> pathlib.Path:
    of_the_clone = options.verb == "lock" or not options.app
    folder = ROOT if of_the_clone else pathlib.Path(options.app)
    if not folder.is_dir():
        raise Stop(f"there is no folder {options.app}", 2)
    return folder


async def work(options: Options, environment: Environment) -> int:
    if options.verb == "diff":
        diff.diff(options.name, environment)
        return 0
    if options.verb == "lock":
        if not options.check:
            await make_environment()
        return await lock.lock(options.check)
    changes = options.verb in ("deploy", "destroy")
    options = options._replace(dry_run=options.dry_run and changes)
    progress = Progress(options.dry_run)
    app, missing = None, list[str]()
    if options.verb not in ("destroy", "explain"):
        app = the_app.read(options.prefix, environment, complete=options.verb != "deploy")
        app, missing = chosen_of(app, options, environment)
    target = chosen(options, progress, environment)
    if options.verb == "run":
        return await run_here(options, environment, app, target, missing)
    await target.begin(app)
    if options.verb == "explain":
        return await explain(target, options)
    if options.verb == "destroy":
        await destroy.destroy(options, target, environment)
        return 0
    assert app
    app = app.in_project(target.project)
    with tempfile.TemporaryDirectory() as folder:
        app = app.public() if options.public else app
        return await of_app(options, app, target, folder, missing)


async def of_app(
    options: Options, app: App, target: Target, folder: str, missing: list[str]
) -> int:
    """The verbs that read trust-map.

    `folder`: this run's own, because two may run at the same time. `missing`: what a deploy needs and the
    environment lacks.
    """
    if options.verb == "env":
        for line in await env.exported(app, target):
            say(line)
    elif options.verb == "who":
        return await print_who(options, app, target)
    elif options.verb == "verify":
        found = await must_be_deployed(app, target)
        measured = await verify(options, app, target, pathlib.Path(folder), found, found.above, {})
        show(measured, target, options.form)
    elif deployed := await deploy(options, app, target, pathlib.Path(folder), missing):
        show(deployed.measured, target, options.form)
        say(f'To try it: eval "$({target.again("env")})"')
        if isinstance(target, ThisMachine):
            say(f"To see every call: {target.console_url()}")
            if options.watch:
                await watch_files(options, target, app, deployed, pathlib.Path(folder))
    return 0


async def watch_files(
    options: Options, target: ThisMachine, app: App, deployed: Deployed, folder: pathlib.Path
) -> None:
    read = partial(read_again, options, target)
    shown = partial(show, target=target, form=options.form)
    await Watching(options, target, folder, app, read, shown).watch(deployed.found)


def chosen_of(app: App, options: Options, environment: Environment) -> tuple[App, list[str]]:
    """The app with the functions to deploy, and what in their files has no value here, or a wrong one."""
    asked = options.names if options.verb == "deploy" else ()
    names = [app.prefix + name.removeprefix(app.prefix) for name in asked]
    for name in names:
        if not app.function(name):
            raise no_function(app, name)
    app = app._replace(only=tuple(names))
    app, missing = the_app.expanded(app, environment)
    if options.verb == "deploy":
        missing += [
            f"{function.folder}/flags: {problem}"
            for function in app.chosen for problem in flag_values.wrong(function)
        ]  # fmt: skip
    return app, missing


def read_again(options: Options, target: Target) -> App:
    """The app as its files say now, with all checks."""
    now, environment = options_in_environment(options)
    before = target.environment
    for name in ("PREFIX", "PROJECT", "REGION"):
        if environment.setting(name) != before.setting(name):
            raise Stop(f"{name} has changed. Stop watching with Ctrl-C, and deploy again")
    target.environment = environment
    app, missing = chosen_of(the_app.read(now.prefix, environment), now, environment)
    if missing:
        raise the_app.Wrong(missing)
    app = app.in_project(target.project)
    return app.public() if options.public else app


def no_function(app: App, name: str) -> Stop:
    near = difflib.get_close_matches(name, app.names, 1)
    question = f". Did you mean {near[0]}?" if near else ""
    return Stop(f"there is no function {name}, but {' '.join(app.names)}{question}", 2)


async def must_be_deployed(app: App, target: Target) -> Found:
    found = await inventory.look(target)
    for name in app.names:
        if not found.service(name, target.region):
            raise not_deployed(target, name)
    await target.know_number(found.services[0].project_number if found.services else "")
    return found


def not_deployed(target: Target, name: str) -> Stop:
    where = f"project {target.project}, region {target.region}"
    return Stop(f"{name} is not deployed in {where}. Run {target.again()}")


def show(measured: Measured, target: Target, form: Form) -> None:
    """Prints what was measured. Raises Stop if it is not what the map says, or not known."""
    if form is Form.JSON:
        say(table.as_json(measured))
    else:
        drawn = table.as_mermaid(measured) if form is Form.MERMAID else table.as_text(measured, target)
        say("\n".join(drawn))
    sentence = conclude(measured)
    if form is Form.TEXT:
        say(sentence)


async def print_who(options: Options, app: App, target: Target) -> int:
    """Returns the exit status: 3 if a policy that decides cannot be read."""
    if not options.name:
        raise Stop(f"who needs a function: {' '.join(app.names)}", 2)
    name = app.prefix + options.name.removeprefix(app.prefix)
    there = await inventory.look(target)
    if not there.service(name, target.region):
        raise not_deployed(target, name) if app.function(name) else no_function(app, name)
    collected = await facts.collected(app, target, there, name)
    found = cut.found_by(collected, f"{target.region}/{name}")
    if options.cut:
        found = cut.with_cut(found)
    say("\n".join(who_lines(found, options)))
    return 3 if collected.hidden else 0


def who_lines(found: cut.Found, options: Options) -> Iterable[str]:
    if options.form is Form.MERMAID:
        return who_forms.as_mermaid(found)
    if options.form is Form.JSON:
        return [who_forms.cut_as_json(found) if options.cut else who_forms.as_json(found)]
    return who_text.cut_as_text(found) if options.cut else who_text.as_text(found)


async def explain(target: Target, options: Options) -> int:
    from tool.deploy import explaining  # it needs a package from the clone's environment

    return await explaining.explained(target, options.name)


async def run_here(
    options: Options, environment: Environment, app: App | None, target: Target, missing: list[str]
) -> NoReturn:
    if not options.name or not app:
        raise Stop("run needs a function: ./deploy.sh run NAME --local", 2)
    name = options.prefix + options.name.removeprefix(options.prefix)
    if app.function(name) and missing:
        raise the_app.Wrong(missing)
    if isinstance(target, ThisMachine) and not target.is_there:
        if not app.function(name):
            raise no_function(app, name)
        say("Nothing is deployed on this machine yet. Deploying everything first.")
        await work(options._replace(verb="deploy", names=()), environment)
    await target.begin(app)
    await run.deploy_what_is_saved(app.in_project(target.project), name, target)
    run.here(target, name)


def in_environment(words: list[str], options: Options) -> None:
    """explain checks signatures with a package from the clone's environment, so it continues there."""
    ours = ROOT / ".venv"
    if options.local and not ours.exists() or pathlib.Path(sys.prefix) == ours:
        return
    asyncio.run(interruptible(made_environment()))
    os.execv(VENV_PYTHON, [VENV_PYTHON, "-I", "-X", "utf8", str(MAIN), *words])


async def made_environment() -> int:
    await make_environment()
    return 0
