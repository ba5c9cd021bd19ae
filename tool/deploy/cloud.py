"""What a project contains, and whose it is, as records.

A deploy names a revision NAME-FINGERPRINT-TIME. Any other change to a service makes a revision with
another name, so that a change by hand shows. Changes that make no revision are compared directly.
What cannot be read is neither there nor gone: it is None here, or Answer.UNKNOWN.
"""

from __future__ import annotations

import enum
import re
from typing import NamedTuple

from tool.deploy.app import Function
from tool.deploy.leftovers import Kept, not_asked_for

INVOKER = "roles/run.invoker"
LOCATION = "cloud.googleapis.com/location"
RUN = "run.googleapis.com"


class Condition(NamedTuple):
    title: str
    expression: str


class Binding(NamedTuple):
    """One member of one binding of a policy."""

    member: str
    role: str
    condition: Condition | None = None

    @property
    def principal(self) -> str:
        return principal(self.member)


Policy = tuple[Binding, ...]


class Level(enum.Enum):
    """What kind of resource a policy belongs to."""

    FUNCTION = "function"
    JOB = "job"
    ACCOUNT = "account"
    PROJECT = "project"
    FOLDER = "folder"
    ORGANIZATION = "organization"


class Resource(NamedTuple):
    level: Level
    id: str  # of a function or a job: REGION/NAME

    def __str__(self) -> str:
        return f"{self.level.value} {self.id.rpartition('/')[2]}"


class Grant(NamedTuple):
    """A binding, and the resource whose policy has it."""

    binding: Binding
    on: Resource


class Above(NamedTuple):
    """The policies of the project and above it; in words, which of them cannot be read."""

    grants: tuple[Grant, ...]
    hidden: str = ""
    project_hidden: bool = False

    def of_project(self) -> list[Binding]:
        return [grant.binding for grant in self.grants if grant.on.level is Level.PROJECT]


class Database(enum.Enum):
    NONE = "there is none"
    NATIVE = "FIRESTORE_NATIVE"
    OTHER_MODE = "DATASTORE_MODE"


class Traffic(NamedTuple):
    latest: bool
    percent: int


class Tag(NamedTuple):
    """A revision with a URL of its own."""

    name: str
    revision: str


class Service(NamedTuple):
    """A Cloud Run service."""

    name: str
    region: str
    made_by: str
    app: str  # its name; "": an older edition did not note it
    revision: str  # the name that was requested last
    created: str  # the newest revision
    ready: str  # the newest one that is ready
    is_ready: bool
    traffic: tuple[Traffic, ...]
    tags: tuple[Tag, ...]
    account: str
    secrets: frozenset[str]  # the names of those that it reads
    secret_versions: str  # the label of secret_versions.py
    kept: tuple[Kept, ...]  # settings that stay until a flag ends them
    invoker_check_is_off: bool
    ingress: str
    project_number: str
    url: str
    urls: tuple[str, ...]
    more_audiences: tuple[str, ...]

    @property
    def serves_the_newest(self) -> bool:
        return bool(self.created) and self.created == self.ready and self.is_ready

    @property
    def sends_all_to_the_newest(self) -> bool:
        return self.traffic == (Traffic(True, 100),)

    def is_revision(self, fingerprint: str) -> bool:
        """Whether it was deployed from this source with these settings, and serves."""
        named = self.revision.startswith(f"{self.name}-{fingerprint}-")
        return named and self.serves_the_newest

    def changed_by_hand(self, account: str, function: Function) -> list[str]:
        """What differs from the files; most of it shows in the revision's name."""
        found, ingress = [], function.flag("ingress", "all")
        if not re.fullmatch(rf"{self.name}-[0-9a-f]{{12}}-\d+", self.revision):
            found.append(f"its revision {self.created} was not made by deploy.sh")
        if self.account != account:
            found.append(f"it runs as {self.account}, not as {account}")
        if self.ingress != ingress:
            found.append(f"its ingress is {self.ingress}, not {ingress}")
        for secret in sorted(self.secrets - set(function.secrets)):
            found.append(f"it reads the secret {secret}, which no file asks for")
        for kept in not_asked_for(self.kept, function.flags):
            if kept.ended_by:
                found.append(f"it has {kept.what}, which no file asks for")
        if not self.sends_all_to_the_newest:
            found.append("not all calls go to its latest revision")
        if not self.serves_the_newest:
            found.append(f"its latest revision {self.created} is not ready")
        return found


class Job(NamedTuple):
    """A Cloud Run job."""

    name: str
    region: str
    account: str


class Account(NamedTuple):
    """A service account of the project."""

    email: str
    number: str  # its uniqueId, the sub of its tokens
    made_by: str  # "" if this script did not make it
    made_at: float  # seconds since 1970
    disabled: bool
    app: str  # as for a service


class Mark(NamedTuple):
    """Tells what belongs to an app: by labels and descriptions, never by its folder."""

    made_by: str  # this script, with the prefix
    app: str
    listed: frozenset[str]  # the functions of trust-map, with the prefix; and the builder

    def is_on_service(self, service: Service) -> bool:
        return self._is_on(service.made_by, service.app, service.name)

    def is_on_account(self, account: Account) -> bool:
        name = account.email.partition("@")[0].removesuffix("-sa")
        return self._is_on(account.made_by, account.app, name)

    def _is_on(self, made_by: str, app: str, name: str) -> bool:
        """If an older edition did not note the app, trust-map has to list it."""
        return made_by == self.made_by and (app == self.app or (not app and name in self.listed))


class Found(NamedTuple):
    """What the project contains."""

    apis: frozenset[str]
    services: tuple[Service, ...]
    accounts: tuple[Account, ...]
    above: Above | None = None  # None: not read
    database: Database | None = None

    @property
    def project_number(self) -> str:
        """According to a service; "" if there is none."""
        return self.services[0].project_number if self.services else ""

    def enabled(self, api: str) -> bool:
        return f"{api}.googleapis.com" in self.apis

    def service(self, name: str, region: str) -> Service | None:
        here = (s for s in self.services if s.name == name and s.region == region)
        return next(here, None)

    def ours(self, mark: Mark, region: str) -> list[str]:
        """The services here that have this mark."""
        return [s.name for s in self.services if mark.is_on_service(s) and s.region == region]

    def ours_elsewhere(self, mark: Mark, region: str) -> list[Service]:
        """Those in other regions of the project."""
        return [s for s in self.services if mark.is_on_service(s) and s.region != region]

    def of_others(self, mark: Mark) -> list[str]:
        """Services that this script made with another prefix, or for another app."""
        made = (s for s in self.services if s.made_by.endswith("function-trust-map"))
        return [s.name for s in made if not mark.is_on_service(s)]

    def of_other_apps(self, mark: Mark) -> list[str]:
        """Those with the same prefix: they are built by the same builder."""
        made = (s for s in self.services if s.made_by == mark.made_by)
        return [s.name for s in made if not mark.is_on_service(s)]

    def account(self, email: str) -> Account | None:
        return next((a for a in self.accounts if a.email == email), None)

    def our_accounts(self, mark: Mark) -> list[Account]:
        return [account for account in self.accounts if mark.is_on_account(account)]


def principal(member: str) -> str:
    """A member in the form that is compared: the case of an address means nothing."""
    kind, colon, address = member.partition(":")
    return member if kind.startswith("principal") else kind + colon + address.lower()


def checksum(content: bytes) -> int:
    """The checksum of POSIX's cksum: names that were made with it must not change."""
    total, length = 0, len(content)
    while length:
        content += bytes([length & 0xFF])
        length >>= 8
    for byte in content:
        total ^= byte << 24
        for _ in range(8):
            total = (total << 1 ^ 0x04C11DB7 if total & 0x80000000 else total << 1) & 0xFFFFFFFF
    return ~total & 0xFFFFFFFF
