"""Who could make a function run: every principal, with the shortest chain that gets it there.

Facts in, chains out. Which permission makes what possible is taken from Google's documentation of
each permission. Not known here, and therefore neither said to be so nor not to be so: what deny
policies take away, who is in a group, who may change what a role allows, who could take over an
account of another project.
"""

from __future__ import annotations

import dataclasses
import enum
import heapq
import itertools
import json
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from tool.deploy.cloud import Grant, Level, Resource

INVOKE = {"run.routes.invoke"}
MINT = {
    "iam.serviceAccounts.getAccessToken",
    "iam.serviceAccounts.getOpenIdToken",
    "iam.serviceAccounts.signBlob",
    "iam.serviceAccounts.signJwt",
}
ACT_AS = {"iam.serviceAccounts.actAs"}
SHELL = {"run.services.sshRead", "run.services.sshRoot"}  # gcloud beta run services ssh
# With actAs, each of these runs code, or makes calls, as the account. There may be more of them.
RUN_CODE = {
    "aiplatform.customJobs.create",
    "cloudbuild.builds.create",
    "cloudfunctions.functions.create",
    "cloudfunctions.functions.update",
    "cloudscheduler.jobs.create",
    "cloudtasks.tasks.create",
    "composer.environments.create",
    "compute.instances.create",
    "dataflow.jobs.create",
    "dataproc.clusters.create",
    "eventarc.triggers.create",
    "notebooks.instances.create",
    "pubsub.subscriptions.create",
    "run.instances.create",
    "run.jobs.create",
    "run.jobs.update",
    "run.services.create",
    "run.services.update",
    "run.workerpools.create",
    "workflows.workflows.create",
}
ABOVE = (Level.PROJECT, Level.FOLDER, Level.ORGANIZATION)
EVERYONE = ("allUsers", "allAuthenticatedUsers")
AGENT = re.compile(r"serviceAccount:(service-\d+@.*|\d+@cloudservices\.)gserviceaccount\.com")


class Held(NamedTuple):
    """A grant of a permission that was asked for."""

    member: str
    role: str
    on: Resource
    condition: str  # its title
    certain: bool  # no condition, and it is known what the role may do

    def __str__(self) -> str:
        on = "it" if self.on.level is Level.ACCOUNT else str(self.on)
        return f"{self.role} on {on}" + (f", if {self.condition}" if self.condition else "")


class Step(NamedTuple):
    who: str
    does: str
    by: tuple[Held, ...]
    passes: bool = False  # whoever may pass through this account can do it, too


class Chain(NamedTuple):
    certain: bool
    steps: tuple[Step, ...]

    @property
    def rank(self) -> tuple[bool, int, list[str]]:
        """What is certain comes first, then what is short; then the alphabet decides."""
        return not self.certain, len(self.steps), [f"{s.who} {s.does} {s.by}" for s in self.steps]


class Function(NamedTuple):
    account: str
    is_open: bool  # its invoker check is switched off


class Facts(NamedTuple):
    """What was read of a project."""

    functions: Mapping[str, Function]  # by REGION/NAME
    accounts: frozenset[str]  # their addresses, in small letters
    grants: tuple[Grant, ...]
    roles: Mapping[str, frozenset[str] | None]  # what they allow; None: it cannot be looked into
    wanted: frozenset[str] = frozenset()  # the principals that trust-map lets call the function
    unread: tuple[str, ...] = ()  # what the caller may not read

    def held(self, permissions: set[str], *resources: Resource) -> Iterator[Held]:
        """Who has one of the permissions on one of the resources, or on all of them from above."""
        for binding, on in self.grants:
            here = on.level in ABOVE or on in resources
            if not here or binding.member.startswith("deleted:"):
                continue
            allowed = self.roles.get(binding.role)
            if allowed is None or allowed & permissions:
                certain = allowed is not None and not binding.condition
                condition = binding.condition.title if binding.condition else ""
                yield Held(binding.principal, binding.role, on, condition, certain)


class Via(enum.Enum):
    """How a chain goes on from a place to the function."""

    AT = "at the function"
    AS = "as an account"
    THROUGH = "through an account, which may ask for tokens of another"


class Place(NamedTuple):
    via: Via
    what: str  # the function, or the address of the account


@dataclasses.dataclass(order=True)
class Ahead:
    """A place that is yet to be looked at, and the steps from it to the function."""

    rank: Any  # of the chain; the best is looked at first
    number: int  # in which it was found: so that nothing else is compared
    place: Place = dataclasses.field(compare=False)
    steps: tuple[Step, ...] = dataclasses.field(compare=False)


class Reach:
    """The chains that end at one function, found backwards from it."""

    def __init__(self, facts: Facts, function: str):
        self.facts, self.function, self.name = facts, function, function.rpartition("/")[2]

    def chains(self) -> dict[str, Chain]:
        """The best chain of each principal."""
        found: dict[str, Chain] = {}
        number = itertools.count()
        ahead = [Ahead((), next(number), Place(Via.AT, self.function), ())]
        done: set[Place] = set()
        while ahead:
            here = heapq.heappop(ahead)
            if here.place in done:
                continue
            done.add(here.place)
            for step in self.ways(here.place):
                steps = (step, *here.steps)
                chain = Chain(all(grant.certain for s in steps for grant in s.by), steps)
                if step.who not in found or chain.rank < found[step.who].rank:
                    found[step.who] = chain
                for place in self.reached_as(step):
                    heapq.heappush(ahead, Ahead(chain.rank, next(number), place, steps))
        return found

    def ways(self, place: Place) -> Iterator[Step]:
        look = {Via.AT: self.at, Via.AS: self.as_account, Via.THROUGH: self.through}
        return look[place.via](place.what)

    def reached_as(self, step: Step) -> Iterator[Place]:
        """Where whoever is the account that takes this step has come to."""
        kind, _, email = step.who.partition(":")
        if kind == "serviceAccount" and email in self.facts.accounts:
            yield Place(Via.AS, email)
            if step.passes:
                yield Place(Via.THROUGH, email)

    def at(self, function: str) -> Iterator[Step]:
        facts, name, here = self.facts, self.name, Resource(Level.FUNCTION, function)
        account, is_open = facts.functions[function]
        if is_open:
            yield Step("allUsers", f"may call {name}: its invoker check is switched off", ())
        for grant in facts.held(INVOKE, here):
            yield Step(grant.member, f"may call {name}", (grant,))
        for grant in facts.held({"run.services.setIamPolicy"}, here):
            yield Step(grant.member, f"may change who may call {name}", (grant,))
        for level in ABOVE:
            for grant in facts.held({f"resourcemanager.{level.value}s.setIamPolicy"}):
                if ABOVE.index(grant.on.level) >= ABOVE.index(level):
                    does = f"may change the policy of the {level.value}"
                    yield Step(grant.member, does, (grant,))
        updates = [*facts.held({"run.services.update"}, here)]
        for grants in pairs(facts.held(ACT_AS, Resource(Level.ACCOUNT, account.lower())), updates):
            yield Step(grants[0].member, f"may deploy other code as {name}", grants)
        for grant in facts.held(SHELL, here):
            yield Step(grant.member, f"may open a shell in {name}", (grant,))

    def as_account(self, email: str) -> Iterator[Step]:
        facts, here = self.facts, Resource(Level.ACCOUNT, email)
        for grant in facts.held(MINT, here):
            yield Step(grant.member, f"may make tokens of {email}", (grant,), True)
        for grant in facts.held({"iam.serviceAccountKeys.create"}, here):
            yield Step(grant.member, f"may make keys of {email}", (grant,))
        for grant in facts.held({"iam.serviceAccounts.setIamPolicy"}, here):
            yield Step(grant.member, f"may change who may act as {email}", (grant,))
        functions = [Resource(Level.FUNCTION, name) for name in facts.functions]
        running = [*facts.held(RUN_CODE, *functions)]
        for grants in pairs(facts.held(ACT_AS, here), running):
            yield Step(grants[0].member, f"may run code as {email}", grants)
        for name, (account, _) in facts.functions.items():
            if account.lower() == email:
                for grant in facts.held(SHELL, Resource(Level.FUNCTION, name)):
                    does = f"may open a shell in {name.rpartition('/')[2]}, which runs as {email}"
                    yield Step(grant.member, does, (grant,))

    def through(self, email: str) -> Iterator[Step]:
        delegation = {"iam.serviceAccounts.implicitDelegation"}
        for grant in self.facts.held(delegation, Resource(Level.ACCOUNT, email)):
            yield Step(grant.member, f"may ask for tokens through {email}", (grant,), True)


def pairs(grants: Iterable[Held], others: list[Held]) -> Iterator[tuple[Held, Held]]:
    """Each grant with one of the others that the same member has, the best of them."""
    for grant in grants:
        same = [o for o in others if o.member in (grant.member, *EVERYONE)]
        if same:
            yield grant, min(same, key=lambda other: (not other.certain, str(other)))


def ends(step: Step, project: str, function: str) -> str:
    """The command that takes away the first step of a chain."""
    region, _, name = function.partition("/")
    if not step.by:
        return f"gcloud run services update {name} --invoker-iam-check --region={region} --project={project}"
    grant = step.by[0]
    id = grant.on.id
    region, _, name = id.partition("/")
    command = {
        Level.FUNCTION: f"run services remove-iam-policy-binding {name} --region={region} --project={project}",
        Level.ACCOUNT: f"iam service-accounts remove-iam-policy-binding {id} --project={project}",
        Level.PROJECT: f"projects remove-iam-policy-binding {id}",
        Level.FOLDER: f"resource-manager folders remove-iam-policy-binding {id}",
        Level.ORGANIZATION: f"organizations remove-iam-policy-binding {id}",
    }[grant.on.level]
    whatever = " --all" if grant.condition else ""
    return f"gcloud {command} --member={shlex.quote(grant.member)} --role={grant.role}{whatever}"


def found_by(facts: Facts, project: str, function: str) -> dict[str, Any]:
    """What is printed, in this order and shape, by every format."""
    chains = Reach(facts, function).chains()
    ordered = sorted(chains, key=lambda who: (who not in EVERYONE, chains[who].rank))
    people = [who for who in ordered if not is_agent_of_google(who)]
    unknown = [f"who is in {who}" for who in people if who.startswith(("group:", "domain:", "principalSet:"))]
    roles = sorted(role for role, held in facts.roles.items() if held is None)
    unknown += [*(f"what {role} allows" for role in roles), *facts.unread]
    return {
        "function": function.rpartition("/")[2],
        "reached_by": [
            {
                "principal": who,
                "wanted": who in facts.wanted and len(chains[who].steps) == 1,
                "certain": chains[who].certain,
                "steps": [
                    {"who": s.who, "does": s.does, "by": [str(grant) for grant in s.by]}
                    for s in chains[who].steps
                ],
                "ends": ends(chains[who].steps[0], project, function),
            }
            for who in people
        ],
        "agents_of_google": [who for who in ordered if is_agent_of_google(who)],
        "unknown": unknown,
    }


def as_json(found: dict[str, Any]) -> str:
    return json.dumps(found, indent=2)


def as_text(found: dict[str, Any]) -> Iterator[str]:
    agents = found["agents_of_google"]
    nobody = "" if found["reached_by"] or agents else " nobody"
    yield f"{found['function']} can be reached by{nobody}"
    for one in found["reached_by"]:
        yield f"  {one['principal']}" + (", as trust-map says" if one["wanted"] else "")
        for step in one["steps"]:
            who = "" if step["who"] == one["principal"] else step["who"].partition(":")[2] + " "
            by = f" ({' and '.join(step['by'])})" if step["by"] else ""
            yield f"      {who}{step['does']}{by}"
        if not one["certain"]:
            yield "      (perhaps: a condition decides, or a role that cannot be looked into)"
        if not one["wanted"]:
            yield f"      this ends it: {one['ends']}"
    if agents:
        yield f"  Google's own service agents ({len(agents)}), for instance {agents[0]}"
    for what in found["unknown"]:
        yield f"Not known: {what}"
    yield "Not looked at: deny policies, who may change a role, and accounts of other projects."


def as_mermaid(found: dict[str, Any]) -> Iterator[str]:
    """A graph with an arrow for each step."""
    yield "flowchart LR"
    drawn: dict[str, None] = {}
    for one in found["reached_by"]:
        whom = [step["who"] for step in one["steps"][1:]] + [found["function"]]
        for step, target in zip(one["steps"], whom, strict=True):
            drawn[f"    {node(step['who'])} {'-->' if one['certain'] else '-.->'} {node(target)}"] = None
    yield from drawn or [f"    {node(found['function'])}"]


def node(name: str) -> str:
    id = re.sub(r"\W", "_", name)
    return id if id == name else f'{id}["{name}"]'


def is_agent_of_google(member: str) -> bool:
    return bool(AGENT.fullmatch(member))
