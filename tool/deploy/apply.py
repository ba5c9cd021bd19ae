"""deploy: makes the project match trust-map and functions/. Reading order is running order."""

from __future__ import annotations

import pathlib
import time
from functools import partial
from typing import NamedTuple

from tool.deploy import inventory, prerequisites, secret_grants
from tool.deploy.app import App, Wrong
from tool.deploy.cloud import Above, Database, Found, principal
from tool.deploy.gcloud import Answer, answer
from tool.deploy.options import Options
from tool.deploy.preflight import preflight, unknown_region
from tool.deploy.processes import side_by_side
from tool.deploy.progress import Refused, Stop, error, say
from tool.deploy.roles import Holder, holders
from tool.deploy.rollout import Rollout
from tool.deploy.target import Target
from tool.deploy.verify import Measured, verify
from tool.python import lock

NOTHING = Found(frozenset(), (), ())
APIS = "run cloudbuild artifactregistry logging iam iamcredentials cloudresourcemanager"


class Deployed(NamedTuple):
    measured: Measured
    found: Found  # what the project has now


async def deploy(
    options: Options, app: App, target: Target, work: pathlib.Path, missing: list[str]
) -> Deployed | None:
    """Deploys the functions and their bindings, then measures them. `work`: a folder of this run's own.
    `missing`: what the files need and the environment lacks.

    Returns nothing if a --dry-run only printed it.
    """
    progress, local = target.progress, target.local
    for sentence in lock.stale_of_app():
        error(sentence)
    found = show_needed(app, target, missing) if options.dry_run else await preflight(app, target, missing)
    target.gcloud.accounts = tuple(holder.email for holder in holders(app, target))

    # ---- Nothing has been changed up to here.

    with progress.step("Enabling the APIs"):
        is_new = not (found.enabled("run") or local or options.dry_run)
        found = await enable_apis(app, target, found)
        if is_new and (unknown := await unknown_region(target, found)):  # it can be known only now
            raise Stop(unknown)
        await target.know_number(found.services[0].project_number if found.services else "")
    with progress.step("Creating the service accounts"):
        await create_accounts(app, target, found)
    if app.uses_firestore and not local:
        with progress.step("Creating the database"):
            await create_database(target, found)
    with progress.step("Granting roles"):
        above = await grant_roles(app, target, found)
    rollout = Rollout(app, target, found, work)
    if options.dry_run:
        for function in app.chosen:
            await rollout.show(function)
        return None
    done = await side_by_side(*(rollout.deploy(function) for function in app.chosen))
    for sentence in sorted(rollout.missing_roles):
        error(f"  {sentence}")
    if not all(done):
        raise Stop("not everything is deployed. Correct the errors above, and run this again")
    for left in await secret_grants.left(app, target, found):
        await secret_grants.take_back(target, left.secret, left.member)
        say(f"  {left.function}: took back the secret {left.secret}, which no file asks for")
    if rollout.has_changed:
        found = found._replace(services=await inventory.services(target, found))
    app = app.private(rollout.stay_private)
    measured = await verify(options, app, target, work, found, above, rollout.policies)
    return Deployed(measured, found)


def show_needed(app: App, target: Target, missing: list[str]) -> Found:
    """--dry-run: what a deploy checks for before the first change."""
    if missing:
        raise Wrong(missing)
    if needed := list(prerequisites.listed(app, target)):
        say("# Needed before the first change")
        for one in needed:
            say(f"#   {one}")
    return NOTHING


async def enable_apis(app: App, target: Target, found: Found) -> Found:
    wanted = APIS.split()
    if app.uses_firestore and not target.local:
        wanted.append("firestore")
    if any(function.secrets for function in app.chosen):
        wanted.append("secretmanager")
    missing = [f"{api}.googleapis.com" for api in wanted if not found.enabled(api)]
    if missing:
        await target.gcloud.change(
            "gcloud services enable", *missing, f"--project={target.project}"
        )
    target.gcloud.apis_known = True
    return found._replace(apis=found.apis.union(missing))


async def create_accounts(app: App, target: Target, found: Found) -> None:
    gcloud = target.gcloud
    if target.local:
        await create_named_accounts(app, target, found)
    running = found.ours(target.mark, target.region)
    if running:
        running.append(target.builder)
    for holder in with_callers(app, target):
        account = found.account(holder.email)
        if account and account.disabled:
            await gcloud.change(
                "gcloud iam service-accounts enable", holder.email, f"--project={target.project}"
            )
        # A service account that was just deleted may still be listed. If its function runs, it does exist.
        if account and holder.name in running:
            continue
        made_at = int(time.time())
        await gcloud.change(
            "gcloud iam service-accounts create", holder.email.partition("@")[0],
            f"--project={target.project}", f"--display-name={holder.name}",
            f"--description={target.made_by} {made_at} app={target.app_name}",
            done=partial(inventory.account_is_ours, target, holder.email),
        )  # fmt: skip
        gcloud.accounts_made.append(made_at)


async def create_named_accounts(app: App, target: Target, found: Found) -> None:
    """On this machine, also creates those that the map names, so that a clone deploys without manual steps."""
    for email in prerequisites.accounts(app, target):
        if not found.account(email):
            await target.gcloud.change(
                "gcloud iam service-accounts create", email.partition("@")[0],
                f"--project={target.project}", "--display-name=named by trust-map",
                done=partial(inventory.account_is_there, target, email),
            )  # fmt: skip


def with_callers(app: App, target: Target) -> list[Holder]:
    """The service accounts that must exist: the functions' own, and those that their policies name."""
    callers = {c.name for function in app.chosen for c in function.invoked_by}
    wanted = [f for f in app.functions if f in app.chosen or f.name in callers]
    return holders(app._replace(only=tuple(f.name for f in wanted)), target)


async def create_database(target: Target, found: Found) -> None:
    is_there = partial(inventory.database_is, target, Database.NATIVE)
    if not target.gcloud.dry_run:
        there = found.database or await inventory.database(target)
        if there is Database.NATIVE:
            return
        if there is Database.OTHER_MODE:
            raise Refused(
                f"  The database {target.database} is in Datastore mode, but must be in Firestore mode."
                " Take another PREFIX, or delete it: gcloud firestore databases delete"
                f" --database={target.database} --project={target.project}"
            )
    await target.gcloud.change(
        "gcloud firestore databases create", f"--database={target.database}",
        f"--project={target.project}", f"--location={target.region}",
        "--type=firestore-native", "--format=none", done=is_there,
    )  # fmt: skip
    # gcloud returns before the database exists.
    if not target.gcloud.dry_run and not await target.gcloud.comes_true("the database", is_there):
        raise Refused(f"  The database {target.database} is not there yet.")


async def grant_roles(app: App, target: Target, found: Found) -> Above | None:
    """Returns the policies that it read, if it has not changed them."""
    above = Above(()) if target.gcloud.dry_run else found.above or await inventory.above(target)
    changed = False
    for holder in holders(app, target):  # two simultaneous changes of one policy collide
        for member, role in holder.left_by_deleted(above.of_project()):
            await take_back(target, member, role)
            target.progress.note(f"took {role} back from {member}")
            changed = True
        held = holder.held(above.of_project())
        for role in holder.too_many(held):
            await take_back(target, holder.member, role)
            target.progress.note(f"took {role} back from {holder.member}")
            held = [one for one in held if one.name != role]
            changed = True
        for role, condition in holder.missing(held):
            said = f"title={condition.title},expression={condition.expression}" if condition else None
            await target.gcloud.change(
                "gcloud projects add-iam-policy-binding", target.project,
                f"--member={holder.member}", f"--role={role}", f"--condition={said}",
                "--format=none",
            )  # fmt: skip
            changed = True
        await let_read_secrets(target, holder)
    return None if changed else above


async def take_back(target: Target, member: str, role: str) -> None:
    """Removes the role, whatever its condition."""
    await target.gcloud.change(
        "gcloud projects remove-iam-policy-binding", target.project, f"--member={member}",
        f"--role={role}", "--all", "--format=none", done=partial(is_taken_back, target, member, role),
    )  # fmt: skip


async def is_taken_back(target: Target, member: str, role: str) -> Answer:
    above = await inventory.above_or_hidden(target)
    if above.project_hidden:
        return Answer.UNKNOWN
    left = {(binding.principal, binding.role) for binding in above.of_project()}
    return answer((principal(member), role) not in left)


async def let_read_secrets(target: Target, holder: Holder) -> None:
    for secret in holder.secrets:
        if not target.gcloud.dry_run:
            if await secret_grants.may_read(target, secret, holder.member):
                continue
        await target.gcloud.change(
            "gcloud secrets add-iam-policy-binding", secret, f"--project={target.project}",
            f"--member={holder.member}", f"--role={secret_grants.READ}", "--format=none",
        )  # fmt: skip
