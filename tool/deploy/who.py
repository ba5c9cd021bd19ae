"""Who could make a function run: every principal, with the shortest chain that gets it there.

"deploy.sh who FUNCTION" reads the policies and roles, and hands them over on standard input:

    function|REGION/NAME|ACCOUNT|OPEN       each that is deployed; OPEN: its invoker check is off
    account|EMAIL                           each service account of the project
    binding|TYPE|ID|MEMBER|ROLE|CONDITION   TYPE: function, account, project, folder, organization;
                                            CONDITION: its title, which may hold a |
    role|ROLE|PERMISSION;PERMISSION;...     ? in place of the permissions: it cannot be looked into
    wanted|MEMBER                           whom trust-map lets call the function
    unread|WHAT                             what the caller may not read

Which permission makes what possible is taken from Google's documentation of each permission. Not
known here, and therefore neither said to be so nor not to be so: what deny policies take away, who is
in a group, who may change what a role allows, who could take over an account of another project.
Python 3.9 is enough.
"""

from __future__ import annotations

import heapq
import itertools
import json
import re
import shlex
import sys
from collections.abc import Iterator
from typing import NamedTuple

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
ABOVE = ("project", "folder", "organization")
EVERYONE = ("allUsers", "allAuthenticatedUsers")
AGENT = re.compile(r"serviceAccount:(service-\d+@.*|\d+@cloudservices\.)gserviceaccount\.com")


class Grant(NamedTuple):
    """One member of one binding of one policy."""

    member: str
    role: str
    kind: str
    id: str
    condition: str
    certain: bool  # no condition, and it is known what the role may do

    def __str__(self) -> str:
        on = "it" if self.kind == "account" else f"{self.kind} {self.id.rpartition('/')[2]}"
        return f"{self.role} on {on}" + (f", if {self.condition}" if self.condition else "")


class Step(NamedTuple):
    who: str
    does: str
    by: tuple[Grant, ...]
    passes: bool = False  # whoever may pass through this account can do it, too


class Chain(NamedTuple):
    certain: bool
    steps: tuple[Step, ...]

    @property
    def rank(self):
        """What is certain comes first, then what is short; then the alphabet decides."""
        return not self.certain, len(self.steps), [f"{s.who} {s.does} {s.by}" for s in self.steps]


class Facts:
    """What deploy.sh has read."""

    def __init__(self, lines):
        self.functions, self.accounts, self.roles, self.bindings = {}, [], {}, []
        self.wanted, self.unread = set(), []
        for line in lines:
            kind, _, rest = line.rstrip("\n").partition("|")
            words = rest.split("|", 4)
            if kind == "function":
                self.functions[words[0]] = words[1].lower(), words[2].lower() == "true"
            elif kind == "account":
                self.accounts.append(words[0].lower())
            elif kind == "role":
                known = words[1] != "?"
                self.roles[words[0]] = set(words[1].split(";")) if known else None
            elif kind == "binding" and not words[2].startswith("deleted:"):
                self.bindings.append((words[0], words[1].lower(), member(words[2]), *words[3:]))
            elif kind == "wanted":
                self.wanted.add(member(words[0]))
            elif kind == "unread":
                self.unread.append(rest)

    def grants(self, permissions: set[str], *resources: tuple[str, str]) -> Iterator[Grant]:
        """Who has one of the permissions on one of the resources, or on all of them from above."""
        for kind, id, who, role, condition in self.bindings:
            if kind in ABOVE or (kind, id) in resources:
                held = self.roles.get(role)
                if held is None or held & permissions:
                    certain = held is not None and not condition
                    yield Grant(who, role, kind, id, condition, certain)


def member(name: str) -> str:
    """As this is compared: the case of an address means nothing."""
    kind, colon, address = name.partition(":")
    return name if kind.startswith("principal") else kind + colon + address.lower()


class Reach:
    """The chains that end at one function, found backwards from it."""

    def __init__(self, facts: Facts, function: str):
        self.facts, self.function, self.name = facts, function, function.rpartition("/")[2]

    def chains(self) -> dict[str, Chain]:
        """The best chain of each principal."""
        found: dict[str, Chain] = {}
        # A place is where a chain goes on from to the function: at it, as an account, through one.
        places, done, number = [((), 0, "at", self.function, ())], set(), itertools.count(1)
        while places:
            _, _, how, what, rest = heapq.heappop(places)
            if (how, what) in done:
                continue
            done.add((how, what))
            ways = {"at": self.at, "as": self.as_account, "through": self.through}[how](what)
            for step in ways:
                chain = Chain(all(g.certain for s in (step, *rest) for g in s.by), (step, *rest))
                if step.who not in found or chain.rank < found[step.who].rank:
                    found[step.who] = chain
                kind, _, email = step.who.partition(":")
                if kind == "serviceAccount" and email in self.facts.accounts:
                    for how in ("as", "through") if step.passes else ("as",):
                        heapq.heappush(places, (chain.rank, next(number), how, email, chain.steps))
        return found

    def at(self, function: str) -> Iterator[Step]:
        facts, name, here = self.facts, self.name, ("function", function)
        account, is_open = facts.functions[function]
        if is_open:
            yield Step("allUsers", f"may call {name}: its invoker check is switched off", ())
        for grant in facts.grants(INVOKE, here):
            yield Step(grant.member, f"may call {name}", (grant,))
        for grant in facts.grants({"run.services.setIamPolicy"}, here):
            yield Step(grant.member, f"may change who may call {name}", (grant,))
        for kind in ABOVE:
            for grant in facts.grants({f"resourcemanager.{kind}s.setIamPolicy"}):
                if ABOVE.index(grant.kind) >= ABOVE.index(kind):
                    yield Step(grant.member, f"may change the policy of the {kind}", (grant,))
        updates = [*facts.grants({"run.services.update"}, here)]
        for grants in pairs(facts.grants(ACT_AS, ("account", account)), updates):
            yield Step(grants[0].member, f"may deploy other code as {name}", grants)
        for grant in facts.grants(SHELL, here):
            yield Step(grant.member, f"may open a shell in {name}", (grant,))

    def as_account(self, email: str) -> Iterator[Step]:
        facts, here = self.facts, ("account", email)
        for grant in facts.grants(MINT, here):
            yield Step(grant.member, f"may make tokens of {email}", (grant,), True)
        for grant in facts.grants({"iam.serviceAccountKeys.create"}, here):
            yield Step(grant.member, f"may make keys of {email}", (grant,))
        for grant in facts.grants({"iam.serviceAccounts.setIamPolicy"}, here):
            yield Step(grant.member, f"may change who may act as {email}", (grant,))
        functions = [("function", name) for name in facts.functions]
        running = [*facts.grants(RUN_CODE, *functions)]
        for grants in pairs(facts.grants(ACT_AS, here), running):
            yield Step(grants[0].member, f"may run code as {email}", grants)
        for name, (account, _) in facts.functions.items():
            if account == email:
                for grant in facts.grants(SHELL, ("function", name)):
                    does = f"may open a shell in {name.rpartition('/')[2]}, which runs as {email}"
                    yield Step(grant.member, does, (grant,))

    def through(self, email: str) -> Iterator[Step]:
        delegation = {"iam.serviceAccounts.implicitDelegation"}
        for grant in self.facts.grants(delegation, ("account", email)):
            yield Step(grant.member, f"may ask for tokens through {email}", (grant,), True)


def pairs(grants, others) -> Iterator[tuple[Grant, Grant]]:
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
    region, _, name = grant.id.partition("/")
    command = {
        "function": f"run services remove-iam-policy-binding {name} --region={region} --project={project}",
        "account": f"iam service-accounts remove-iam-policy-binding {grant.id} --project={project}",
        "project": f"projects remove-iam-policy-binding {grant.id}",
        "folder": f"resource-manager folders remove-iam-policy-binding {grant.id}",
        "organization": f"organizations remove-iam-policy-binding {grant.id}",
    }[grant.kind]
    whatever = " --all" if grant.condition else ""
    return f"gcloud {command} --member={shlex.quote(grant.member)} --role={grant.role}{whatever}"


def found_by(facts: Facts, project: str, function: str) -> dict:
    """What is printed, in this order and shape, by every format."""
    chains = Reach(facts, function).chains()
    ordered = sorted(chains, key=lambda who: (who not in EVERYONE, chains[who].rank))
    people = [who for who in ordered if not AGENT.fullmatch(who)]
    unknown = [f"who is in {who}" for who in people if who.startswith(("group:", "domain:", "principalSet:"))]
    roles = sorted(role for role, held in facts.roles.items() if held is None)
    unknown += [f"what {role} allows" for role in roles] + facts.unread
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
        "agents_of_google": [who for who in ordered if AGENT.fullmatch(who)],
        "unknown": unknown,
    }


def as_text(found: dict) -> Iterator[str]:
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


def as_mermaid(found: dict) -> Iterator[str]:
    """A graph with an arrow for each step."""
    yield "flowchart LR"
    drawn = {}
    for one in found["reached_by"]:
        whom = [step["who"] for step in one["steps"][1:]] + [found["function"]]
        for step, target in zip(one["steps"], whom):  # noqa: B905  as Python 3.9 has it
            drawn[f"    {node(step['who'])} {'-->' if one['certain'] else '-.->'} {node(target)}"] = None
    yield from drawn or [f"    {node(found['function'])}"]


def node(name: str) -> str:
    id = re.sub(r"\W", "_", name)
    return id if id == name else f'{id}["{name}"]'


def inherited(facts: Facts) -> Iterator[str]:
    """Who may call every function, by a role above them: member|type|id|role, for verify."""
    lines = set()
    for grant in facts.grants(INVOKE):
        role = grant.role + (f" (if {grant.condition})" if grant.condition else "")
        if facts.roles.get(grant.role) is None:
            role += ", which cannot be looked into"
        who = "Google's own service agents" if AGENT.fullmatch(grant.member) else grant.member
        lines.add((who, role, grant.kind, grant.id))
    for who, role, kind, id in sorted(lines):
        yield f"{who}|{kind}|{id}|{role}"


def main(what: str, project: str = "", form: str = "text") -> None:
    facts = Facts(sys.stdin)
    if what == "inherited":
        lines = inherited(facts)
    else:
        found = found_by(facts, project, what)
        as_json = json.dumps(found, indent=2).splitlines
        lines = {"text": as_text, "mermaid": as_mermaid, "json": lambda _: as_json()}[form](found)
    print(*lines, sep="\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
