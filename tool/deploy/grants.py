"""Who holds which permission on what, according to the policies and roles that were read."""

from __future__ import annotations

import dataclasses
import enum
import functools
from collections import defaultdict
from collections.abc import Mapping
from typing import NamedTuple

from tool.deploy.cloud import INVOKER, Grant, Level, Resource
from tool.deploy.permissions import LEADING, SET_POLICY

ABOVE = tuple(SET_POLICY)


class Function(NamedTuple):
    account: str
    is_open: bool = False  # its invoker check is switched off


@dataclasses.dataclass(frozen=True)
class Facts:
    """What was read about a project: functions and jobs by REGION/NAME, addresses in lower case."""

    project: str
    functions: Mapping[str, Function]
    accounts: frozenset[str]
    grants: tuple[Grant, ...]
    roles: Mapping[str, frozenset[str] | None]  # what they allow; None: cannot be read
    jobs: Mapping[str, str] = dataclasses.field(default_factory=dict)  # the account that each runs as
    by_map: frozenset[tuple[str, str]] = frozenset()  # (function, principal) that trust-map opens
    you: str = ""
    number: str = ""  # the project's
    unread: tuple[str, ...] = ()  # what you may not read
    hidden: tuple[str, ...] = ()  # the part of it that decides: the policies of the project and the function

    @functools.cached_property
    def under_condition(self) -> dict[Resource, set[tuple[str, str]]]:
        """By resource: members and roles of bindings that have a condition."""
        found: dict[Resource, set[tuple[str, str]]] = defaultdict(set)
        for binding, on in self.grants:
            if binding.condition:
                found[on].add((binding.member, binding.role))
        return found


class Doubt(enum.Enum):
    """Why a way is only "perhaps"."""

    CONDITION = enum.auto()
    ROLE = enum.auto()
    METHOD = enum.auto()
    MEMBER = enum.auto()


class RoleBinding(NamedTuple):
    """What one command takes away: the bindings of a member to a role, whatever their conditions."""

    on: Resource
    member: str  # as the policy writes it
    role: str


class OpenCheck(NamedTuple):
    """The invoker check of a function, which is switched off."""

    function: str


Removal = RoleBinding | OpenCheck


class Held(NamedTuple):
    """A grant that gives a permission."""

    principal: str
    grant: Grant
    doubts: tuple[Doubt, ...]
    is_of_map: bool  # exactly the binding that a deploy makes
    removal: Removal  # what takes it away


class Index:
    """Who holds which permission on what: one list for each resource, and one for everything above."""

    def __init__(self, facts: Facts):
        self._held: dict[tuple[str, Resource | None], list[Held]] = defaultdict(list)
        every = [as_held(facts, grant) for grant in sorted(facts.grants, key=written)]
        of_map = {held.removal for held in every if held.is_of_map}
        useful = {role: leading(allowed) for role, allowed in facts.roles.items()}
        everything = leading(None)
        for held in every:
            binding, on = held.grant
            # Beside the map's own binding, the same one with a condition gives nothing more.
            if binding.member.startswith("deleted:") or (binding.condition and held.removal in of_map):
                continue
            where = None if on.level in ABOVE else on
            for permission in useful.get(binding.role, everything):
                self._held[permission, where].append(held)

    def here(self, permission: str, resource: Resource | None) -> list[Held]:
        """On this resource itself; None: on the project or above it."""
        return self._held.get((permission, resource), [])

    def on(self, permission: str, resource: Resource) -> list[Held]:
        return [*self.here(permission, resource), *self.here(permission, None)]


def leading(allowed: frozenset[str] | None) -> list[str]:
    """The permissions of a role that lead somewhere; a role that cannot be read may have them all."""
    return sorted(LEADING if allowed is None else allowed & LEADING)


def written(grant: Grant) -> tuple[str, ...]:
    """A key to sort grants by: the order in which policies are read must not matter."""
    binding, on = grant
    condition = binding.condition or ("", "")
    return binding.role, on.level.value, on.id, binding.member, *condition


def as_held(facts: Facts, grant: Grant) -> Held:
    binding, on = grant
    doubts = [Doubt.CONDITION] if binding.condition else []
    if facts.roles.get(binding.role) is None:
        doubts.append(Doubt.ROLE)
    is_of_map = (
        on.level is Level.FUNCTION
        and binding.role == INVOKER
        and not binding.condition
        and (on.id, binding.principal) in facts.by_map
    )
    removal = RoleBinding(on, binding.member, binding.role)
    return Held(binding.principal, grant, tuple(doubts), is_of_map, removal)
