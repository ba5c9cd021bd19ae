"""--watch: deploys again what a saved file changes, until Ctrl-C.

It polls the files. The system's own notifications are not enough: network folders and WSL send none, a
link's target is elsewhere, and watches can run out.
"""

from __future__ import annotations

import asyncio
import os
import pathlib
import time
from collections.abc import Callable, Iterable

from tool.deploy import inventory, staging
from tool.deploy.app import App, Function, Wrong
from tool.deploy.apply import Deployed, deploy
from tool.deploy.cloud import Found
from tool.deploy.options import Options
from tool.deploy.processes import side_by_side
from tool.deploy.progress import Stop, error, say
from tool.deploy.rollout import Rollout
from tool.deploy.this_machine import ThisMachine, secrets_folder
from tool.deploy.verify import Measured
from tool.python import lock

PAUSE = 0.04  # seconds between two looks; longer if a look takes long
SETTLES = 0.02  # seconds: the several steps of an editor count as one change
LONGEST = 2  # seconds to wait at most for further steps
ALSO = ("trust-map", "requirements.in", "requirements.txt")
Seen = dict[str, tuple[int, int, int]]


def seen() -> Seen:
    """Every file that a deploy reads, with what shows that it was saved; for a link, its target's."""
    found: Seen = {}
    for path in (*ALSO, *staging.untracked("functions", "shared", "environments", secrets_folder())):
        try:
            stat = os.stat(path)
        except OSError:
            continue
        found[path] = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
    return found


async def settled(before: Seen) -> Seen:
    """What there is once nothing changes any more."""
    end = time.monotonic() + LONGEST
    while True:
        await asyncio.sleep(SETTLES)
        now = seen()
        if now == before or time.monotonic() > end:
            return now
        before = now


def changed(before: Seen, now: Seen) -> list[pathlib.PurePath]:
    names = before.keys() | now.keys()
    return [pathlib.PurePath(n) for n in sorted(names) if before.get(n) != now.get(n)]


class Watching:
    """What is deployed, and what failed. `read`: the app, checked as a deploy checks it."""

    def __init__(
        self, options: Options, target: ThisMachine, work: pathlib.Path, app: App,
        read: Callable[[], App], show: Callable[[Measured], None],
    ):  # fmt: skip
        self.options, self.target, self.work = options, target, work
        self.app: App | None = app  # as it is deployed; None: a deploy of it has failed
        self.read, self.show = read, show
        self.found: Found
        self.failed: set[str] = set()
        self.was_wrong = False  # the app could not be read

    async def watch(self, found: Found) -> None:
        """`found`: what the project contains after the first deploy."""
        self.found, before = found, seen()
        say(
            "Watching. Save a file, and what it changes is deployed again. Ctrl-C ends the"
            " watching, not the functions."
        )
        try:
            while True:
                began = time.monotonic()
                now = seen()
                if now != before:
                    now = await settled(now)
                    saved, before = changed(before, now), now
                    await self.again(saved)
                    continue
                await asyncio.sleep(max(PAUSE, 10 * (time.monotonic() - began)))
        except asyncio.CancelledError:  # by Ctrl-C: that is how it ends
            say("")

    async def again(self, saved: list[pathlib.PurePath]) -> None:
        """Deploys what was saved. If that fails, the previous version keeps answering."""
        if any(path.name == "requirements.in" for path in saved):
            for sentence in lock.stale_of_app():
                error(f"  {sentence}")
        secrets = self.target.environment.secrets
        of_files = any(path.is_relative_to(secrets_folder()) for path in saved)
        try:
            app = self.read()
            if (app, self.target.environment.secrets) == (self.app, secrets) and not of_files:
                await self.roll_out(app, concerned(app, saved))
            else:
                self.app = None
                await self.deploy(app)
                self.app = app
            self.was_wrong = False
        except Wrong as wrong:
            error(str(wrong))
            self.was_wrong = True
        except Stop as stop:
            error(f"deploy.sh: {stop}")
            self.was_wrong = True

    async def deploy(self, app: App) -> None:
        """Deploys everything, with the bindings, and measures."""
        await self.target.begin(app)
        deployed: Deployed | None = await deploy(self.options, app, self.target, self.work, [])
        assert deployed
        self.found = deployed.found
        self.failed.clear()
        self.show(deployed.measured)

    async def roll_out(self, app: App, functions: list[Function]) -> None:
        rollout = Rollout(app, self.target, self.found, self.work)
        rollout.policies_are_right = True  # the map is unchanged, and the last deploy set them
        names = {function.name for function in functions}
        rollout.mended = frozenset(names if self.was_wrong else self.failed & names)
        done = await side_by_side(*map(rollout.deploy, functions))
        for sentence in sorted(rollout.missing_roles):
            error(f"  {sentence}")
        self.failed -= names
        self.failed |= {f.name for f, is_done in zip(functions, done, strict=True) if not is_done}
        if self.was_wrong and not functions:
            say("  nothing has changed")
        if rollout.has_changed:
            services = await inventory.services(self.target, self.found)
            self.found = self.found._replace(services=services)


def concerned(app: App, saved: Iterable[pathlib.PurePath]) -> list[Function]:
    """The functions that contain what was saved."""
    saved = list(saved)
    of_all = any(path.parts[0] in ("shared", "requirements.txt") for path in saved)
    return [
        function for function in app.chosen
        if of_all or any(path.is_relative_to(function.folder) for path in saved)
    ]  # fmt: skip
