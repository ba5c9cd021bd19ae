"""Which roles the functions' service accounts should have on the project, and which they have."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from tool.deploy.app import App, Function
from tool.deploy.cloud import Binding, Condition, principal
from tool.deploy.target import Target

BUILD = "roles/run.builder"
DATA = "roles/datastore.user"


class Role(NamedTuple):
    """A role on the project, and its condition."""

    name: str
    condition: Condition | None = None


class Holder(NamedTuple):
    """A service account that a deploy makes, and the roles on the project that it should have."""

    name: str  # of the function, or the builder
    email: str
    roles: tuple[Role, ...]
    secrets: tuple[str, ...] = ()

    @property
    def member(self) -> str:
        return f"serviceAccount:{self.email}"

    def held(self, project_policy: Iterable[Binding]) -> list[Role]:
        """What it has now. IAM ignores the case of addresses."""
        mine = principal(self.member)
        return [Role(b.role, b.condition) for b in project_policy if b.principal == mine]

    def left_by_deleted(self, policy: Iterable[Binding]) -> list[tuple[str, str]]:
        """Members and roles that deleted accounts of this name have left behind."""
        deleted = f"deleted:{self.member}?".lower()
        found = [(b.member, b.role) for b in policy if b.member.lower().startswith(deleted)]
        return list(dict.fromkeys(found))

    def too_many(self, held: Iterable[Role]) -> list[str]:
        """The names of the roles that it has but the map does not give it in this form, each once."""
        return list(dict.fromkeys(role.name for role in held if role not in self.roles))

    def missing(self, held: Iterable[Role]) -> list[Role]:
        """What the map gives it but it does not have."""
        held = set(held)
        return [role for role in self.roles if role not in held]


def holders(app: App, target: Target) -> list[Holder]:
    """The service accounts of the functions to deploy, and the builder's."""
    functions = (holder(function, target) for function in app.chosen)
    return [*functions, Holder(target.builder, target.email(target.builder), (Role(BUILD),))]


def holder(function: Function, target: Target) -> Holder:
    roles = [Role(use) for use in function.may_use if use != "firestore"]
    if function.uses_firestore and not target.local:
        resource = f"projects/{target.project}/databases/{target.database}"
        only_there = Condition(target.database, f"resource.name == '{resource}'")
        roles.insert(0, Role(DATA, only_there))
    email = target.email(function.name)
    return Holder(function.name, email, tuple(roles), tuple(function.secrets))
