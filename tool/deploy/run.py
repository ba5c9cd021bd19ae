"""run FUNCTION: runs it in this terminal, as it is saved."""

from __future__ import annotations

import os
import pathlib
import tempfile
from typing import NoReturn

from tool.deploy import inventory
from tool.deploy.app import App
from tool.deploy.progress import Stop, say
from tool.deploy.rollout import Rollout
from tool.deploy.target import Target
from tool.deploy.this_machine import LOCAL_TOOL, VENV_PYTHON


async def deploy_what_is_saved(app: App, name: str, target: Target) -> None:
    """Deploys the files first if they are newer than what runs."""
    function = app.function(name)
    if not function:  # deployed by hand
        return
    found = await inventory.look(target)
    with tempfile.TemporaryDirectory() as folder:
        rollout = Rollout(app, target, found, pathlib.Path(folder))
        _, fingerprint = rollout.stage(function)
        service = found.service(name, target.region)
        if service and rollout.is_as_deployed(function, service, fingerprint):
            return
        say(f"  {name}: the saved files are newer than what runs, and are deployed first")
        if not await rollout.deploy(function):
            raise Stop(f"{name} cannot run as it is saved. Correct the errors above")


def here(target: Target, name: str) -> NoReturn:
    """Takes the place of deploy.sh: a debugger needs the terminal to itself."""
    os.execve(VENV_PYTHON, [*LOCAL_TOOL, "run", name], dict(target.gcloud.env))
