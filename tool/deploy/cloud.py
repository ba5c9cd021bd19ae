"""What is there already, and whose it is: gcloud's JSON as records.

A revision is named NAME-FINGERPRINT-TIME by a deploy. Whatever else changes a service makes a
revision of another name, so that a change by hand shows. What makes none is compared itself.
What cannot be read is neither there nor gone: it is None here, or Answer.UNKNOWN.
"""

from __future__ import annotations

import enum
import json
import re
from collections.abc import Iterable
from typing import Any, NamedTuple

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
    """What a policy is the policy of."""

    FUNCTION = "function"
    ACCOUNT = "account"
    PROJECT = "project"
    FOLDER = "folder"
    ORGANIZATION = "organization"


class Resource(NamedTuple):
    level: Level
    id: str  # of a function: REGION/NAME

    def __str__(self) -> str:
        return f"{self.level.value} {self.id.rpartition('/')[2]}"


class Grant(NamedTuple):
    """A binding, and the resource in whose policy it is."""

    binding: Binding
    on: Resource


class Above(NamedTuple):
    """The policies of the project and above it; what of them cannot be read, in words."""

    grants: tuple[Grant, ...]
    hidden: str = ""
    project_hidden: bool = False

    def of_project(self) -> list[Binding]:
        return [grant.binding for grant in self.grants if grant.on.level is Level.PROJECT]


class Traffic(NamedTuple):
    latest: bool
    percent: int


class Service(NamedTuple):
    """A Cloud Run service."""

    name: str
    region: str
    made_by: str
    revision: str  # the name that was asked for last
    created: str  # the newest revision
    ready: str  # the newest that is ready
    is_ready: bool
    traffic: tuple[Traffic, ...]
    account: str
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
        """Whether it was deployed from this source with these settings, and answers."""
        named = self.revision.startswith(f"{self.name}-{fingerprint}-")
        return named and self.serves_the_newest

    def changed_by_hand(self, account: str, ingress: str) -> list[str]:
        """What was changed since the last deploy; most of it shows by the revision's name."""
        found = []
        if not re.fullmatch(rf"{self.name}-[0-9a-f]{{12}}-\d+", self.revision):
            found.append(f"its revision {self.created} was not made by deploy.sh")
        if self.account != account:
            found.append(f"it runs as {self.account}, not as {account}")
        if self.ingress != ingress:
            found.append(f"its ingress is {self.ingress}, not {ingress}")
        if not self.sends_all_to_the_newest:
            found.append("not all calls go to its latest revision")
        if not self.serves_the_newest:
            found.append(f"its latest revision {self.created} is not ready")
        return found


class Account(NamedTuple):
    """A service account of the project."""

    email: str
    number: str  # its uniqueId, the sub of its tokens
    made_by: str  # "" where this script did not make it
    made_at: float  # seconds since 1970


class Found(NamedTuple):
    """What is there in the project."""

    apis: frozenset[str]
    services: tuple[Service, ...]
    accounts: tuple[Account, ...]

    def enabled(self, api: str) -> bool:
        return f"{api}.googleapis.com" in self.apis

    def service(self, name: str, region: str) -> Service | None:
        here = (s for s in self.services if s.name == name and s.region == region)
        return next(here, None)

    def made_by(self, maker: str, region: str) -> list[str]:
        """The services here that bear this mark."""
        return [s.name for s in self.services if s.made_by == maker and s.region == region]

    def made_elsewhere(self, maker: str, region: str) -> list[str]:
        """The other regions of the project that have services with this mark."""
        there = {s.region for s in self.services if s.made_by == maker and s.region != region}
        return sorted(there)

    def made_with_another_prefix(self, maker: str) -> list[str]:
        others = (s for s in self.services if s.made_by != maker)
        return [s.name for s in others if s.made_by.endswith("function-trust-map")]

    def account(self, email: str) -> Account | None:
        return next((a for a in self.accounts if a.email == email), None)

    def accounts_made_by(self, maker: str) -> list[Account]:
        return [account for account in self.accounts if account.made_by == maker]


def principal(member: str) -> str:
    """A member as it is compared: the case of an address means nothing."""
    kind, colon, address = member.partition(":")
    return member if kind.startswith("principal") else kind + colon + address.lower()


# ---- from gcloud's JSON


def policy_from(shown: dict[str, Any]) -> Policy:
    return tuple(
        Binding(member, binding["role"], condition_from(binding.get("condition")))
        for binding in shown.get("bindings", ())
        for member in binding.get("members", ())
    )


def condition_from(shown: dict[str, str] | None) -> Condition | None:
    return Condition(shown.get("title", ""), shown.get("expression", "")) if shown else None


def service_from(shown: dict[str, Any]) -> Service:
    metadata, status = shown["metadata"], shown.get("status", {})
    labels, notes = metadata.get("labels", {}), metadata.get("annotations", {})
    template = shown["spec"]["template"]
    ready = [c["status"] for c in status.get("conditions", ()) if c["type"] == "Ready"]
    return Service(
        name=metadata["name"],
        region=labels.get(LOCATION, ""),
        made_by=labels.get("made-by", ""),
        revision=template.get("metadata", {}).get("name", ""),
        created=status.get("latestCreatedRevisionName") or "",
        ready=status.get("latestReadyRevisionName") or "",
        is_ready=ready == ["True"],
        traffic=traffic_from(status.get("traffic", ())),
        account=template.get("spec", {}).get("serviceAccountName", ""),
        invoker_check_is_off=notes.get(f"{RUN}/invoker-iam-disabled", "").lower() == "true",
        ingress=notes.get(f"{RUN}/ingress") or "all",
        project_number=str(metadata.get("namespace", "")),
        url=status.get("url") or "",
        urls=listed(notes.get(f"{RUN}/urls")),
        more_audiences=listed(notes.get(f"{RUN}/custom-audiences")),
    )


def traffic_from(shown: Iterable[dict[str, Any]]) -> tuple[Traffic, ...]:
    """Where calls go. A target without a share is a tag, at a URL of its own."""
    return tuple(
        Traffic(bool(target.get("latestRevision")), target["percent"])
        for target in shown if target.get("percent")
    )  # fmt: skip


def listed(annotation: str | None) -> tuple[str, ...]:
    """An annotation that holds a list in JSON."""
    return tuple(json.loads(annotation)) if annotation else ()


def account_from(shown: dict[str, Any]) -> Account:
    made = re.fullmatch(r"(\S+)(?: (\d+))?", shown.get("description") or "")
    maker, at = (made[1], float(made[2] or 0)) if made else ("", 0.0)
    return Account(shown["email"], str(shown.get("uniqueId", "")), maker, at)


def grants_from(shown: Iterable[dict[str, Any]]) -> tuple[Grant, ...]:
    """What get-ancestors-iam-policy says."""
    return tuple(
        Grant(binding, Resource(Level(one["type"]), one["id"]))
        for one in shown
        for binding in policy_from(one.get("policy", {}))
    )


def checksum(content: bytes) -> int:
    """As the command cksum of POSIX has it: names that were made by it must stay what they are."""
    total, length = 0, len(content)
    while length:
        content += bytes([length & 0xFF])
        length >>= 8
    for byte in content:
        total ^= byte << 24
        for _ in range(8):
            total = (total << 1 ^ 0x04C11DB7 if total & 0x80000000 else total << 1) & 0xFFFFFFFF
    return ~total & 0xFFFFFFFF
