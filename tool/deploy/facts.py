"""who FUNCTION: collects the policies and roles of a project, to find the ways in them."""

from __future__ import annotations

from tool.deploy import inventory
from tool.deploy.app import App
from tool.deploy.cloud import Above, Found, Grant, Job, Level, Policy, Resource, principal
from tool.deploy.from_json import job_from, policy_from
from tool.deploy.grants import Facts, Function
from tool.deploy.processes import side_by_side
from tool.deploy.progress import Refused
from tool.deploy.target import Target


async def collected(app: App, target: Target, found: Found, name: str) -> Facts:
    """Everything that can be read. `name`: the function in question."""
    jobs = await jobs_of(target)
    above = found.above or await inventory.above_or_hidden(target)
    grants, unread = await granted(target, resources(found, jobs or ()))
    grants = [*above.grants, *grants]
    roles = inventory.Roles(target.gcloud)
    names = sorted({grant.binding.role for grant in grants})
    permissions = await side_by_side(*(roles.permissions(role) for role in names))
    asked = Resource(Level.FUNCTION, f"{target.region}/{name}")
    number = found.project_number
    default = f"{number}-compute@developer.gserviceaccount.com"
    return Facts(
        project=target.project,
        functions={
            f"{s.region}/{s.name}": Function((s.account or default).lower(), s.invoker_check_is_off)
            for s in found.services
        },
        accounts=frozenset(account.email.lower() for account in found.accounts),
        grants=tuple(grants),
        roles=dict(zip(names, permissions, strict=True)),
        jobs={f"{job.region}/{job.name}": (job.account or default).lower() for job in jobs or ()},
        by_map=by_map(app, target),
        you=principal(target.you),
        number=number,
        unread=tuple(in_words(above, jobs, target, unread)),
        hidden=(
            *([above.hidden] if above.project_hidden else []),
            *([f"the policy of {asked}"] if asked in unread else []),
        ),
    )


def by_map(app: App, target: Target) -> frozenset[tuple[str, str]]:
    """The bindings that a deploy makes: (function, principal)."""
    return frozenset(
        (f"{target.region}/{function.name}", principal(member))
        for function in app.functions
        for member in target.members(function)
    )


def in_words(above: Above, jobs: list[Job] | None, target: Target, unread: list[Resource]) -> list[str]:
    """What you may not read."""
    return [
        *([above.hidden] if above.hidden else []),
        *([] if jobs is not None else [f"the jobs of project {target.project}"]),
        *(f"the policy of {resource}" for resource in unread),
    ]


def resources(found: Found, jobs: list[Job] | tuple[()]) -> list[Resource]:
    """Everything that has a policy of its own."""
    return [
        *(Resource(Level.FUNCTION, f"{s.region}/{s.name}") for s in found.services),
        *(Resource(Level.JOB, f"{job.region}/{job.name}") for job in jobs),
        *(Resource(Level.ACCOUNT, account.email) for account in found.accounts),
    ]


async def jobs_of(target: Target) -> list[Job] | None:
    listed = await target.gcloud.look("gcloud run jobs list", f"--project={target.project}")
    return None if listed is None else [job_from(shown) for shown in listed]


async def granted(
    target: Target, resources: list[Resource]
) -> tuple[list[Grant], list[Resource]]:
    """What their policies grant, and which of them cannot be read."""
    policies = await side_by_side(*(policy_of(target, resource) for resource in resources))
    grants, unread = [], []
    for resource, policy in zip(resources, policies, strict=True):
        if policy is None:
            unread.append(resource)
            continue
        as_compared = resource._replace(id=resource.id.lower())
        grants += [Grant(binding, as_compared) for binding in policy]
    return grants, unread


async def policy_of(target: Target, resource: Resource) -> Policy | None:
    region, _, name = resource.id.rpartition("/")
    where = [f"--project={target.project}"]
    if resource.level is Level.FUNCTION:
        return await inventory.policy_or_none(target, name, region)
    command = "gcloud iam service-accounts get-iam-policy"
    if resource.level is Level.JOB:
        command, where = "gcloud run jobs get-iam-policy", [*where, f"--region={region}"]
    try:
        return policy_from(await target.gcloud.read(command, name, *where, quiet=True))
    except Refused:
        return None
