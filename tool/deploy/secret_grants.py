"""Which functions may still read secrets that no file asks for any more."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

from tool.deploy import inventory
from tool.deploy.app import App
from tool.deploy.cloud import Found, principal
from tool.deploy.from_json import secrets_from
from tool.deploy.gcloud import Answer, answer
from tool.deploy.target import Target

READ = "roles/secretmanager.secretAccessor"
SERVICE = "serving.knative.dev/service"


class Left(NamedTuple):
    """A grant that is left."""

    function: str
    secret: str
    member: str


async def left(app: App, target: Target, found: Found) -> list[Left]:
    """The grants that are left, if secrets can be used at all; revisions tell which secrets there were."""
    if not found.enabled("secretmanager"):
        return []
    where = (f"--project={target.project}", f"--region={target.region}")
    revisions = await target.gcloud.look("gcloud run revisions list", *where) or []
    grants = []
    for function in app.chosen:
        member = f"serviceAccount:{target.email(function.name)}"
        read = {
            secret
            for revision in revisions
            if revision["metadata"].get("labels", {}).get(SERVICE) == function.name
            for secret in secrets_from(revision.get("spec", {}))
        }
        for secret in sorted(read - set(function.secrets)):
            if await may_read(target, secret, member):
                grants.append(Left(function.name, secret, member))
    return grants


async def may_read(target: Target, secret: str, member: str) -> bool:
    readers = await inventory.readers_of(target, secret)
    return any(b.principal == principal(member) and b.role == READ for b in readers)


async def take_back(target: Target, secret: str, member: str) -> None:
    await target.gcloud.change(
        "gcloud secrets remove-iam-policy-binding", secret, f"--project={target.project}",
        f"--member={member}", f"--role={READ}", "--all", "--format=none",
        done=partial(no_longer_reads, target, secret, member),
    )  # fmt: skip


async def no_longer_reads(target: Target, secret: str, member: str) -> Answer:
    readers = await inventory.readers_of(target, secret)
    return answer(all(binding.principal != principal(member) for binding in readers))
