"""env: the lines that a shell evaluates so that you can try things out in it."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator

from tool.deploy import inventory
from tool.deploy.app import App
from tool.deploy.options import ROOT
from tool.deploy.progress import Stop, error
from tool.deploy.target import Target
from tool.deploy.this_machine import ThisMachine


async def exported(app: App, target: Target) -> list[str]:
    """The lines. A function that is not deployed has none, and standard error says so."""
    found = await inventory.look(target)
    there = [f for f in app.functions if found.service(f.name, target.region)]
    for function in app.functions:
        if function not in there:
            variable = f"{function.variable}_URL"
            error(f"deploy.sh: {function.name} is not deployed, so it has no {variable} yet")
    if not there and not target.local:
        raise Stop(
            f"nothing is deployed in project {target.project}, region {target.region}. Run"
            f" {target.again()}"
        )
    await target.know_number(found.services[0].project_number if found.services else "")
    lines = []
    for function in there:
        lines.append(line(f"{function.variable}_URL", target.url(function.name)))
        lines.append(line(f"{function.variable}_ACCOUNT", target.email(function.name)))
        if isinstance(target, ThisMachine):
            host = target.addresses[function.name].metadata_host
            lines.append(line(f"{function.variable}_METADATA_HOST", host))
    lines += [line("PROJECT_ID", target.project), line("REGION", target.region)]
    lines.append(line("REGION_OF_ENV", target.region))  # an environment's file wins over this REGION
    if isinstance(target, ThisMachine):
        return [*lines, *of_this_machine(target)]
    return [*lines, line("CLOUDSDK_CORE_PROJECT", target.project)]


def of_this_machine(target: ThisMachine) -> Iterator[str]:
    yield line("CONSOLE_URL", target.console_url())
    yield line("LOCAL_STATE", str(target.state))
    if target.state_is_own:  # so that another clone does not take it for its own
        yield line("LOCAL_STATE_OF", os.getcwd())
    yield f'export PATH={shlex.quote(f"{ROOT}/tool/local/bin")}:"$PATH"'
    yield 'export no_proxy="127.0.0.1,localhost${no_proxy:+,$no_proxy}"'
    yield 'export NO_PROXY="$no_proxy"'


def line(name: str, value: str) -> str:
    return f"export {name}={shlex.quote(value)}"
