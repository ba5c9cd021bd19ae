"""verify: calls every function as every caller, and says who was let in."""

from __future__ import annotations

import os
import pathlib
import shutil
from collections.abc import Iterable
from typing import NamedTuple

from tool.deploy import inventory, secret_grants
from tool.deploy.app import EVERYONE, YOU, App, Caller, Function, Kind
from tool.deploy.cloud import INVOKER, Above, Found, Grant, Policy, Service
from tool.deploy.gcloud import Answer
from tool.deploy.leftovers import not_asked_for
from tool.deploy.lend import acting_as_everyone
from tool.deploy.measure import SETS, Cell, Column, How, Measuring, Verdict
from tool.deploy.options import Options
from tool.deploy.preflight import left_the_map
from tool.deploy.processes import side_by_side, together
from tool.deploy.progress import Stop
from tool.deploy.roles import holder
from tool.deploy.rollout import is_exactly
from tool.deploy.target import Target

# The roles that deploy.sh itself grants do not include run.routes.invoke. All others are looked up.
GIVEN = ("roles/run.builder", "roles/datastore.user", "roles/iam.serviceAccountTokenCreator")
INVOKE = "run.routes.invoke"


class Inherited(NamedTuple):
    """Somebody who may call every function, through a role on the project or above it."""

    grant: Grant
    is_known: bool  # the role's permissions could be read


class Report(NamedTuple):
    """What is known about a function besides its calls."""

    name: str
    allowed: tuple[str, ...]  # whom its policy lets in, conditions in brackets
    problems: tuple[str, ...]  # what differs from what a deploy makes
    notes: tuple[str, ...]  # what a deploy leaves alone
    policy_is_read: bool


class Measured(NamedTuple):
    """The trust map as measured."""

    cells: tuple[Cell, ...]
    functions: tuple[Report, ...]
    inherited: tuple[Inherited, ...]
    hidden: str  # which policies are not visible to you
    you_have_a_token: bool
    project_number: str = ""  # tells Google's agents of this project from strangers

    @property
    def wrong(self) -> list[str]:
        """What differs from trust-map."""
        calls = [f"{c.caller} -> {c.function}" for c in self.cells if c.verdict is Verdict.WRONG]
        return calls + [f"see the note under {f.name}" for f in self.functions if f.problems]

    @property
    def unknown(self) -> list[str]:
        """What could not be found out."""
        unread = [f"the policy of {f.name} cannot be read" for f in self.functions if not f.policy_is_read]
        return unread + [
            f"{calls(cells)}: {reason}"
            for reason, cells in grouped(self.cells, Verdict.UNKNOWN).items()
        ]

    @property
    def by_policy(self) -> list[Cell]:
        """What was not measured, but is right according to the policies that were read."""
        not_called = (How.BY_POLICY, How.BEHIND_INGRESS)
        return [c for c in self.cells if c.how in not_called and c.verdict is Verdict.OK]


def grouped(cells: Iterable[Cell], verdict: Verdict) -> dict[str, list[Cell]]:
    """The cells with this verdict, grouped by the reason."""
    found: dict[str, list[Cell]] = {}
    for cell in cells:
        if cell.verdict is verdict:
            found.setdefault(reason(cell), []).append(cell)
    return found


def reason(cell: Cell) -> str:
    """Why it is not known whether the call is let in."""
    if cell.how is not How.CALLED:
        return "not called, and the policy is not the one of trust-map"
    if cell.status == "none":
        return "no answer came" if shutil.which("curl") else "curl is not installed"
    return f"the answer {cell.status} is inconclusive"


def calls(cells: Iterable[Cell]) -> str:
    """The calls, those to one function together, and functions with the same callers together."""
    callers: dict[str, list[str]] = {}
    for cell in cells:
        callers.setdefault(cell.function, []).append(cell.caller)
    functions: dict[str, list[str]] = {}
    for name, who in callers.items():
        functions.setdefault(" and ".join(who), []).append(name)
    return ", ".join(f"{who} -> {' and '.join(names)}" for who, names in functions.items())


async def verify(
    options: Options, app: App, target: Target, work: pathlib.Path,
    found: Found, above: Above | None, policies: dict[str, Policy],
) -> Measured:  # fmt: skip
    """Measures the map. `above` and `policies`: what was just read, and need not be read again."""
    # A function that has left the map can still be called.
    names = [function.name for function in app.chosen]
    names += [] if app.only else left_the_map(app, target, found)
    async with acting_as_everyone(target, app if options.as_everyone else None):
        roles = inventory.Roles(target.gcloud)
        async with together() as group:
            reading = group.create_task(inherited(target, roles, above))
            token = group.create_task(target.gcloud.text("gcloud auth print-identity-token"))
            read = [group.create_task(policy(target, name, policies)) for name in names]
        above, by_role = reading.result()
        read_policies = dict(zip(names, (task.result() for task in read), strict=True))
        columns = [column(app, target, name, read_policies[name]) for name in names]
        inherit = not above.hidden and any(is_yours(target, one) for one in by_role)
        measuring = Measuring(target, work, token.result() or None, inherit)
        rows = await side_by_side(
            *(measuring.row(caller, columns, hook(app, caller)) for caller in callers(app, target))
        )
        reports = await side_by_side(
            *(report(options, app, target, found, above, roles, c, read_policies[c.name]) for c in columns)
        )
        left = await secret_grants.left(app, target, found) if options.verb == "verify" else []
    cells = tuple(cell for row in rows for cell in row)
    reports = [with_secrets(one, left, target) for one in reports]
    has_token, number = bool(token.result()), found.project_number
    return Measured(cells, tuple(reports), tuple(by_role), above.hidden, has_token, number)


def callers(app: App, target: Target) -> list[Caller]:
    """Everyone, you, each function, and the members that the map names."""
    functions = [Caller(Kind.FUNCTION, name) for name in app.names]
    members = [Caller(Kind.MEMBER, name) for name in app.members if name != target.you]
    return [EVERYONE, YOU, *functions, *members]


def hook(app: App, caller: Caller) -> pathlib.Path | None:
    """The caller's own script to ask through it, if it has one."""
    function = app.function(caller.name) if caller.kind is Kind.FUNCTION else None
    file = pathlib.Path(function.folder) / "verify" if function else None
    return file if file and os.access(file, os.X_OK) else None


async def policy(
    target: Target, name: str, known: dict[str, Policy]
) -> Policy | None:
    return known[name] if name in known else await inventory.policy_or_none(target, name)


def column(
    app: App, target: Target, name: str, policy: Policy | None
) -> Column:
    function = app.function(name)
    members = target.members(function) if function else []
    is_right = policy is not None and is_exactly(policy, members)
    is_open = not function or function.flag("ingress", "all") == "all"
    return Column(name, tuple(members), is_right, is_open)


async def inherited(
    target: Target, roles: inventory.Roles, above: Above | None
) -> tuple[Above, list[Inherited]]:
    above = above or await inventory.above_or_hidden(target)
    looked_into = [grant for grant in above.grants if grant.binding.role not in GIVEN]
    allowed = await side_by_side(*(roles.allow(g.binding.role, INVOKE) for g in looked_into))
    return above, [
        Inherited(grant, may is Answer.YES)
        for grant, may in zip(looked_into, allowed, strict=True) if may is not Answer.NO
    ]  # fmt: skip


def is_yours(target: Target, inherited: Inherited) -> bool:
    """Whether it is you, or may be, if you are in a group."""
    member = inherited.grant.binding.member
    return member.lower() == target.you.lower() or member.startswith(SETS[:2])


async def report(
    options: Options, app: App, target: Target, found: Found, above: Above,
    roles: inventory.Roles, column: Column, policy: Policy | None,
) -> Report:  # fmt: skip
    allowed = set()
    for binding in policy or ():
        if binding.role == INVOKER or await roles.allow(binding.role, INVOKE) is not Answer.NO:
            condition = f" (if {binding.condition.title})" if binding.condition else ""
            allowed.add(f"{binding.member}{condition}")
    problems = problems_of(options, app, target, found, above, column, policy)
    function, service = app.function(column.name), found.service(column.name, target.region)
    notes = notes_on(function, service) if function and service else []
    is_read = policy is not None
    return Report(column.name, tuple(sorted(allowed)), tuple(problems), tuple(notes), is_read)


def with_secrets(report: Report, left: list[secret_grants.Left], target: Target) -> Report:
    problems = [
        f"its service account may still read the secret {one.secret}, which no file asks for. Run"
        f" {target.again()}"
        for one in left if one.function == report.name
    ]  # fmt: skip
    return report._replace(problems=(*report.problems, *problems))


def notes_on(function: Function, service: Service) -> list[str]:
    """What a deploy leaves alone, because it lets nobody in."""
    found = [f"the tag {tag.name} keeps {tag.revision} at a URL of its own" for tag in service.tags]
    return found + [
        f"it has {kept.what}, which no file asks for. No flag ends that: write"
        f" {kept.asked_by[0]}=VALUE into {function.folder}/flags, or destroy the function and deploy"
        " it again"
        for kept in not_asked_for(service.kept, function.flags) if not kept.ended_by
    ]  # fmt: skip


def problems_of(
    options: Options, app: App, target: Target, found: Found, above: Above,
    column: Column, policy: Policy | None,
) -> list[str]:  # fmt: skip
    """What differs from what a deploy makes, each with the command that corrects it."""
    name, run = column.name, f"Run {target.again()}"
    function, service = app.function(name), found.service(column.name, target.region)
    if not function:
        return [f"it is no longer in trust-map. This removes it: {target.again(f'destroy {name}')}"]
    problems = []
    if policy is not None and not column.policy_is_right:
        members = " ".join(column.members) or "nobody"
        problems.append(f"its policy is not the one of trust-map, which lets in: {members}. {run}")
    if service and service.invoker_check_is_off:
        problems.append(
            "its invoker check is switched off: everybody is let in, whatever the policy says."
            f" {run}"
        )
    if service:
        by_hand = service.changed_by_hand(target.email(name), function)
        problems += [f"{change}. {run}" for change in by_hand]
    # A deploy has just corrected the roles, and may still read the old ones.
    if options.verb == "verify" and not above.project_hidden:
        mine = holder(function, target)
        held = mine.held(above.of_project())
        problems += [
            f"its service account has {role}, which trust-map does not give it. {run}"
            for role in mine.too_many(held)
        ]
        problems += [f"its service account lacks {role.name}. {run}" for role in mine.missing(held)]
    account = found.account(target.email(name))
    if options.verb == "verify" and account and account.disabled:
        problems.append(f"its service account is disabled. {run}")
    return problems


def conclude(measured: Measured) -> str:
    """The last sentence. Raises Stop if something is not as the map says, or not known."""
    if measured.wrong:
        raise Stop(f"this is not what trust-map says: {', '.join(measured.wrong)}")
    if measured.unknown:
        unknown = "; ".join(measured.unknown)
        raise Stop(f"whether all is as trust-map says is not known: {unknown}", 3)
    sentence = "Every call that could be made was answered as the map says."
    if not measured.by_policy:
        return sentence
    return f"{sentence} Not measured, right by policy: {calls(measured.by_policy)}."
