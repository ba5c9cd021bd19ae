"""The graph of ways to a function: places, and edges that each name the grants behind them.

Facts in, a graph out, no text. It holds only what leads to the function. A place that follows from
another by itself (code that runs as an account has its tokens) needs no edge.
"""

from __future__ import annotations

import enum
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from tool.deploy.cloud import Level, Resource
from tool.deploy.grants import ABOVE, Doubt, Facts, Held, Index, OpenCheck, Removal, written
from tool.deploy.permissions import (
    ACT_AS,
    CREATE,
    DEFAULTS,
    OF_JOB,
    RULES,
    SET_POLICY,
    UPDATE,
    UPDATE_JOB,
    Does,
    Kind,
    Rule,
)
from tool.deploy.principals import EVERYONE, email_of, is_set

EVERY = "*"  # every function or account of the project, as a role on the project gives them


class Sureness(enum.IntEnum):
    CERTAIN = 0
    THROUGH_CODE = 1  # if the code of a function or a job goes there
    PERHAPS = 2


class Place(NamedTuple):
    kind: Kind
    what: str  # a function, the address of an account, a principal, a level


class Edge(NamedTuple):
    """A step that somebody can take, and what lets them."""

    start: Place
    end: Place
    does: Does
    by: tuple[Held, ...]
    doubts: tuple[Doubt, ...]
    removals: tuple[Removal, ...]
    sureness: Sureness
    about: str = ""  # the job that it goes through

    @property
    def is_of_map(self) -> bool:
        """Whether trust-map itself opens it; what a function's code does is up to the app."""
        if self.does is Does.GO_THROUGH_CODE:
            return True
        return self.does is Does.CALL and self.by[0].is_of_map


def edge(
    start: Place, end: Place, does: Does, *by: Held, doubts: Iterable[Doubt] = (), about: str = ""
) -> Edge:
    every = (*(doubt for held in by for doubt in held.doubts), *doubts)
    through_code = does in (Does.GO_THROUGH_CODE, Does.START_JOB)
    sureness = Sureness.THROUGH_CODE if through_code else Sureness.CERTAIN
    removals = tuple(held.removal for held in by)
    return Edge(
        start, end, does, by, every, removals, Sureness.PERHAPS if every else sureness, about
    )


def user(held: Held, using: Kind) -> Place:
    """The place from which a grant can be used: for an account, having its token is enough."""
    email = email_of(held.principal)
    return Place(using, email) if email else Place(Kind.BEING, held.principal)


class Graph:
    """What leads to one function."""

    def __init__(self, facts: Facts, function: str):
        self.facts, self.goal = facts, Place(Kind.REACHING, function)
        self._index = Index(facts)
        self._starters = self._who_may_start_code()
        self.edges_to: dict[Place, list[Edge]] = {}
        self.givers: dict[Place, list[Place]] = {}  # the places that lead there without a step
        self.edges: dict[Place, list[Edge]] = defaultdict(list)  # by their start
        self.follows: dict[Place, list[Place]] = defaultdict(list)  # givers, the other way round
        ahead = [self.goal]
        for place in ahead:
            if place not in self.givers:
                self._add(place)
                ahead += [*self.givers[place], *(one.start for one in self.edges_to[place])]

    def _add(self, place: Place) -> None:
        self.edges_to[place] = [*self._edges_to(place)]
        self.givers[place] = [*self._gives(place)]
        for one in self.edges_to[place]:
            self.edges[one.start].append(one)
        for giver in self.givers[place]:
            self.follows[giver].append(place)

    @property
    def principals(self) -> list[str]:
        """Everybody who reaches the function."""
        return [p.what for p in self.givers if p.kind is Kind.BEING and p.what != EVERY]

    # ---- what follows by itself

    def _gives(self, place: Place) -> Iterator[Place]:
        """The places that lead to this one without a further step."""
        kind, what = place
        if kind is Kind.REACHING and what == EVERY:
            yield from (Place(Kind.POLICY_ABOVE, level.value) for level in ABOVE)
        if kind is Kind.BEING and email_of(what):
            yield Place(Kind.RUNNING, email_of(what))
            yield Place(Kind.ACCOUNT_POLICY, email_of(what))
        if kind is Kind.RUNNING:
            yield from (Place(Kind.INSIDE, name) for name in self._running_as(what))
        for giver in GIVEN_BY.get(kind, ()):
            if what != EVERY:
                member = f"serviceAccount:{what}" if giver is Kind.BEING else what
                yield Place(giver, member)
        if kind in RULES and (what in self.facts.functions or self._is_account(what)):
            yield Place(kind, EVERY)

    def _is_account(self, what: str) -> bool:
        return (email_of(what) or what) in self.facts.accounts

    def _running_as(self, email: str) -> list[str]:
        return [name for name, (account, _) in self.facts.functions.items() if account == email]

    # ---- what somebody does

    def _edges_to(self, place: Place) -> Iterator[Edge]:
        kind, what = place
        for rule in RULES.get(kind, ()):
            if kind is not Kind.BEING or what == EVERY or email_of(what):
                yield from self._by_rule(rule, place, self._index.here(rule.permission, self._on(place)))
        if kind is Kind.REACHING and what != EVERY and self.facts.functions[what].is_open:
            everyone = Place(Kind.BEING, "allUsers")
            yield edge(everyone, place, Does.FIND_IT_OPEN)._replace(removals=(OpenCheck(what),))
        if kind is Kind.POLICY_ABOVE:
            yield from self._to_policy_above(place)
        if kind is Kind.INSIDE and what != EVERY:
            yield from self._to_inside(place)
        if kind is Kind.RUNNING:
            yield from self._to_running(place)
        if kind is Kind.STARTING:
            for held in self._starters:
                yield edge(user(held, Kind.ACCESS_TOKEN), place, Does.HOLD_HALF, held)
        if kind is Kind.CALLING:
            for name in self._running_as(what):
                if name != self.goal.what:
                    yield edge(Place(Kind.REACHING, name), place, Does.GO_THROUGH_CODE)
        if kind in OF_JOB:
            yield from self._through_jobs(place)

    @staticmethod
    def _on(place: Place) -> Resource | None:
        kind, what = place
        if what == EVERY:
            return None
        on_function = kind in (Kind.REACHING, Kind.FUNCTION_POLICY, Kind.INSIDE, Kind.UPDATING)
        return Resource(Level.FUNCTION if on_function else Level.ACCOUNT, email_of(what) or what)

    @staticmethod
    def _by_rule(rule: Rule, end: Place, grants: Iterable[Held], about: str = "") -> Iterator[Edge]:
        doubts = () if rule.documented else (Doubt.METHOD,)
        for held in grants:
            yield edge(user(held, rule.using), end, rule.does, held, doubts=doubts, about=about)

    def _to_policy_above(self, place: Place) -> Iterator[Edge]:
        level = Level(place.what)
        for held in self._index.here(SET_POLICY[level], None):
            if ABOVE.index(held.grant.on.level) >= ABOVE.index(level):
                yield edge(user(held, Kind.ACCESS_TOKEN), place, Does.CHANGE_POLICY_ABOVE, held)

    def _to_inside(self, place: Place) -> Iterator[Edge]:
        """Deploying other code needs two permissions; if a set holds one of them, it is "perhaps"."""
        account = self.facts.functions[place.what].account
        acts = self._index.on(ACT_AS, Resource(Level.ACCOUNT, account))
        updates = self._index.on(UPDATE, Resource(Level.FUNCTION, place.what))
        yield from same_holder(acts, updates, place, Does.DEPLOY)
        for half, others in (((Kind.UPDATING, place.what), acts), ((Kind.ACTING, account), updates)):
            yield from as_member(Place(*half), others, place, Does.DEPLOY_AS_MEMBER)

    def _to_running(self, place: Place) -> Iterator[Edge]:
        acts = self._index.here(ACT_AS, self._on(place))
        yield from same_holder(acts, self._starters, place, Does.RUN_CODE)
        starting = Place(Kind.STARTING, EVERY)
        yield from as_member(starting, acts, place, Does.RUN_CODE_AS_MEMBER)
        for address, permission in DEFAULTS.items():
            if self.facts.number and place.what == address.format(number=self.facts.number):
                rule = Rule(permission, Does.USE_DEFAULT, documented=False)
                yield from self._by_rule(rule, place, self._index.here(permission, None))

    def _through_jobs(self, place: Place) -> Iterator[Edge]:
        for job, account in self.facts.jobs.items():
            for rule in OF_JOB[place.kind] if account == place.what else ():
                grants = self._index.on(rule.permission, Resource(Level.JOB, job))
                yield from self._by_rule(rule, place, grants, job)

    def _who_may_start_code(self) -> list[Held]:
        """Who may start code, given actAs: by making something new, or changing what a function or a job runs as."""
        here = self._index.here
        found = [held for permission in sorted(CREATE) for held in here(permission, None)]
        changed = [(UPDATE, Level.FUNCTION, self.facts.functions), (UPDATE_JOB, Level.JOB, self.facts.jobs)]
        for permission, level, names in changed:
            for name in sorted(names):
                found += here(permission, Resource(level, name))
            found += here(permission, None) if names else []
        return sorted(dict.fromkeys(found), key=lambda held: (bool(held.doubts), written(held.grant)))


# Having reached one of the second means having reached the first.
GIVEN_BY = {
    Kind.REACHING: (Kind.INSIDE, Kind.FUNCTION_POLICY),
    Kind.ACCESS_TOKEN: (Kind.BEING,),
    Kind.ID_TOKEN: (Kind.BEING,),
    Kind.ASKING: (Kind.ACCESS_TOKEN,),
    Kind.CALLING: (Kind.ID_TOKEN,),
}


def same_holder(firsts: list[Held], seconds: list[Held], end: Place, does: Does) -> Iterator[Edge]:
    """Pairs of grants that one principal holds; what everyone holds, each principal holds."""
    by_holder: dict[str, list[Held]] = defaultdict(list)
    for second in seconds:
        by_holder[second.principal].append(second)
    for first in firsts:
        for holder in dict.fromkeys((first.principal, *EVERYONE)):
            for second in by_holder[holder][:1] if does is Does.RUN_CODE else by_holder[holder]:
                yield edge(user(first, Kind.ACCESS_TOKEN), end, does, first, second)


def as_member(half: Place, others: list[Held], end: Place, does: Does) -> Iterator[Edge]:
    """The other half of a pair, if a set holds it: everyone has it, or perhaps somebody."""
    for held in others:
        if held.principal in EVERYONE:
            yield edge(half, end, does, held)
        elif is_set(held.principal):
            yield edge(half, end, does, held, doubts=(Doubt.MEMBER,))
