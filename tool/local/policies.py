"""The policies of the local project's resources, and what they allow, to whom."""

import json
import time
from collections.abc import Iterable, Iterator

from tool.local import accounts, roles, state
from tool.local.accounts import Account
from tool.local.records import Json, Record, filled
from tool.local.roles import Role
from tool.local.state import STATE

PROJECT = "_project"  # the name of the project's own policy; another resource's is the name of its file


class Condition(Record):
    """When a binding counts. It is kept, but not evaluated."""

    title: str
    expression: str
    description: str = ""


class Binding(Record):
    """The members that have a role."""

    role: str
    members: tuple[str, ...]
    condition: Condition | None = None


class Policy(Record):
    """The bindings of a resource. A change takes effect after a while, as in the cloud."""

    bindings: tuple[Binding, ...] = ()
    before: tuple[Binding, ...] = ()  # these count until then
    until: float = 0

    @property
    def in_effect(self) -> tuple[Binding, ...]:
        return self.before if self.until > time.time() else self.bindings


def as_json(binding: Binding) -> dict[str, Json]:
    """A binding as files and gcloud write it: without what is empty."""
    condition = binding.condition and filled(binding.condition.as_dict())
    content = {"role": binding.role, "members": list(binding.members)}
    return content | filled({"condition": condition})


def bindings_in(content: Json) -> tuple[Binding, ...]:
    """The bindings in a policy's JSON. Raises TypeError, KeyError, AttributeError."""
    return tuple(
        Binding(b["role"], tuple(b["members"]), condition_in(b.get("condition"))) for b in content
    )


def condition_in(content: Json) -> Condition | None:
    if content is None:
        return None
    return Condition(*(content.get(key, "") for key in Condition.__annotations__))


def policy(name: str) -> Policy | None:
    """The policy of this resource; None if it never had one."""
    content = state.read(f"policies/{name}")
    try:
        return Policy(
            bindings_in(content["bindings"]),
            bindings_in(content.get("before", ())),
            content.get("from", 0),
        )
    except (TypeError, KeyError, AttributeError):
        return None


def bindings_of(name: str) -> tuple[Binding, ...]:
    found = policy(name)
    return found.bindings if found else ()


def put(name: str, policy: Policy) -> None:
    content: dict[str, object] = {"bindings": [as_json(b) for b in policy.bindings]}
    if policy.until:
        content |= {"before": [as_json(b) for b in policy.before], "from": policy.until}
    state.write(f"policies/{name}", content)


def change(name: str, bindings: Iterable[Binding]) -> None:
    """Changes a policy, at once or, as in the cloud, after the seconds in propagation.json."""
    new, delay = Policy(tuple(b for b in bindings if b.members)), state.read("propagation", int) or 0
    if delay:
        before = (policy(name) or Policy()).in_effect
        new = new.but(before=before, until=time.time() + delay)
    put(name, new)
    with open(STATE / "audit.log", "a", encoding="utf-8") as log:
        log.write(f"# policy {name} {json.dumps([as_json(b) for b in new.bindings])}\n")


def remove(name: str) -> None:
    state.remove(f"policies/{name}")


def role(name: str) -> Role | None:
    """A predefined role, or one of the project's own, projects/ID/roles/NAME."""
    if not name.startswith("projects/"):
        return roles.predefined(name)
    content = state.read(f"roles/{name.rpartition('/')[2]}")
    return Role(name, tuple(content["permissions"])) if content else None


class Grant(Record):
    """What gives a permission: a member of a binding in the policy of a resource."""

    role: str
    member: str  # as the policy writes it, for example a group
    resource: str


def allowed(permission: str, account: Account | None, *resources: str) -> bool:
    """Whether a policy of these resources or of the project gives the account the permission."""
    return grant(permission, account, *resources) is not None


def grant(permission: str, account: Account | None, *resources: str) -> Grant | None:
    """The first binding that gives the account the permission, if there is one."""
    wanted = accounts.names_of(account)
    for resource in (*resources, PROJECT):
        for binding in (policy(resource) or Policy()).in_effect:
            named = [member for member in binding.members if member.lower() in wanted]
            if named and holds(binding.role, permission):
                return Grant(binding.role, named[0], resource)
    return None


def grants(permission: str, resource: str) -> Iterator[Grant]:
    """What the policy of this resource grants, to anybody."""
    for binding in (policy(resource) or Policy()).in_effect:
        if holds(binding.role, permission):
            yield from (Grant(binding.role, member, resource) for member in binding.members)


def holds(name: str, permission: str) -> bool:
    found = role(name)
    return found is not None and permission in found.permissions
