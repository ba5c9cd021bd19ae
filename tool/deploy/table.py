"""The measured trust map as text, as JSON and as a picture."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator

from tool.deploy.cloud import Grant
from tool.deploy.measure import Cell, Expected, How, Said, Verdict
from tool.deploy.principals import is_agent_of_google
from tool.deploy.target import Target
from tool.deploy.verify import Inherited, Measured

GAP = 3  # spaces between two columns
FILE_WIDTH = 200  # of the table, if it is not printed to a terminal
MARKS = {Verdict.OK: " ok", Verdict.WRONG: " WRONG", Verdict.INHERITED: " inherited", Verdict.UNKNOWN: ""}


def text_of(cell: Cell) -> str:
    """A cell as the table shows it: 403 ok, in ok*, refused, by policy, ? none."""
    if cell.how is How.THROUGH_THE_CALLER:
        return f"{cell.said.value}{MARKS[cell.verdict]}*"
    if cell.how is How.BEHIND_INGRESS:
        return "ingress"
    if cell.how is How.BY_POLICY:
        return "? unknown" if cell.said is Said.UNKNOWN else f"{cell.said.value}, by policy"
    unknown = "? " if cell.verdict is Verdict.UNKNOWN else ""
    return f"{unknown}{cell.status}{MARKS[cell.verdict]}"


def as_text(measured: Measured, target: Target) -> Iterator[str]:
    names = [report.name for report in measured.functions]
    callers = list(dict.fromkeys(cell.caller for cell in measured.cells))
    shown = {(cell.caller, cell.function): text_of(cell) for cell in measured.cells}
    left = max(map(len, callers)) + GAP
    width = max(map(len, [*names, *shown.values(), " " * 13])) + GAP
    yield ""
    if 2 + left + width * len(names) > longest_line():
        yield from by_function(measured)
    else:
        yield (
            "The trust map as measured: may the caller on the left call the function above?"
            " (ok: as trust-map says)"
        )
        yield "  " + " " * left + "".join(name.ljust(width) for name in names)
        for caller in callers:
            cells = "".join(shown[caller, name].ljust(width) for name in names)
            yield f"  {caller:<{left}}{cells}"
    yield ""
    yield "Who may, by the policies:"
    for report in measured.functions:
        allowed = " ".join(report.allowed) or "nobody"
        yield f"  {report.name:<{width}}{allowed if report.policy_is_read else '? cannot be read'}"
        yield from (f"      {line}" for line in (*report.problems, *report.notes))
    if measured.inherited:
        yield "And every one of them, by a role on the project or above it:"
        lines = (inherited_line(one, measured.project_number) for one in measured.inherited)
        yield from dict.fromkeys(sorted(lines))
    if measured.hidden:
        yield f"Not known: {measured.hidden}. They are not visible to you."
    yield from explained(measured, target)


def longest_line() -> int:
    """How many characters fit on a line."""
    return os.get_terminal_size().columns if sys.stdout.isatty() else FILE_WIDTH


def by_function(measured: Measured) -> Iterator[str]:
    """For a table that is too wide: a line for each function, and everything that differs from the map."""
    yield "The trust map as measured: who was let in"
    width = max(len(report.name) for report in measured.functions) + GAP
    for report in measured.functions:
        cells = [cell for cell in measured.cells if cell.function == report.name]
        let_in = [
            f"{cell.caller} ({text_of(cell)})" for cell in cells
            if cell.said is Said.IN and cell.verdict is not Verdict.WRONG
        ]  # fmt: skip
        yield f"  {report.name:<{width}}{', '.join(let_in) or 'nobody'}, of {len(cells)} callers"
        for cell in cells:
            if cell.verdict in (Verdict.WRONG, Verdict.UNKNOWN):
                yield f"      {cell.caller}: {text_of(cell)}"


def inherited_line(one: Inherited, project_number: str) -> str:
    binding, on = one.grant
    is_agent = is_agent_of_google(binding.member, project_number)
    who = "Google's own service agents" if is_agent else binding.member
    condition = f" (if {binding.condition.title})" if binding.condition else ""
    hidden = "" if one.is_known else ", which cannot be looked into"
    return f"  {who}  {binding.role}{condition}{hidden} ({on.level.value} {on.id})"


def explained(measured: Measured, target: Target) -> Iterator[str]:
    """What the marks in the table mean, for those that occur."""
    cells = measured.cells
    if any(cell.how is How.THROUGH_THE_CALLER for cell in cells):
        yield "* asked through the caller itself, by its file verify"
    if any(cell.verdict is Verdict.INHERITED for cell in cells):
        yield (
            "inherited: you may call every function of this project, by a role on it or above it"
        )
    if any(cell.how is How.CALLED and cell.said is Said.UNKNOWN for cell in cells):
        yield "? the call got no conclusive answer"
    if any(cell.how is How.BEHIND_INGRESS for cell in cells):
        yield "ingress: the function takes no calls from here, as its flags say; see its policy below"
    if any(cell.how is How.BY_POLICY and cell.expected is Expected.EITHER for cell in cells):
        yield "? unknown: a group or another set may contain this caller; its members are not visible here"
    if not measured.you_have_a_token:
        yield "you: there is no ID token for you. See gcloud auth print-identity-token"
    by_policy = dict.fromkeys(c.caller for c in cells if c.how is How.BY_POLICY and c.caller != "you")
    if any(":" in caller for caller in by_policy):
        yield "by policy: not measured, because nobody can call as another person or as a group"
    functions = [caller for caller in by_policy if ":" not in caller]
    if functions:
        yield "by policy: not measured, because you may not act as that caller. This lets you:"
        yield (
            f"  for name in {' '.join(functions)}; do gcloud iam service-accounts"
            f" add-iam-policy-binding $name-sa{target.accounts_end} --project={target.project}"
            f" --member={target.you or 'YOU'} --role=roles/iam.serviceAccountTokenCreator; done"
        )


def as_json(measured: Measured) -> str:
    """Everything that the text says, with the values of the enums."""
    calls = [
        {
            "caller": cell.caller, "function": cell.function, "answer": cell.said.value,
            "status": int(cell.status) if cell.status.isdecimal() else None,
            "how": cell.how.value, "expected": cell.expected.value, "verdict": cell.verdict.value,
        }
        for cell in measured.cells
    ]  # fmt: skip
    functions = [
        {
            "function": report.name,
            "policy": list(report.allowed) if report.policy_is_read else None,
            "problems": list(report.problems),
            "notes": list(report.notes),
        }
        for report in measured.functions
    ]
    inherited = [
        {**shown_grant(one.grant), "role_is_known": one.is_known} for one in measured.inherited
    ]
    unknown = measured.unknown + ([measured.hidden] if measured.hidden else [])
    found = {
        "verdict": "wrong" if measured.wrong else "unknown" if measured.unknown else "ok",
        "calls": calls, "functions": functions, "inherited": inherited, "unknown": unknown,
    }  # fmt: skip
    return json.dumps(found, indent=2)


def shown_grant(grant: Grant) -> dict[str, str | None]:
    condition = grant.binding.condition
    return {
        "member": grant.binding.member, "role": grant.binding.role,
        "condition": condition.title if condition else None,
        "on": grant.on.level.value, "id": grant.on.id,
    }  # fmt: skip


def as_mermaid(measured: Measured) -> Iterator[str]:
    """An arrow for each call that is let in, dotted if that was not measured."""
    yield "flowchart LR"
    called: set[str] = set()
    open_to_everyone: set[str] = set()
    for cell in measured.cells:
        if cell.said is not Said.IN or cell.function in open_to_everyone:  # said once
            continue
        arrow = "-.->" if cell.how is How.BY_POLICY else "-->"
        yield f"    {node(cell.caller)} {arrow} {node(cell.function)}"
        called.add(cell.function)
        if cell.caller == "anonymous":
            open_to_everyone.add(cell.function)
    for report in measured.functions:
        if report.name not in called:
            yield f'    {re.sub(r"[^A-Za-z0-9]", "_", report.name)}["{report.name}<br>lets nobody in"]'


def node(name: str) -> str:
    id = re.sub(r"[^A-Za-z0-9]", "_", name)
    return name if id == name else f'{id}["{name}"]'
