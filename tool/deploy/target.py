"""Google Cloud or this machine: all that differs between the two."""

from __future__ import annotations

import copy
import json
import os
import pathlib
import re
import shlex
import shutil
from typing import Any, NamedTuple

from tool.deploy import processes
from tool.deploy.app import App, Caller, Function, Kind
from tool.deploy.cloud import Mark, checksum
from tool.deploy.environment import Environment
from tool.deploy.gcloud import Gcloud
from tool.deploy.options import REGION, ROOT, Options
from tool.deploy.progress import Progress, Stop
from tool.deploy.trust_map import SAMPLE, app_name, parsed

LOCAL_PROJECT = "local-project"
VENV_PYTHON = str(ROOT / ".venv" / "bin" / "python")
LOCAL_MAIN = str(ROOT / "tool" / "local" / "__main__.py")
# Settings of gcloud's that a person may have made, and that would change what it says here.
SETTINGS = {
    "CLOUDSDK_CORE_DISABLE_PROMPTS": "1",  # no question, and no API enabled by the way
    "CLOUDSDK_CORE_USER_OUTPUT_ENABLED": "true",
    "CLOUDSDK_CORE_VERBOSITY": "warning",
    "CLOUDSDK_RUN_PLATFORM": "managed",
}


class Target:
    """Where deploy.sh deploys to. `begin` completes it; `gcloud` is how it is asked and changed."""

    local = False

    async def begin(self, app: App | None) -> None:
        """`app`: where the verb needs one; its map may need to know who you are."""
        raise NotImplementedError

    async def know_number(self, known: str = "") -> None:
        """The project's number is a part of every URL. `known`: what a service says of it."""
        raise NotImplementedError

    def url(self, name: str) -> str:
        """Where a function is called; known before it is deployed."""
        raise NotImplementedError

    def store(self) -> str:
        """What a function that uses the database finds as STORE."""
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
        self.you = ""  # as a policy names whoever deploys
        self.number = ""  # the project's
        self.newest_versions: dict[str, str] = {}  # of secrets, as far as they were asked for
        self.gcloud: Gcloud

    @property
    def builder(self) -> str:
        """It builds the functions, with a service account of its own."""
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
        # A checksum in its name: nobody else's has it by accident, so what has it is ours.
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
        """This script, with the same project, region, prefix and app."""
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


class GoogleCloud(Target):
    PATIENCE = 420  # seconds: it may take so long until a changed binding works everywhere

    async def begin(self, app: App | None) -> None:
        path = without_stand_in(os.environ.get("PATH", ""))
        if path != os.environ.get("PATH", "") and not self.project:
            raise Stop(
                "this shell is set up for the local project. Add --local; or, for Google Cloud,"
                " open a new shell or give --project=ID"
            )
        program = shutil.which("gcloud", path=path)
        self.gcloud = self._gcloud((program or "gcloud",), path, self.PATIENCE)
        if not self.options.dry_run:
            if not program:
                raise Stop(
                    "gcloud is not installed. See https://cloud.google.com/sdk/docs/install, or"
                    " use --local"
                )
            self.you = await self._who_you_are(app)
        if program:
            await self._configured()
        if not self.project:
            raise Stop("no project: give --project=ID, or run gcloud config set project ID")
        self.region = self.region or REGION
        if self.project.isdecimal():
            self.project = (await self.described())["projectId"]
        self.gcloud.project = self.project
        if self.options.dry_run and self.options.verb == "deploy":
            # Nobody is asked: what is not known stays a variable.
            self.number, self.you = "$PROJECT_NUMBER", "$YOU"
            print(VARIABLES.format(project=self.project))

    async def described(self) -> dict[str, Any]:
        described = await self.gcloud.read("gcloud projects describe", self.project)
        return dict(described)

    async def know_number(self, known: str = "") -> None:
        if not self.number:
            self.number = known or str((await self.described())["projectNumber"])

    def url(self, name: str) -> str:
        return f"https://{name}-{self.number}.{self.region}.run.app"

    def store(self) -> str:
        return f"firestore:{self.database}"

    async def _configured(self) -> None:
        if self.project and self.region:
            return
        configured = await self.gcloud.look("gcloud config list")
        if configured is None and self.options.dry_run:
            return
        if configured is None:
            raise Stop("gcloud does not work here. To see why, run gcloud config list")
        self.project = self.project or configured.get("core", {}).get("project", "")
        self.region = self.region or configured.get("run", {}).get("region", "")

    async def _token_file(self, you: str) -> str:
        """gcloud may also have a token without saying whose it is."""
        settings = None if you else await self.gcloud.look("gcloud config list")
        return str((settings or {}).get("auth", {}).get("access_token_file", ""))

    async def _who_you_are(self, app: App | None) -> str:
        listed = await self.gcloud.look("gcloud auth list", "--filter=status:ACTIVE")
        if listed is None:
            raise Stop("gcloud does not work here. To see why, run gcloud auth list")
        you = listed[0]["account"] if listed else ""
        file = os.environ.get("CLOUDSDK_AUTH_CREDENTIAL_FILE_OVERRIDE", "")
        if not you and os.path.exists(file):  # as google-github-actions/auth leaves it
            you = account_in(file)
            needs_you = app and any(c.kind is Kind.YOU for f in app.functions for c in f.invoked_by)
            if not you and needs_you:
                raise Stop(
                    "who you are is not in the credentials. Write members, such as"
                    ' serviceAccount:..., in place of "you" into trust-map'
                )
        token_file = os.environ.get("CLOUDSDK_AUTH_ACCESS_TOKEN_FILE") or await self._token_file(you)
        if not you and not file and not token_file:
            raise Stop("nobody is logged in. Run gcloud auth login")
        if not you or "://" in you:  # a federated identity is a member as it is
            return you
        return f"{'serviceAccount' if you.endswith('.gserviceaccount.com') else 'user'}:{you}"


VARIABLES = """\
PROJECT_NUMBER=$(gcloud projects describe {project} --format="value(projectNumber)")
YOU=$(gcloud config get account)
case $YOU in *.gserviceaccount.com) YOU=serviceAccount:$YOU ;; *://*) ;; *) YOU=user:$YOU ;; esac"""


def account_in(file: str) -> str:
    """Whom a file of credentials is for: the account of a key, or the one that is impersonated."""
    try:
        content = json.loads(pathlib.Path(file).read_text("utf-8"))
    except (OSError, ValueError):
        return ""
    url = str(content.get("service_account_impersonation_url", ""))
    impersonated = re.search(r"serviceAccounts/([^:]*):generateAccessToken", url)
    return str(content.get("client_email") or (impersonated[1] if impersonated else ""))


def without_stand_in(path: str) -> str:
    """PATH without the local project's gcloud, of this or another clone, old or new."""

    def is_stand_in(folder: str) -> bool:
        local = pathlib.Path(folder).parent
        return any((local / name).exists() for name in ("gcloud/deploy.py", "gcloud_deploy.py"))

    return os.pathsep.join(f for f in path.split(os.pathsep) if not (f and is_stand_in(f)))


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
            "LOCAL_APP": str(here),  # so that errors name the files that one edits
            "LOCAL_STATE": str(self.state),
            "LOCAL_SECRETS": os.environ.get("LOCAL_SECRETS") or str(here / ".secrets"),
            "LOCAL_GROUPS": os.environ.get("LOCAL_GROUPS") or str(here / ".groups"),
        }
        path = f"{ROOT}/tool/local/bin{os.pathsep}{os.environ.get('PATH', '')}"
        self.gcloud = self._gcloud((VENV_PYTHON, "-I", LOCAL_MAIN, "gcloud"), path, 0, **folders)

    @property
    def is_there(self) -> bool:
        return (self.state / "project.json").exists()

    async def begin(self, app: App | None) -> None:
        options, propagation = self.options, self.state / "propagation.json"
        is_deploy = options.verb == "deploy"
        if not options.dry_run and (is_deploy or not os.access(VENV_PYTHON, os.X_OK)):
            await make_environment()
        if is_deploy and not options.dry_run:
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

    async def manage(self, *words: str) -> None:
        """A command of the local project's own, such as up or down."""
        done = await processes.run(VENV_PYTHON, "-I", LOCAL_MAIN, *words, env=self.gcloud.env)
        if done.status:
            self.progress.end_line()
            raise Stop((done.out + done.err).strip().removeprefix("ERROR: "))
        for line in done.out.splitlines():
            self.progress.note(line.strip())

    async def know_number(self, known: str = "") -> None:
        """Its URLs have no number in them."""

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
        return "--local" + (f" --project={self.project}" if self.project != LOCAL_PROJECT else "")


async def make_environment(*files: str) -> None:
    """The clone's virtual environment, with what the tool and these requirement files need."""
    made = await processes.run(str(ROOT / "tool" / "python" / "venv"), *files, passes_on=True)
    if made.status:
        raise Stop("the virtual environment could not be made. See the error above")


def state_folder(project: str) -> tuple[pathlib.Path, bool]:
    """Where the local project is kept; whether that is the folder which this app has by itself."""
    given, of = os.environ.get("LOCAL_STATE", ""), os.environ.get("LOCAL_STATE_OF", "")
    if given and not (of and given.startswith(f"{of}/.local")):  # "env" has set it, for that clone
        return pathlib.Path(given).absolute(), False
    name = ".local" if project == LOCAL_PROJECT else f".local-{project}"
    return pathlib.Path.cwd() / name, True


def chosen(options: Options, progress: Progress, environment: Environment) -> Target:
    """The target of this app, whatever state its trust-map is in: destroy needs none."""
    file = pathlib.Path("trust-map")
    text = file.read_text("utf-8-sig", "replace") if file.exists() else ""
    listed = [f"{options.prefix}{line.name}" for line in parsed(text)[0]]
    kind = ThisMachine if options.local else GoogleCloud
    return kind(options, progress, app_name(text), listed, environment)
