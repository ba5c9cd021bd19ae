"""who FUNCTION: collects the policies and roles of a project, from which who.py finds the chains."""

from __future__ import annotations

from tool.deploy import inventory, who
from tool.deploy.app import App
from tool.deploy.cloud import Found, Grant, Level, Policy, Resource, policy_from, principal
from tool.deploy.processes import side_by_side
from tool.deploy.progress import Refused
from tool.deploy.target import Target


async def collected(app: App, target: Target, found: Found, name: str) -> who.Facts:
    """All that can be read. `name`: the function that is asked about."""
    above = await inventory.above_or_hidden(target)
    unread = [above.hidden] if above.hidden else []
    resources = [Resource(Level.FUNCTION, f"{s.region}/{s.name}") for s in found.services]
    resources += [Resource(Level.ACCOUNT, account.email) for account in found.accounts]
    policies = await side_by_side(*(policy_of(target, resource) for resource in resources))
    grants = list(above.grants)
    for resource, policy in zip(resources, policies, strict=True):
        if policy is None:
            unread.append(f"the policy of {resource}")
            continue
        as_compared = resource._replace(id=resource.id.lower())
        grants += [Grant(binding, as_compared) for binding in policy]
    roles = inventory.Roles(target.gcloud)
    names = sorted({grant.binding.role for grant in grants})
    permissions = await side_by_side(*(roles.permissions(role) for role in names))
    function = app.function(name)
    return who.Facts(
        functions={
            f"{s.region}/{s.name}": who.Function(s.account.lower(), s.invoker_check_is_off)
            for s in found.services
        },
        accounts=frozenset(account.email.lower() for account in found.accounts),
        grants=tuple(grants),
        roles=dict(zip(names, permissions, strict=True)),
        wanted=frozenset(map(principal, target.members(function) if function else ())),
        unread=tuple(unread),
    )


async def policy_of(target: Target, resource: Resource) -> Policy | None:
    region, _, name = resource.id.rpartition("/")
    if resource.level is Level.FUNCTION:
        return await inventory.policy_or_none(target, name, region)
    command, where = "gcloud iam service-accounts get-iam-policy", f"--project={target.project}"
    try:
        return policy_from(await target.gcloud.read(command, name, where, quiet=True))
    except Refused:
        return None
