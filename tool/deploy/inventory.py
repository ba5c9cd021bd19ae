"""Asks gcloud what the project contains; after a change, asks again."""

from __future__ import annotations

import asyncio

from tool.deploy.cloud import (
    Above,
    Account,
    Database,
    Found,
    Grant,
    Level,
    Policy,
    Resource,
    Service,
)
from tool.deploy.from_json import account_from, grants_from, policy_from, service_from
from tool.deploy.gcloud import Answer, Gcloud, answer
from tool.deploy.processes import together
from tool.deploy.progress import Refused, Stop
from tool.deploy.target import Target


async def look(target: Target) -> Found:
    """The enabled APIs, the services and the service accounts of the project."""
    gcloud, project = target.gcloud, target.project
    try:
        listed = await gcloud.read("gcloud services list --enabled", f"--project={project}")
    except Refused as refused:
        raise stop(target, refused, f"project {project} cannot be used") from None
    apis = frozenset(api["config"]["name"] for api in listed)
    gcloud.apis_known = bool(apis)
    found = Found(apis, (), ())
    async with together() as group:
        there = group.create_task(services(target, found))
        accounts = group.create_task(service_accounts(target, found))
        policies = group.create_task(above_if_enabled(target, found))
        data = group.create_task(database_if_enabled(target, found))
    found = Found(apis, there.result(), accounts.result(), policies.result(), data.result())
    gcloud.accounts_made += [a.made_at for a in found.our_accounts(target.mark)]
    return found


async def above_if_enabled(target: Target, found: Found) -> Above | None:
    """For verbs that need it: reading it side by side with the rest costs no time."""
    if target.options.verb not in ("deploy", "verify") or not found.enabled("cloudresourcemanager"):
        return None
    try:
        return await above(target)
    except Refused:
        return None  # the code that needs it asks again, and says why


async def database_if_enabled(target: Target, found: Found) -> Database | None:
    if target.options.verb != "deploy" or target.local or not found.enabled("firestore"):
        return None
    try:
        return await database(target)
    except Refused:
        return None


async def services(target: Target, found: Found) -> tuple[Service, ...]:
    if not found.enabled("run"):
        return ()
    where = f"--project={target.project}"
    try:
        return tuple(map(service_from, await target.gcloud.read("gcloud run services list", where)))
    except Refused as refused:
        raise stop(
            target, refused, f"the services of project {target.project} cannot be listed"
        ) from None


async def service_accounts(target: Target, found: Found) -> tuple[Account, ...]:
    if not found.enabled("iam"):
        return ()
    command, where = "gcloud iam service-accounts list", f"--project={target.project}"
    try:
        return tuple(map(account_from, await target.gcloud.read(command, where)))
    except Refused as refused:
        what = f"the service accounts of project {target.project}"
        raise stop(target, refused, f"{what} cannot be listed") from None


def stop(target: Target, refused: Refused, what: str) -> Stop:
    target.progress.refused(refused)
    return Stop(f"{what}. See the error above")


# ---- a service


async def policy_of(target: Target, name: str, region: str = "") -> Policy:
    """The policy of a service. Raises Refused."""
    where = (f"--project={target.project}", f"--region={region or target.region}")
    return policy_from(
        await target.gcloud.read("gcloud run services get-iam-policy", name, *where, quiet=True)
    )


async def policy_or_none(target: Target, name: str, region: str = "") -> Policy | None:
    try:
        return await policy_of(target, name, region)
    except Refused:
        return None


async def now_serves(target: Target, name: str, revision: str) -> Answer:
    """Asks the service itself, because the reported end of an operation proves nothing."""
    where = (f"--project={target.project}", f"--region={target.region}")
    try:
        described = await target.gcloud.read(
            "gcloud run services describe", name, *where, quiet=True
        )
    except Refused:
        return Answer.UNKNOWN
    service = service_from(described)
    source, _, time = revision.rpartition("-")
    named, _, named_at = service.revision.rpartition("-")
    # Another deploy of the same source may have come after this one.
    is_it = named == source and named_at.isdecimal() and int(named_at) >= int(time)
    return answer(is_it and service.serves_the_newest)


async def is_gone(target: Target, name: str) -> Answer:
    """Whether there is no such service any more."""
    where = (f"--region={target.region}", f"--project={target.project}")
    try:
        listed = await target.gcloud.read("gcloud run services list", *where, quiet=True)
    except Refused:
        return Answer.UNKNOWN
    return answer(all(one["metadata"]["name"] != name for one in listed))


# ---- service accounts


async def account_is_ours(target: Target, email: str) -> Answer:
    where = f"--project={target.project}"
    described = await target.gcloud.look("gcloud iam service-accounts describe", email, where)
    return answer(bool(described) and account_from(described).made_by == target.made_by)


async def account_is_there(target: Target, email: str) -> Answer:
    gone = await account_is_gone(target, email)
    return {Answer.YES: Answer.NO, Answer.NO: Answer.YES}.get(gone, gone)


async def account_is_gone(target: Target, email: str) -> Answer:
    where = f"--project={target.project}"
    try:
        await target.gcloud.read("gcloud iam service-accounts describe", email, where, quiet=True)
    except Refused as refused:
        missing = any(w in refused.text for w in ("NOT_FOUND", "Unknown service account"))
        return Answer.YES if missing else Answer.UNKNOWN
    return Answer.NO


# ---- the database


async def database(target: Target) -> Database:
    """Raises Refused if it cannot be read."""
    what = (f"--database={target.database}", f"--project={target.project}")
    try:
        described = await target.gcloud.read(
            "gcloud firestore databases describe", *what, quiet=True
        )
    except Refused as refused:
        if any(w in refused.text for w in ("NOT_FOUND", "does not exist", "not found")):
            return Database.NONE
        raise
    native = described.get("type") == Database.NATIVE.value
    return Database.NATIVE if native else Database.OTHER_MODE


async def database_is(target: Target, wanted: Database) -> Answer:
    try:
        return answer(await database(target) is wanted)
    except Refused:
        return Answer.UNKNOWN


# ---- policies above, roles, secrets


async def above(target: Target) -> Above:
    """The policies of the project and above it. Raises Refused if not even the project's is visible."""
    gcloud, project = target.gcloud, target.project
    shown = await gcloud.look("gcloud projects get-ancestors-iam-policy", project)
    if shown is not None:
        return Above(grants_from(shown))
    policy = policy_from(
        await gcloud.read("gcloud projects get-iam-policy", project, quiet=True)
    )
    here = Resource(Level.PROJECT, project)
    grants = tuple(Grant(binding, here) for binding in policy)
    return Above(grants, f"the policies above project {project}")


async def above_or_hidden(target: Target) -> Above:
    try:
        return await above(target)
    except Refused:
        hidden = f"the policies of project {target.project} and above it"
        return Above((), hidden, project_hidden=True)


class Roles:
    """What roles allow. Asks Google, because lists of roles go out of date, and once for each role."""

    def __init__(self, gcloud: Gcloud):
        self._gcloud = gcloud
        self._asked: dict[str, asyncio.Future[frozenset[str] | None]] = {}

    async def permissions(self, role: str) -> frozenset[str] | None:
        """None if they cannot be read."""
        if role not in self._asked:
            self._asked[role] = asyncio.ensure_future(self._described(role))
        return await self._asked[role]

    async def allow(self, role: str, permission: str) -> Answer:
        held = await self.permissions(role)
        return Answer.UNKNOWN if held is None else answer(permission in held)

    async def _described(self, role: str) -> frozenset[str] | None:
        where: tuple[str, ...] = ()
        name = role
        if not role.startswith("roles/"):  # a project's or an organisation's own
            owner, _, name = role.partition("/roles/")
            kind, _, owner = owner.partition("s/")
            where = (f"--{kind}={owner}",)
        try:
            described = await self._gcloud.read(
                "gcloud iam roles describe", name, *where, quiet=True
            )
        except Refused:
            return None
        return frozenset(described.get("includedPermissions", ()))


async def readers_of(target: Target, secret: str) -> Policy:
    """Who may do what with a secret; nobody if its policy cannot be read."""
    where = f"--project={target.project}"
    return policy_from(await target.gcloud.look("gcloud secrets get-iam-policy", secret, where) or {})
