"""What was found about a function, as text; and one list of commands that a shell can run."""

from __future__ import annotations

from collections.abc import Iterator

from tool.deploy.cut import Finding, Found, after_cut
from tool.deploy.grants import Facts
from tool.deploy.sentences import (
    NOT_LOOKED_AT,
    command,
    lines_of,
    name_of,
    unknown,
    warnings,
    why_kept,
)


def as_text(found: Found) -> Iterator[str]:
    facts, name = found.facts, name_of(found.function)
    yield from first_of_all(facts, name)
    if found.findings or found.agents:
        yield f"{name} can be reached by"
    else:
        yield f"Who can reach {name}? Nobody was found, by the ways looked at."
    for finding in found.findings:
        yield from text_of(finding, facts)
    if found.agents:
        agents = f"({len(found.agents)}), for instance {found.agents[0]}"
        yield f"  Google's own service agents of this project {agents}"
    yield from (f"Not known: {what}" for what in unknown(found))
    yield "Not looked at (docs/troubleshooting.md says more about each):"
    yield from (f"  {what}" for what in NOT_LOOKED_AT)


def first_of_all(facts: Facts, name: str) -> Iterator[str]:
    if facts.hidden:
        yield f"Who can reach {name} is not known. You may not read {' and '.join(facts.hidden)}."


def text_of(finding: Finding, facts: Facts) -> Iterator[str]:
    more = [*finding.ways, *finding.kept]
    wanted = finding.by_map is not None
    yield f"  {finding.principal}" + (", as trust-map says" if wanted and not more else "")
    if finding.by_map:
        if more:
            yield "      as trust-map says:"
        yield from (f"      {line}" for line in lines_of(finding.by_map, facts))
    for number, way in enumerate(finding.ways):
        if wanted and number == 0:
            yield "      more than trust-map says:"
        elif number:
            yield "      or:"
        yield from (f"      {line}" for line in lines_of(way, facts))
    yield from ends_of(finding, facts)
    for way in finding.kept:
        yield from (f"      {line}" for line in lines_of(way, facts))
        yield f"      {why_kept(way, facts)}"


def ends_of(finding: Finding, facts: Facts) -> Iterator[str]:
    commands = [command(removal, facts) for removal in finding.cut]
    if len(commands) == 1:
        yield f"      this ends it: {commands[0]}"
    elif commands:
        yield f"      these {len(commands)} commands together end it:"
        yield from (f"        {line}" for line in commands)
    yield from (f"      ({warning})" for warning in warnings(finding.cut, facts))


# ---- one list of commands for the function


def cut_as_text(found: Found) -> Iterator[str]:
    """Commands and comments, as a shell reads them."""
    facts, name = found.facts, name_of(found.function)
    yield from (f"# {line}" for line in first_of_all(facts, name))
    if found.cut:
        these = f"these {len(found.cut)} commands" if len(found.cut) > 1 else "this command"
        yield f"# After {these}, only those below can reach {name}. None can be left out."
    else:
        yield f"# There is nothing to take away from {name}."
    yield from (command(removal, facts) for removal in found.cut)
    yield from (f"# Take care: {warning}" for warning in warnings(found.cut, facts))
    left = after_cut(found)
    yield f"# Then {name} can be reached by{'' if left.findings or left.agents else ' nobody that was found'}"
    for finding in left.findings:
        wanted = ", as trust-map says" if finding.by_map else ""
        yield f"#   {finding.principal}{wanted}"
        for way in finding.kept:
            yield from (f"#     {line}" for line in (*lines_of(way, facts), why_kept(way, facts)))
    if left.agents:
        yield f"#   Google's own service agents of this project ({len(left.agents)})"
    yield from (f"# Not known: {what}" for what in unknown(left))
    yield f"# Not looked at: {'; '.join(NOT_LOOKED_AT)}"
