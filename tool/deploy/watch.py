"""--watch: deploys a function again whenever one of its files is saved, until Ctrl-C."""

from __future__ import annotations

import asyncio
import pathlib

from tool.deploy import inventory
from tool.deploy.app import App
from tool.deploy.cloud import Found
from tool.deploy.processes import side_by_side, started
from tool.deploy.progress import error, say
from tool.deploy.rollout import Rollout
from tool.deploy.target import LOCAL_MAIN, VENV_PYTHON, ThisMachine


async def watch(app: App, target: ThisMachine, work: pathlib.Path, found: Found) -> None:
    """`found`: what is there after the deploy before this."""
    command = (VENV_PYTHON, "-I", LOCAL_MAIN, "watch", "functions", "shared")
    try:
        async with started(*command, env=target.gcloud.env) as watcher:
            assert watcher.stdout
            await watcher.stdout.readline()  # an empty line: from now on nothing is missed
            say(
                "Watching. Save a file, and its function is deployed again. Ctrl-C ends the"
                " watching, not the functions."
            )
            async for line in watcher.stdout:
                saved = line.decode("utf-8", "replace").rstrip("\n").split("\t")
                paths = [pathlib.PurePath(path) for path in saved]
                found = await again(app, target, work, found, paths)
    except asyncio.CancelledError:  # by Ctrl-C: that is how it ends
        say("")


async def again(
    app: App, target: ThisMachine, work: pathlib.Path, found: Found, saved: list[pathlib.PurePath]
) -> Found:
    """Deploys what was saved. Where that fails, the version from before goes on answering."""
    shared = any(path.is_relative_to("shared") for path in saved)
    functions = [
        function for function in app.functions
        if shared or any(path.is_relative_to(function.folder) for path in saved)
    ]  # fmt: skip
    rollout = Rollout(app, target, found, work)
    await side_by_side(*map(rollout.deploy, functions))
    for sentence in sorted(rollout.missing_roles):
        error(f"  {sentence}")
    return found._replace(services=await inventory.services(target, found))
