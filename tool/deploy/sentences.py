"""The words for a step, a way and a command of "who"."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator

from tool.deploy.cloud import Level
from tool.deploy.cut import OWNERS, Found
from tool.deploy.grants import Doubt, Facts, Held, OpenCheck, Removal, RoleBinding
from tool.deploy.permissions import Does, Kind
from tool.deploy.principals import EVERYONE, email_of, is_set
from tool.deploy.who import Step, Way

# docs/troubleshooting.md explains what each means and where to look.
NOT_LOOKED_AT = (
    "deny policies",
    "changes to what a role allows",
    "accounts of other projects",
    "members of a group, a domain or another set",
    "queues, schedules, topics, triggers and workflows that call as an account",
    "instances, clusters, builds and whatever else runs as an account",
    "people whom Identity-Aware Proxy (IAP) lets in",
    "providers of a workload identity pool",
    "roles on request (Privileged Access Manager)",
    "build inputs: source buckets and images",
)
DOES = {
    Does.CALL: "may call {function}",
    Does.FIND_IT_OPEN: "may call {function}: its invoker check is switched off",
    Does.CHANGE_FUNCTION_POLICY: "may change who may call {function}",
    Does.CHANGE_ACCOUNT_POLICY: "may change who may act as {account}",
    Does.CHANGE_POLICY_ABOVE: "may change the policy of the {level}",
    Does.OPEN_SHELL: "may open a shell in {function}",
    Does.DEPLOY: "may deploy other code as {function}",
    Does.MAKE_ID_TOKENS: "may make ID tokens of {account}",
    Does.MAKE_ACCESS_TOKENS: "may make access tokens of {account}",
    Does.SIGN: "may sign as {account}, and so make tokens of it",
    Does.MAKE_KEYS: "may make keys of {account}",
    Does.ASK_THROUGH: "may ask for tokens through {account}",
    Does.RUN_CODE: "may run code as {account}",
    Does.ACT_AS: "could run code as {account}",
    Does.USE_DEFAULT: "could run code as {account}, an account that Google made",
    Does.CHANGE_JOB: "could change the job {job}, which runs as {account}",
    Does.CHANGE_JOB_POLICY: "may change who may run the job {job}, which runs as {account}",
    Does.OVERRIDE_JOB: "could run the job {job}, which runs as {account}, with other arguments",
    Does.START_JOB: "may start the job {job}, whose code runs as {account}",
    Does.GO_THROUGH_CODE: "calls others as {account}",
    Does.RUN_CODE_AS_MEMBER: "could be in {set}, and so run code as {account}",
    Does.DEPLOY_AS_MEMBER: "could be in {set}, and so deploy other code as {function}",
}
HALVES = {
    Kind.STARTING: "may run code as any account that it may act as",
    Kind.UPDATING: "may update {function}",
    Kind.ACTING: "may act as {account}",
}
DOUBTS = {
    Doubt.CONDITION: "a condition decides",
    Doubt.ROLE: "the permissions of a role cannot be read",
    Doubt.METHOD: "it is not documented that this permission is enough",
    Doubt.MEMBER: "who is in {sets} is not known",
}


# ---- a way


def name_of(function: str) -> str:
    return function.rpartition("/")[2]


def sentence(step: Step, facts: Facts) -> str:
    """What somebody does in a step, without naming who."""
    edge, to = step.edge, step.to
    text = HALVES[edge.end.kind] if edge.does is Does.HOLD_HALF else DOES[edge.does]
    holder = edge.by[0].principal if edge.by else ""
    if edge.does in (Does.RUN_CODE_AS_MEMBER, Does.DEPLOY_AS_MEMBER) and holder in EVERYONE:
        text = text.replace("could be in {set}, and so", "may, as everyone may,")
    said = text.format(
        function=name_of(to.what), account=email_of(to.what) or to.what, level=to.what,
        job=name_of(edge.about), set=holder,
    )  # fmt: skip
    if edge.does is Does.OPEN_SHELL:
        said += f", which runs as {facts.functions[to.what].account}"
    return said


def who_does(step: Step) -> str:
    kind, what = step.edge.start
    if kind is Kind.REACHING:
        return f"the code of {name_of(what)}"
    return email_of(what) or what


def granted(held: Held, step: Step) -> str:
    binding, on = held.grant
    is_named = on.level is Level.ACCOUNT and on.id == (email_of(step.to.what) or step.to.what)
    condition = f", if {binding.condition.title}" if binding.condition else ""
    return f"{binding.role} on {'it' if is_named else on}{condition}"


def lines_of(way: Way, facts: Facts) -> Iterator[str]:
    through = [s.edge.start.what for s in way.steps if s.edge.does is Does.GO_THROUGH_CODE]
    if through:
        first = way.steps[0].edge.start.what
        who = "anonymous" if first == "allUsers" else email_of(first) or first.partition(":")[2] or first
        names = " → ".join(map(name_of, through))
        yield f"{who} → {names}, through {'its' if len(through) == 1 else 'their'} code:"
    for number, step in enumerate(way.steps):
        is_the_same = number == 0 or step.edge.start.kind in HALVES
        who = "" if is_the_same else f"{who_does(step)} "
        by = " and ".join(granted(held, step) for held in step.edge.by)
        yield f"{who}{sentence(step, facts)}{f' ({by})' if by else ''}"
    if doubts := [doubt_of(doubt, way) for doubt in way.doubts]:
        yield f"(perhaps: {'; '.join(doubts)})"


def doubt_of(doubt: Doubt, way: Way) -> str:
    holders = [held.principal for step in way.steps for held in step.edge.by]
    return DOUBTS[doubt].format(sets=" and ".join(dict.fromkeys(filter(is_set, holders))))


# ---- what ends it


def command(removal: Removal, facts: Facts) -> str:
    """The shell command that takes something away."""
    if isinstance(removal, OpenCheck):
        region, _, name = removal.function.partition("/")
        return shlex.join(
            ["gcloud", "run", "services", "update", name, "--invoker-iam-check",
             f"--region={region}", f"--project={facts.project}"]
        )  # fmt: skip
    on = removal.on
    region, _, name = on.id.rpartition("/")
    there = (f"--region={region}", f"--project={facts.project}")
    words = {
        Level.FUNCTION: ("run", "services", "remove-iam-policy-binding", name, *there),
        Level.JOB: ("run", "jobs", "remove-iam-policy-binding", name, *there),
        Level.ACCOUNT: (
            "iam", "service-accounts", "remove-iam-policy-binding", on.id, f"--project={facts.project}",
        ),
        Level.PROJECT: ("projects", "remove-iam-policy-binding", on.id),
        Level.FOLDER: ("resource-manager", "folders", "remove-iam-policy-binding", on.id),
        Level.ORGANIZATION: ("organizations", "remove-iam-policy-binding", on.id),
    }[on.level]  # fmt: skip
    which = (f"--member={removal.member}", f"--role={removal.role}", *conditions(removal, facts))
    return shlex.join(["gcloud", *words, *which])


def conditions(removal: RoleBinding, facts: Facts) -> tuple[str, ...]:
    """gcloud asks which binding is meant if any binding of that policy has a condition.

    Jobs take no conditions, and gcloud has no such option for them.
    """
    there = facts.under_condition.get(removal.on, set())
    if (removal.member, removal.role) in there:
        return ("--all",)
    return ("--condition=None",) if there else ()


def warnings(removals: Iterable[Removal], facts: Facts) -> Iterator[str]:
    """Warns if a command may lock you out, because you are an owner only through a set."""
    owns = any(b.principal == facts.you and b.role in OWNERS for b, _ in facts.grants)
    for removal in removals:
        if isinstance(removal, RoleBinding) and removal.role in OWNERS and is_set(removal.member) and not owns:
            yield f"if you are in {removal.member}, taking {removal.role} from it locks you out"


def why_kept(way: Way, facts: Facts) -> str:
    first = way.steps[0].edge
    if first.by and first.by[0].principal == facts.you:
        role = first.by[0].grant.binding.role
        return f"this is your own {role}: taking it away would lock you out"
    return "no command is given for this"


# ---- what is not known


def unknown(found: Found) -> list[str]:
    """What could not be read, or cannot be seen."""
    facts = found.facts
    sets = [f"who is in {f.principal}" for f in found.findings if is_set(f.principal)]
    roles = sorted(role for role, held in facts.roles.items() if held is None)
    unread = [what for what in facts.unread if what not in facts.hidden]
    return [*sorted(sets), *(f"what {role} allows" for role in roles), *unread]
