"""What was found about a function, as JSON and as a picture."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from tool.deploy.cut import Finding, Found, after_cut
from tool.deploy.grants import Facts
from tool.deploy.graph import Place, Sureness
from tool.deploy.permissions import Kind
from tool.deploy.sentences import (
    HALVES,
    NOT_LOOKED_AT,
    command,
    doubt_of,
    granted,
    name_of,
    sentence,
    unknown,
    warnings,
    who_does,
    why_kept,
)
from tool.deploy.who import Way

SURE = {
    Sureness.CERTAIN: "certain", Sureness.THROUGH_CODE: "through code", Sureness.PERHAPS: "perhaps",
}  # fmt: skip


def as_json(found: Found) -> str:
    facts = found.facts
    shown = {
        "function": name_of(found.function),
        "not_readable": list(facts.hidden),
        "reached_by": [json_of(finding, facts) for finding in found.findings],
        "agents_of_google": list(found.agents),
        "unknown": unknown(found),
        "not_looked_at": list(NOT_LOOKED_AT),
    }
    return json.dumps(shown, indent=2)


def json_of(finding: Finding, facts: Facts) -> dict[str, Any]:
    by_map = [finding.by_map] if finding.by_map else []
    return {
        "principal": finding.principal,
        "certain": finding.best[0] is Sureness.CERTAIN,
        "as_trust_map_says": finding.by_map is not None and not finding.ways and not finding.kept,
        "ways": [
            *(json_of_way(way, facts, by_map=True) for way in by_map),
            *(json_of_way(way, facts) for way in finding.ways),
            *({**json_of_way(way, facts), "kept": why_kept(way, facts)} for way in finding.kept),
        ],
        "ends": [command(removal, facts) for removal in finding.cut],
        "warnings": list(warnings(finding.cut, facts)),
    }


def json_of_way(way: Way, facts: Facts, by_map: bool = False) -> dict[str, Any]:
    return {
        "as_trust_map_says": by_map,
        "sure": SURE[way.sureness],
        "because": [doubt_of(doubt, way) for doubt in way.doubts],
        "steps": [
            {
                "who": who_does(step),
                "does": sentence(step, facts),
                "by": [granted(held, step) for held in step.edge.by],
            }
            for step in way.steps
        ],
    }


def cut_as_json(found: Found) -> str:
    left = after_cut(found)
    shown = {
        "function": name_of(found.function),
        "not_readable": list(found.facts.hidden),
        "commands": [command(removal, found.facts) for removal in found.cut],
        "warnings": list(warnings(found.cut, found.facts)),
        "left": [json_of(finding, left.facts) for finding in left.findings],
        "agents_of_google": list(left.agents),
        "unknown": unknown(left),
        "not_looked_at": list(NOT_LOOKED_AT),
    }
    return json.dumps(shown, indent=2)


# ---- as a picture


def as_mermaid(found: Found) -> Iterator[str]:
    """A graph with an arrow for each step, dotted if it is not certain."""
    yield "flowchart LR"
    drawn: dict[str, None] = {}
    for finding in found.findings:
        for way in (*([finding.by_map] if finding.by_map else []), *finding.ways, *finding.kept):
            for start, end, sureness in arrows(way, name_of(found.function)):
                arrow = "-->" if sureness is Sureness.CERTAIN else "-.->"
                drawn[f"    {node(start)} {arrow} {node(end)}"] = None
    yield from drawn or [f"    {node(name_of(found.function))}"]


def arrows(way: Way, function: str) -> list[tuple[str, str, Sureness]]:
    """Who reaches whom; the two halves of a pair are one arrow."""
    found: list[tuple[str, str, Sureness]] = []
    for step, following in zip(way.steps, (*way.steps[1:], None), strict=True):
        end = drawn_place(following.edge.start) if following else function
        if step.edge.start.kind in HALVES and found:
            start, _, sureness = found.pop()
            found.append((start, end, max(sureness, step.edge.sureness)))
        else:
            found.append((drawn_place(step.edge.start), end, step.edge.sureness))
    return found


def drawn_place(place: Place) -> str:
    if place.kind is Kind.REACHING:
        return name_of(place.what)
    is_address = place.kind is not Kind.BEING and "@" in place.what
    return f"serviceAccount:{place.what}" if is_address else place.what


def node(name: str) -> str:
    id = re.sub(r"\W", "_", name)
    return id if id == name else f'{id}["{name}"]'
