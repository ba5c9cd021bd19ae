"""Google Cloud or this machine: everything that differs between the two."""

from __future__ import annotations

import copy
import os
import shlex

from tool.deploy.app import App, Caller, Function, Kind
from tool.deploy.cloud import Mark, checksum
from tool.deploy.environment import Environment
from tool.deploy.gcloud import Gcloud
from tool.deploy.options import Options
from tool.deploy.progress import Progress
from tool.deploy.trust_map import SAMPLE

# Settings of gcloud that you may have changed, and that would change what it says here.
SETTINGS = {
    "CLOUDSDK_CORE_DISABLE_PROMPTS": "1",  # no questions, and no API enabled in passing
    "CLOUDSDK_CORE_USER_OUTPUT_ENABLED": "true",
    "CLOUDSDK_CORE_VERBOSITY": "warning",
    "CLOUDSDK_RUN_PLATFORM": "managed",
    "PYTHONUTF8": "1",  # it reads and writes UTF-8, as this tool does
}


class Target:
    """Where deploy.sh deploys to. `begin` completes it; `gcloud` reads and changes it."""

    local = False

    async def begin(self, app: App | None) -> None:
        """`app`: given if the verb needs one; its map may need to know who you are."""
        raise NotImplementedError

    async def end_if_new(self) -> None:
        """Ends what `begin` has started, if nothing was there before. Google Cloud needs nothing started."""

    async def know_number(self, known: str = "") -> None:
        """Finds out the project's number, which is part of every URL. `known`: as a service gives it."""
        raise NotImplementedError

    def url(self, name: str) -> str:
        """Where a function is called; known before it is deployed."""
        raise NotImplementedError

    def store(self) -> str:
        """The value of STORE for a function that uses the database."""
        raise NotImplementedError

    def __init__(
        self, options: Options, progress: Progress, app_name: str, listed: list[str],
        environment: Environment,
    ):  # fmt: skip
        """`listed`: the functions that trust-map lists, with the prefix."""
        self.options, self.progress = options, progress
        self.app_name, self.listed, self.environment = app_name, listed, environment
        self.project, self.region = options.project, options.region
        self.prefix = options.prefix
        self.you = ""  # the person who deploys, as a policy names them
        self.number = ""  # the project's
        self.newest_versions: dict[str, str] = {}  # of secrets, as far as they were looked up
        self.gcloud: Gcloud

    @property
    def builder(self) -> str:
        """The name of what builds the functions, with a service account of its own."""
        return f"{self.prefix}builder"

    @property
    def made_by(self) -> str:
        """Marks what this script made: nothing else is touched."""
        return f"{self.prefix}function-trust-map"

    @property
    def mark(self) -> Mark:
        return Mark(self.made_by, self.app_name, frozenset((*self.listed, self.builder)))

    @property
    def accounts_end(self) -> str:
        domain, _, name = self.project.rpartition(":")  # of a domain: example.com:p
        return f"@{name}{'.' if domain else ''}{domain}.iam.gserviceaccount.com"

    def email(self, name: str) -> str:
        """The service account of a function."""
        return f"{name}-sa{self.accounts_end}"

    @property
    def database(self) -> str:
        # No other database has this checksum in its name by accident, so one that has it is ours.
        app = "" if self.app_name == SAMPLE else f" {self.app_name}"
        return f"{self.prefix}data-{checksum(f'{self.made_by} {self.project}{app}'.encode())}"

    def member(self, caller: Caller) -> str:
        """A caller as a policy names it."""
        return {
            Kind.YOU: self.you,
            Kind.EVERYONE: "allUsers",
            Kind.FUNCTION: f"serviceAccount:{self.email(caller.name)}",
            Kind.MEMBER: caller.name,
        }[caller.kind]

    def members(self, function: Function) -> list[str]:
        """Whom the map lets call a function, as a policy names them."""
        return sorted({self.member(caller) for caller in function.invoked_by})

    def in_region(self, region: str) -> Target:
        """The same target in another region, for its commands."""
        other = copy.copy(self)
        other.region = region
        return other

    def again(self, words: str = "") -> str:
        """The command that runs this script with the same project, region, prefix and app."""
        where = self._where()
        if self.options.app:
            where += f" --app={shlex.quote(self.options.app)}"
        typed = self.options.typed_prefix
        prefix = f"PREFIX={typed} " if typed else ""
        if self.options.environment:
            where += f" --environment={self.options.environment}"
        return f"{prefix}./deploy.sh{' ' if words else ''}{words} {where}"

    def _where(self) -> str:
        return f"--project={self.project} --region={self.region}"

    def _gcloud(self, program: tuple[str, ...], path: str, patience: float, **more: str) -> Gcloud:
        env = {**os.environ, **SETTINGS, **more, "PATH": path}
        env.pop("CLOUDSDK_CORE_FORMAT", None)
        patience = float(os.environ.get("PATIENCE") or patience)
        made = Gcloud(program, env, self.progress, patience, self.options.dry_run)
        made.project = self.project
        return made
