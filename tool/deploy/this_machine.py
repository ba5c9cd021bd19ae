"""This machine as a target: the local project, and the stand-in for gcloud."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
from typing import Any, NamedTuple

from tool.deploy import processes
from tool.deploy.app import App
from tool.deploy.environment import Environment
from tool.deploy.options import REGION, ROOT, Options, region_of
from tool.deploy.progress import Progress, Stop
from tool.deploy.target import Target

LOCAL_PROJECT = "local-project"
VENV_PYTHON = str(ROOT / ".venv" / "bin" / "python")
LOCAL_TOOL = (VENV_PYTHON, "-I", "-X", "utf8", str(ROOT / "tool" / "local" / "__main__.py"))


class Address(NamedTuple):
    url: str
    metadata_host: str


class ThisMachine(Target):
    local = True

    def __init__(
        self, options: Options, progress: Progress, app_name: str, listed: list[str],
        environment: Environment,
    ):  # fmt: skip
        super().__init__(options, progress, app_name, listed, environment)
        self.project = self.project or LOCAL_PROJECT
        self.region = self.region or REGION
        self.you = "user:you@example.com"
        self.state, self.state_is_own = state_folder(self.project)
        here = pathlib.Path.cwd()
        folders = {
            "LOCAL_APP": str(here),  # so that errors name the files that you edit
            "LOCAL_STATE": str(self.state),
            "LOCAL_SECRETS": secrets_folder(),
            "LOCAL_GROUPS": os.environ.get("LOCAL_GROUPS") or str(here / ".groups"),
        }
        path = f"{ROOT}/tool/local/bin{os.pathsep}{os.environ.get('PATH', '')}"
        self.gcloud = self._gcloud((*LOCAL_TOOL, "gcloud"), path, 0, **folders)

    @property
    def is_there(self) -> bool:
        return (self.state / "project.json").exists()

    async def begin(self, app: App | None) -> None:
        options, propagation = self.options, self.state / "propagation.json"
        self.is_new = not self.state.exists()
        is_deploy = options.verb == "deploy"
        if not options.dry_run and (is_deploy or not os.access(VENV_PYTHON, os.X_OK)):
            await make_environment()
        if is_deploy and not options.dry_run:
            if (region := self._region()) != self.region:
                raise Stop(
                    f"the local project is in {region}; a local project has one region. To have another,"
                    f" destroy this one first: {self.in_region(region).again('destroy')}"
                )
            with self.progress.step("Starting front end, metadata servers and token endpoint"):
                await self.manage("up", self.project, self.region, *(app.names if app else ()))
            self._keep_development_secrets()
            if options.propagation is not None:
                propagation.write_text(f"{options.propagation}\n")
        elif options.verb not in ("deploy", "destroy") and not self.is_there:
            raise Stop(f"nothing is deployed on this machine yet. Run {self.again()}")
        delay = json.loads(propagation.read_text()) if propagation.exists() else 0
        if delay and not os.environ.get("PATIENCE"):
            self.gcloud.patience = delay + 10
        self.addresses = self._addresses()

    async def end_if_new(self) -> None:
        if self.is_new:
            await self.manage("down")

    async def manage(self, *words: str) -> None:
        """A command of the local project's own, such as up or down."""
        done = await processes.run(*LOCAL_TOOL, *words, env=self.gcloud.env)
        if done.status:
            self.progress.end_line()
            raise Stop((done.out + done.err).strip().removeprefix("ERROR: "))
        for line in done.out.splitlines():
            self.progress.note(line.strip())

    async def know_number(self, known: str = "") -> None:
        """Does nothing: its URLs contain no number."""

    def url(self, name: str) -> str:
        return self.addresses[name].url if name in self.addresses else ""

    def store(self) -> str:
        return f"sqlite:{self.state}/{self.prefix}data.db"

    def token_port(self) -> int:
        return int(self._project()["token_port"])

    def console_url(self) -> str:
        """The page that shows every call."""
        return f"http://127.0.0.1:{self._project()['console_port']}"

    def _project(self) -> dict[str, Any]:
        return dict(json.loads((self.state / "project.json").read_text("utf-8")))

    def _region(self) -> str:
        """The region of the local project; if there is none yet, the wanted one."""
        try:
            return str(self._project()["region"])
        except (OSError, ValueError, KeyError):
            return self.region

    def _keep_development_secrets(self) -> None:
        """The values that environments/local gives to secrets; .secrets/NAME wins over them."""
        folder = self.state / "secrets"
        shutil.rmtree(folder, ignore_errors=True)
        for name, value in self.environment.secrets.items():
            folder.mkdir(mode=0o700, exist_ok=True)
            (folder / name).touch(mode=0o600)
            (folder / name).write_text(value, "utf-8")

    def _addresses(self) -> dict[str, Address]:
        file = self.state / "addresses"
        lines = file.read_text().splitlines() if file.exists() else []
        return {name: Address(url, host) for name, url, host in map(str.split, lines)}

    def _where(self) -> str:
        project = f" --project={self.project}" if self.project != LOCAL_PROJECT else ""
        by_itself = region_of(self.environment) or REGION
        return f"--local{project}" + (f" --region={self.region}" if self.region != by_itself else "")


async def make_environment(*files: str) -> None:
    """Makes the clone's virtual environment, with what the tool and these requirement files need."""
    made = await processes.run(str(ROOT / "tool" / "python" / "venv"), *files, passes_on=True)
    if made.status:
        raise Stop("the virtual environment could not be made. See the error above")


def secrets_folder() -> str:
    """The folder with a file for each secret."""
    return os.environ.get("LOCAL_SECRETS") or str(pathlib.Path.cwd() / ".secrets")


def state_folder(project: str) -> tuple[pathlib.Path, bool]:
    """Where the local project is kept, and whether that is this app's default folder."""
    given, of = os.environ.get("LOCAL_STATE", ""), os.environ.get("LOCAL_STATE_OF", "")
    if given and not (of and given.startswith(f"{of}/.local")):  # "env" has set it, for that clone
        return pathlib.Path(given).absolute(), False
    name = ".local" if project == LOCAL_PROJECT else f".local-{project}"
    return pathlib.Path.cwd() / name, True
