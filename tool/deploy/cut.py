"""How to end the ways to a function: bindings to take away, proven by searching again."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from typing import NamedTuple

from tool.deploy.cloud import Level
from tool.deploy.grants import Facts, OpenCheck, Removal, RoleBinding
from tool.deploy.graph import Graph, Sureness
from tool.deploy.principals import Distance, distance, is_agent_of_google
from tool.deploy.who import Search, Way

OWNERS = ("roles/owner", "roles/admin")


class Finding(NamedTuple):
    """What was found about one principal."""

    principal: str
    distance: Distance
    by_map: Way | None  # as trust-map says
    ways: tuple[Way, ...]  # all beyond that, the best way for each grant
    kept: tuple[Way, ...]  # what stays: by your own owner role, or as one of Google's agents
    cut: tuple[Removal, ...]  # without these, only by_map and kept are left

    @property
    def best(self) -> tuple[Sureness, int]:
        """The rank of its best way."""
        ways = [*self.ways, *self.kept, *([self.by_map] if self.by_map else [])]
        return min(way.rank for way in ways)

    @property
    def rank(self) -> tuple[bool, Distance, tuple[Sureness, int], str]:
        """"Perhaps" comes last; the rest by distance, farthest first, then by the surest and shortest way."""
        return self.best[0] is Sureness.PERHAPS, self.distance, self.best, self.principal


class Found(NamedTuple):
    """All that was found about one function."""

    facts: Facts
    function: str
    findings: tuple[Finding, ...]
    agents: tuple[str, ...]  # Google's own, by a role on the project or above it
    cut: tuple[Removal, ...] = ()  # for all of them, if it was asked for


def found_by(facts: Facts, function: str) -> Found:
    """Everybody who reaches the function, how, and what ends it."""
    paths = Search(Graph(facts, function))
    kept = kept_bindings(facts)
    findings = [finding(paths, kept, principal) for principal in paths.graph.principals]
    agents = sorted(f.principal for f in findings if not f.ways and not f.by_map and is_agent(facts, f))
    shown = [f for f in findings if f.principal not in agents]
    return Found(facts, function, tuple(sorted(shown, key=lambda f: f.rank)), tuple(agents))


def is_agent(facts: Facts, finding: Finding) -> bool:
    return is_agent_of_google(finding.principal, facts.number)


def with_cut(found: Found) -> Found:
    """Adds one list for the whole function, from which nothing can be left out."""
    paths = Search(Graph(found.facts, found.function))
    kept = kept_bindings(found.facts)
    longest_first = sorted(found.findings, key=lambda f: f.rank, reverse=True)
    every = list(dict.fromkeys(removal for f in longest_first for removal in f.cut))

    def reaches(one: Finding, removed: frozenset[Removal]) -> bool:
        return paths.reaches(one.principal, one.by_map is not None, removed, kept)

    ended = [f for f in longest_first if not reaches(f, frozenset(every))]

    def is_enough(removed: frozenset[Removal]) -> bool:
        left = paths.who_reaches(removed)
        return not any(f.principal in left and reaches(f, removed) for f in ended)

    return found._replace(cut=in_order(irreducible(every, is_enough), found.facts))


def kept_bindings(facts: Facts) -> frozenset[Removal]:
    """What is never proposed: your own owner role, and what Google gives its own agents."""
    return frozenset(
        RoleBinding(on, binding.member, binding.role)
        for binding, on in facts.grants
        if (binding.principal == facts.you and binding.role in OWNERS)
        or (on.level not in DIRECT and is_agent_of_google(binding.principal, facts.number))
    )


DIRECT = (Level.FUNCTION, Level.ACCOUNT, Level.JOB)


def finding(paths: Search, kept: frozenset[Removal], principal: str) -> Finding:
    """Takes away what each way begins with, and searches again, until there is no way left."""
    facts, by_map = paths.graph.facts, paths.way_by_map(principal)
    wanted, removed = by_map is not None, frozenset[Removal]()
    ways: dict[Removal, Way] = {}
    while True:
        new: dict[Removal, Way] = {}
        for way in paths.ways(principal, wanted, removed, kept):
            removal = first_removal(way, kept)
            if removal and (removal not in new or way.order < new[removal].order):
                new[removal] = way
        if not new:
            break
        ways |= new
        removed |= new.keys()

    def is_enough(removed: frozenset[Removal]) -> bool:
        return not paths.reaches(principal, wanted, removed, kept)

    ordered = sorted(ways, key=lambda removal: (ways[removal].order, written(removal)))
    cut = irreducible(ordered[::-1], is_enough)
    left = paths.ways(principal, wanted, frozenset(cut))
    return Finding(
        principal,
        distance(principal, facts.accounts, facts.you),
        by_map,
        tuple(ways[removal] for removal in ordered),
        best_by_grant(left),
        in_order(cut, facts),
    )


def best_by_grant(ways: Iterable[Way]) -> tuple[Way, ...]:
    """The best way for each grant that a way begins with."""
    best: dict[tuple[Removal, ...], Way] = {}
    for way in ways:
        grant = way.steps[0].edge.removals[:1]
        if grant not in best or way.order < best[grant].order:
            best[grant] = way
    return tuple(sorted(best.values(), key=lambda way: way.order))


def first_removal(way: Way, kept: frozenset[Removal]) -> Removal | None:
    """What to take away to end it: what the principal itself holds, before what comes later.

    A binding that trust-map makes stays: the next deploy would make it again.
    """
    for edge in (step.edge for step in way.steps if not step.edge.is_of_map):
        for removal in edge.removals:
            if removal not in kept:
                return removal
    return None


def irreducible(
    removals: Iterable[Removal], is_enough: Callable[[frozenset[Removal]], bool]
) -> list[Removal]:
    """Drops one removal after another, as long as the rest is enough."""
    left = dict.fromkeys(removals)
    for removal in list(left):
        if is_enough(frozenset(left.keys() - {removal})):
            del left[removal]
    return list(left)


def in_order(removals: Iterable[Removal], facts: Facts) -> tuple[Removal, ...]:
    """What you hold yourself comes last: you may need it for the other commands."""
    return tuple(sorted(removals, key=lambda removal: (is_yours(removal, facts), written(removal))))


def is_yours(removal: Removal, facts: Facts) -> bool:
    return isinstance(removal, RoleBinding) and removal.member.lower() == facts.you.lower()


def written(removal: Removal) -> tuple[str, ...]:
    if isinstance(removal, OpenCheck):
        return ("", removal.function)
    return removal.on.level.value, removal.on.id, removal.member, removal.role


def without(facts: Facts, removals: Iterable[Removal]) -> Facts:
    """The facts after these have been taken away."""
    gone = set(removals)
    functions = {
        name: function._replace(is_open=function.is_open and OpenCheck(name) not in gone)
        for name, function in facts.functions.items()
    }
    grants = tuple(
        grant
        for grant in facts.grants
        if RoleBinding(grant.on, grant.binding.member, grant.binding.role) not in gone
    )
    return dataclasses.replace(facts, functions=functions, grants=grants)


def after_cut(found: Found) -> Found:
    """What would be found after the commands of the cut."""
    return found_by(without(found.facts, found.cut), found.function)
