"""Who could make a function run: every principal, with each way that gets it there.

Searches the graph of graph.py. The best way is the surest, then the shortest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Set
from typing import NamedTuple

from tool.deploy.grants import Doubt, Removal
from tool.deploy.graph import EVERY, Edge, Graph, Place, Sureness
from tool.deploy.permissions import Kind

NOTHING: frozenset[Removal] = frozenset()
NOWHERE: frozenset[Place] = frozenset()


class Step(NamedTuple):
    edge: Edge
    to: Place  # where it leads; of all functions or accounts, the one on this way


class Way(NamedTuple):
    steps: tuple[Step, ...]

    @property
    def sureness(self) -> Sureness:
        return max(step.edge.sureness for step in self.steps)

    @property
    def doubts(self) -> list[Doubt]:
        return list(dict.fromkeys(doubt for step in self.steps for doubt in step.edge.doubts))

    @property
    def rank(self) -> tuple[Sureness, int]:
        return self.sureness, len(self.steps)

    @property
    def order(self) -> tuple[tuple[Sureness, int], list[int]]:
        """The rank; among equals, the one that is simpler to tell comes first."""
        return self.rank, [step.edge.does.value for step in self.steps]


Trail = tuple[Place | Edge, ...]  # what a way passes, from its start to the function
Hops = dict[Place, tuple[Place, Edge | None] | None]  # the next place from each place, and the edge to it


class Search:
    """The ways in a graph. `removed`: what is taken out of it for this question."""

    def __init__(self, graph: Graph):
        self.graph = graph
        self._next = {level: self._nearest(as_sure_as(level)) for level in Sureness}

    def own_places(self, principal: str) -> dict[Place, None]:
        """The places that a principal has without taking a step, in the order in which they follow."""
        places = {Place(Kind.BEING, principal): None}
        for place in (ahead := list(places)):
            for follows in self.graph.follows.get(place, ()):
                if follows not in places:
                    places[follows] = None
                    ahead.append(follows)
        return places

    def way_by_map(self, principal: str) -> Way | None:
        """The way that trust-map opens, if it opens one."""
        start = Place(Kind.BEING, principal)
        trail = self._trail(start, lambda edge: edge.is_of_map, NOWHERE)
        return way(trail) if trail else None

    def ways(
        self, principal: str, wanted: bool, removed: frozenset[Removal], kept: Set[Removal] = NOTHING
    ) -> Iterator[Way]:
        """The best way for each first step that the principal can take; see first_steps."""
        own = self.own_places(principal)
        for edge in self.first_steps(own, wanted, removed | kept):
            for level in Sureness:
                if level >= edge.sureness and (rest := self._rest(edge.end, level, removed, own)):
                    yield way((edge, *rest))
                    break

    def reaches(
        self, principal: str, wanted: bool, removed: frozenset[Removal], kept: Set[Removal] = NOTHING
    ) -> bool:
        """Whether there is any such way. It tries everything before it says no."""
        own = self.own_places(principal)
        ahead = [edge.end for edge in self.first_steps(own, wanted, removed | kept)]
        nearest = self._next[Sureness.PERHAPS]
        if any(is_free(walked(nearest, place), removed, own) for place in ahead):
            return True
        seen = set(own)
        while ahead:
            place = ahead.pop()
            if place == self.graph.goal:
                return True
            if place in seen:
                continue
            seen.add(place)
            ahead += self.graph.follows.get(place, ())
            ahead += [e.end for e in self.graph.edges.get(place, ()) if removed.isdisjoint(e.removals)]
        return False

    def first_steps(
        self, own: dict[Place, None], wanted: bool, removed: frozenset[Removal] | Set[Removal]
    ) -> Iterator[Edge]:
        """What a principal can do; for one that the map lets in, only what goes beyond that."""
        for place in own:
            for edge in self.graph.edges.get(place, ()):
                leads_on = edge.end not in own and removed.isdisjoint(edge.removals)
                if leads_on and not (wanted and edge.is_of_map):
                    yield edge

    def _rest(
        self, start: Place, level: Sureness, removed: frozenset[Removal], own: dict[Place, None]
    ) -> Trail | None:
        """The shortest way on that is as sure as this and does not return to the principal."""
        if start not in self._next[level]:
            return None
        trail = walked(self._next[level], start)
        if is_free(trail, removed, own):
            return trail

        def usable(edge: Edge) -> bool:
            return edge.sureness <= level and removed.isdisjoint(edge.removals)

        return self._trail(start, usable, own.keys())

    def who_reaches(self, removed: frozenset[Removal]) -> set[str]:
        """Every principal that has any way at all, including those that trust-map opens."""
        hops = self._nearest(lambda edge: removed.isdisjoint(edge.removals))
        return {place.what for place in hops if place.kind is Kind.BEING}

    def _nearest(self, usable: Callable[[Edge], bool]) -> Hops:
        """The shortest ways from every place, searched backwards from the function."""
        hops: Hops = {self.graph.goal: None}
        layer = [self.graph.goal]
        while layer:
            here, ahead, layer = [], layer[::-1], []
            while ahead:  # and the places that lead here without a step
                here.append(place := ahead.pop())
                for giver in self.graph.givers[place]:
                    if giver not in hops:
                        hops[giver] = (place, None)
                        ahead.append(giver)
            for place in here:
                for edge in self.graph.edges_to[place]:
                    if edge.start not in hops and usable(edge):
                        hops[edge.start] = (place, edge)
                        layer.append(edge.start)
        return hops

    def _trail(
        self, start: Place, usable: Callable[[Edge], bool], avoided: Set[Place]
    ) -> Trail | None:
        """The shortest way from here to the function, searched layer by layer."""
        came: Hops = {start: None}
        layer = [start]
        while layer:
            for place in layer:  # grows by the places that follow without a step
                for follows in self.graph.follows.get(place, ()):
                    if follows not in came and follows not in avoided:
                        came[follows] = (place, None)
                        layer.append(follows)
            if self.graph.goal in came:
                return walked(came, self.graph.goal)[::-1]
            here, layer = layer, []
            for place in here:
                for edge in self.graph.edges.get(place, ()):
                    if edge.end not in came and edge.end not in avoided and usable(edge):
                        came[edge.end] = (place, edge)
                        layer.append(edge.end)
        return None


def as_sure_as(level: Sureness) -> Callable[[Edge], bool]:
    return lambda edge: edge.sureness <= level


def walked(hops: Hops, place: Place) -> Trail:
    trail: list[Place | Edge] = [place]
    while (hop := hops[place]) is not None:
        place, edge = hop
        trail += [edge, place] if edge else [place]
    return tuple(trail)


def is_free(trail: Trail, removed: frozenset[Removal], own: dict[Place, None]) -> bool:
    """Whether it avoids everything that is removed, and the principal's own places."""
    return all(
        removed.isdisjoint(one.removals) if isinstance(one, Edge) else one not in own for one in trail
    )


def way(trail: Trail) -> Way:
    steps: list[Step] = []
    for number, one in enumerate(trail):
        if isinstance(one, Edge):
            passed = (p for p in trail[number + 1 :] if isinstance(p, Place) and p.what != EVERY)
            steps.append(Step(one, next(passed)))
    return Way(tuple(steps))
