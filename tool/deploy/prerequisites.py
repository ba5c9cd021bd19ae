"""What a deploy needs but does not make. Everything missing is named at once, before any change."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial

from tool.deploy import environment
from tool.deploy.app import App
from tool.deploy.cloud import Found
from tool.deploy.gcloud import printed
from tool.deploy.processes import side_by_side
from tool.deploy.progress import Refused
from tool.deploy.roles import holders
from tool.deploy.target import Target

# A name that still contains a $ has no value; that is reported elsewhere.


def secrets(app: App, target: Target) -> list[str]:
    """The names of the secrets that flags ask for, each once."""
    return sorted({secret for f in app.chosen for secret in f.secrets if "$" not in secret})


def accounts(app: App, target: Target) -> list[str]:
    """The service accounts of this project that the map names and a deploy to the cloud does not make."""
    made = {target.email(name) for name in app.names}
    members = (caller.name for function in app.chosen for caller in function.invoked_by)
    emails = {m.partition(":")[2] for m in members if m.startswith("serviceAccount:")}
    return sorted(e for e in emails - made if e.endswith(target.accounts_end) and "$" not in e)


def roles(app: App) -> list[str]:
    uses = {use for function in app.chosen for use in function.may_use}
    return sorted(use for use in uses if use.startswith("roles/") and "$" not in use)


def listed(app: App, target: Target) -> Iterator[str]:
    """For a --dry-run: what a deploy would check for."""
    yield from (f"the secret {name}, with an enabled version" for name in secrets(app, target))
    yield from (f"the service account {email}" for email in accounts(app, target))
    yield from (f"the role {role}" for role in roles(app))


async def missing(app: App, target: Target, found: Found) -> list[str]:
    """What is missing, each with the command or the file that supplies it. What cannot be seen does
    not count as missing."""
    answers = await side_by_side(
        *(missing_secret(target, found, name) for name in secrets(app, target)),
        *(missing_account(target, found, email) for email in accounts(app, target)),
        *(missing_role(target, name) for name in not_granted_yet(app, target, found)),
    )
    return [said for said in answers if said]


def made_by(target: Target, found: Found, api: str, command: str, *words: str, value: str = "") -> str:
    """The command that makes something, after enabling its API if necessary. `value`: its standard input."""
    project = f"--project={target.project}"
    enable = printed("gcloud services enable", f"{api}.googleapis.com", project)
    first = "" if found.enabled(api) else f"{enable} && "
    return f"Make it: {first}{value}{printed(command, *words, project)}"


# ---- secrets


async def missing_secret(target: Target, found: Found, name: str) -> str:
    """What is said of a secret without an enabled version; "": it has one, or that cannot be seen."""
    if target.local:
        return await missing_on_this_machine(target, name)
    make = partial(made_by, target, found, "secretmanager", value="printf VALUE | ")
    without = f"the secret {name} has no enabled version"
    none = f"{without}. {make('gcloud secrets create', name, '--data-file=-')}"
    if not found.enabled("secretmanager"):
        return none
    try:
        versions = await target.gcloud.read(
            "gcloud secrets versions list", name, f"--project={target.project}",
            "--filter=state:ENABLED", "--limit=1", quiet=True,
        )  # fmt: skip
    except Refused as refused:
        return none if is_not_found(refused) else ""
    if not versions:  # the secret itself is there
        return f"{without}. {make('gcloud secrets versions add', name, '--data-file=-')}"
    target.newest_versions[name] = str(versions[0]["name"]).rpartition("/")[2]
    return ""


async def missing_on_this_machine(target: Target, name: str) -> str:
    try:
        await target.gcloud.read("gcloud secrets describe", name, f"--project={target.project}", quiet=True)
    except Refused as refused:
        if is_not_found(refused):
            by = f"Write it into .secrets/{name}"
            if target.environment.name in ("", environment.LOCAL):  # another may be Google Cloud's, too
                by += f", or as a line secret {name}=VALUE into environments/local"
            return f"the secret {name} has no value on this machine. {by}"
    return ""


# ---- accounts


async def missing_account(target: Target, found: Found, email: str) -> str:
    name, named = email.partition("@")[0], f"trust-map names the service account {email}"
    if any(one.email.lower() == email.lower() for one in found.accounts):
        return ""
    if not re.fullmatch("[a-z][a-z0-9-]{4,28}[a-z0-9]", name):
        return f"{named}, which nobody can make: its name needs 6 to 30 of a-z, 0-9 and -, with a letter first"
    by = made_by(target, found, "iam", "gcloud iam service-accounts create", name)
    return "" if target.local else f"{named}, which does not exist. {by}"  # on this machine, a deploy makes it


# ---- roles


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


async def missing_role(target: Target, name: str) -> str:
    none = (
        f"trust-map names the role {name}, which does not exist. Correct it:"
        " https://cloud.google.com/iam/docs/roles-permissions lists the roles"
    )
    if not re.fullmatch(r"roles/\w[\w.]*", name):
        return none
    try:
        await target.gcloud.read("gcloud iam roles describe", name, quiet=True)
    except Refused as refused:
        return none if is_not_found(refused) else ""
    # On this machine every role can be granted on the project.
    grantable = None if target.local else await target.gcloud.look(
        "gcloud iam list-grantable-roles",
        f"//cloudresourcemanager.googleapis.com/projects/{target.project}", f"--filter=name={name}",
    )  # fmt: skip
    return f"trust-map names the role {name}, which cannot be granted on a project" if grantable == [] else ""


def is_not_found(refused: Refused) -> bool:
    text = refused.text.lower()
    return "not found" in text or "not_found" in text
