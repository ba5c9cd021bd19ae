"""What a deploy needs but does not make. Everything missing is named at once, before any change."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from tool.deploy.app import App
from tool.deploy.cloud import Found
from tool.deploy.gcloud import Answer, printed
from tool.deploy.processes import side_by_side
from tool.deploy.progress import Refused
from tool.deploy.roles import holders
from tool.deploy.target import Target


class Needed(NamedTuple):
    """Something that must exist, in words, and how to supply it."""

    what: str
    supplied_by: str


def secrets(app: App, target: Target) -> list[str]:
    """The names of the secrets that flags ask for, each once."""
    return sorted({secret for function in app.chosen for secret in function.secrets})


def accounts(app: App, target: Target) -> list[str]:
    """The service accounts of this project that the map names and a deploy to the cloud does not make."""
    made = {target.email(name) for name in app.names}
    members = (caller.name for function in app.chosen for caller in function.invoked_by)
    emails = {m.partition(":")[2] for m in members if m.startswith("serviceAccount:")}
    return sorted(e for e in emails - made if e.endswith(target.accounts_end))


def roles(app: App) -> list[str]:
    return sorted({use for f in app.chosen for use in f.may_use if use.startswith("roles/")})


def listed(app: App, target: Target) -> Iterator[str]:
    """For a --dry-run: what a deploy would check for."""
    yield from (f"the secret {name}, with an enabled version" for name in secrets(app, target))
    yield from (f"the service account {email}" for email in accounts(app, target))
    yield from (f"the role {role}" for role in roles(app))


async def missing(app: App, target: Target, found: Found) -> list[str]:
    """What is missing, each with the command or the file that supplies it. What cannot be seen does
    not count as missing."""
    asked = [secret_is_there(target, found, name) for name in secrets(app, target)]
    asked += [account_is_there(target, found, email) for email in accounts(app, target)]
    asked += [role_is_there(target, role) for role in not_granted_yet(app, target, found)]
    needed = [secret(target, found, name) for name in secrets(app, target)]
    needed += [account(target, email) for email in accounts(app, target)]
    needed += [role(name) for name in not_granted_yet(app, target, found)]
    answers = await side_by_side(*asked)
    return [
        f"{one.what}. {one.supplied_by}"
        for one, there in zip(needed, answers, strict=True) if there is Answer.NO
    ]  # fmt: skip


# ---- secrets


def secret(target: Target, found: Found, name: str) -> Needed:
    if target.local:
        by = f"Write it into .secrets/{name}, or as a line secret {name}=VALUE into environments/local"
        return Needed(f"the secret {name} has no value on this machine", by)
    project = f"--project={target.project}"
    enable = printed("gcloud services enable", "secretmanager.googleapis.com", project)
    first = "" if found.enabled("secretmanager") else f"{enable} && "
    create = printed("gcloud secrets create", name, "--data-file=-", project)
    by = f"Make it: {first}printf VALUE | {create}"
    return Needed(f"the secret {name} has no enabled version", by)


async def secret_is_there(target: Target, found: Found, name: str) -> Answer:
    if not target.local and not found.enabled("secretmanager"):
        return Answer.NO
    project = f"--project={target.project}"
    try:
        if target.local:
            await target.gcloud.read("gcloud secrets describe", name, project, quiet=True)
            return Answer.YES
        versions = await target.gcloud.read(
            "gcloud secrets versions list", name, project, "--filter=state:ENABLED", "--limit=1",
            quiet=True,
        )  # fmt: skip
        if not versions:
            return Answer.NO
        target.newest_versions[name] = str(versions[0]["name"]).rpartition("/")[2]
        return Answer.YES
    except Refused as refused:
        return Answer.NO if "not found" in refused.text.lower() else Answer.UNKNOWN


# ---- accounts


def account(target: Target, email: str) -> Needed:
    name = email.partition("@")[0]
    command = printed("gcloud iam service-accounts create", name, f"--project={target.project}")
    return Needed(f"trust-map names the service account {email}, which does not exist", f"Make it: {command}")


async def account_is_there(target: Target, found: Found, email: str) -> Answer:
    if target.local:  # a deploy makes it
        return Answer.YES
    there = any(one.email.lower() == email.lower() for one in found.accounts)
    return Answer.YES if there else Answer.NO


# ---- roles


def role(name: str) -> Needed:
    by = "Correct it: https://cloud.google.com/iam/docs/roles-permissions lists the roles"
    return Needed(f"trust-map names the role {name}, which does not exist", by)


def not_granted_yet(app: App, target: Target, found: Found) -> list[str]:
    """The roles to check: one that a service account already has must exist."""
    if not found.above:
        return roles(app)
    policy = found.above.of_project()
    return sorted(
        {
            one.name
            for holder in holders(app, target)
            for one in holder.missing(holder.held(policy))
            if one.name in roles(app)
        }
    )


async def role_is_there(target: Target, name: str) -> Answer:
    if not re.fullmatch(r"roles/\w[\w.]*", name):
        return Answer.NO
    try:
        await target.gcloud.read("gcloud iam roles describe", name, quiet=True)
    except Refused as refused:
        text = refused.text.lower()
        return Answer.NO if "not found" in text or "not_found" in text else Answer.UNKNOWN
    return Answer.YES
