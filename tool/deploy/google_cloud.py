"""Google Cloud as a target: who you are, the project's number, the URLs."""

from __future__ import annotations

import json
import os
import pathlib
import re
import shutil
from typing import Any

from tool.deploy.app import App, Kind
from tool.deploy.options import REGION
from tool.deploy.progress import Stop
from tool.deploy.target import Target


class GoogleCloud(Target):
    PATIENCE = 420  # seconds: a changed binding may take this long to work everywhere

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
            # Nothing is looked up: what is not known stays a variable.
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
                    "the credentials do not say who you are. Write members, such as"
                    ' serviceAccount:..., instead of "you" into trust-map'
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
    """Whom a credentials file is for: the service account of a key, or the impersonated one."""
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
