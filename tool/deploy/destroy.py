"""destroy: removes what the labels and descriptions say was made by this script.

It needs neither trust-map nor functions/. Its order leaves no policy with a member that no longer
exists.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from functools import partial

from tool.deploy import app, interruption, inventory, secret_grants
from tool.deploy.apply import take_back
from tool.deploy.cloud import Database, Found, principal
from tool.deploy.environment import Environment
from tool.deploy.options import Options
from tool.deploy.processes import side_by_side
from tool.deploy.progress import Refused, Stop, error, say
from tool.deploy.roles import holders
from tool.deploy.target import Target
from tool.deploy.this_machine import ThisMachine


async def destroy(options: Options, target: Target, environment: Environment) -> None:
    if options.dry_run:
        await show(options, target, environment)
        return
    if isinstance(target, ThisMachine) and not target.is_there:
        if target.state.is_dir():
            await end_local_project(target)
        else:
            say("There is no local project.")
        return
    found = await inventory.look(target)
    if options.name:
        name = options.prefix + options.name.removeprefix(options.prefix)
        await destroy_one(options, target, found, name)
        return
    ours = found.ours(target.mark, target.region)
    emails = removable(target, found)
    elsewhere = sorted({s.region for s in found.ours_elsewhere(target.mark, target.region)})
    if not (options.quiet or target.local):
        database = target.database if options.delete_data else ""
        ask_first(target, ours, None if elsewhere else emails, database)
    with target.progress.step("Deleting the functions"):
        await delete_functions(target, ours)
    if elsewhere:
        say_what_uses_the_rest(target, elsewhere)
        return
    with target.progress.step("Taking back roles"):
        await take_back_roles(target, found, emails)
    with target.progress.step("Deleting the service accounts"):
        await delete_accounts(target, emails)
    if isinstance(target, ThisMachine):
        await end_or_keep(target, found)
        return
    await keep_or_delete_database(options, target, found)
    unseen = {"run": "the functions", "iam": "the service accounts"}
    hidden = [api for api in unseen if not found.enabled(api)]
    if hidden:
        what = " and ".join(unseen[api] for api in hidden)
        apis = " ".join(f"{api}.googleapis.com" for api in hidden)
        raise Stop(
            f"{what} cannot be seen, and may be left: the API is off. To remove them: gcloud"
            f" services enable {apis} --project={target.project}, then"
            f" {target.again('destroy')}"
        )
    say(
        "Kept: the enabled APIs, and what Google keeps of builds (repository"
        " cloud-run-source-deploy, bucket run-sources-...)."
    )


def say_what_uses_the_rest(target: Target, regions: list[str]) -> None:
    where = " ".join(regions)
    say(f"Kept: the service accounts and the database. The functions in {where} use them, too.")
    for region in regions:
        say(f"This removes those in {region}: {target.in_region(region).again('destroy')}")


async def destroy_one(
    options: Options, target: Target, found: Found, name: str
) -> None:
    """Removes one function with its service account, for instance one that has left the map."""
    email = target.email(name)
    there = name in found.ours(target.mark, target.region)
    account = found.account(email)
    if not there and not (account and target.mark.is_on_account(account)):
        raise Stop(f"there is no function {name} here that this script made")
    if not (options.quiet or target.local):
        ask_first(target, [name], [email], "")
    if there:
        with target.progress.step("Deleting the function"):
            await delete_functions(target, [name])
    if any(s.name == name and s.region != target.region for s in found.services):
        say("Kept: its service account. The function runs in another region, too.")
        return
    with target.progress.step("Taking back its roles"):
        await take_back_roles(target, found, [email])
    with target.progress.step("Deleting its service account"):
        await delete_accounts(target, [email])
    again = target.again()
    say(
        f"If trust-map still has its line, take that out, and run {again}: then no policy names it"
        " any more."
    )


async def show(options: Options, target: Target, environment: Environment) -> None:
    """--dry-run: prints the commands that remove what the current map makes."""
    the_app = app.read(options.prefix, environment).in_project(target.project)
    made = holders(the_app, target)
    with target.progress.step("Deleting the functions"):
        for name in the_app.names:
            await delete_function(target, name)
    with target.progress.step("Taking back roles"):
        for holder in made:
            for role in holder.roles:
                await take_back(target, holder.member, role.name)
    with target.progress.step("Deleting the service accounts"):
        await delete_accounts(target, [holder.email for holder in made])
    if options.delete_data and not target.local and the_app.uses_firestore:
        with target.progress.step("Deleting the database"):
            await delete_database(target)


def removable(target: Target, found: Found) -> list[str]:
    """The addresses of the app's service accounts, without the builder's if it builds for another app."""
    builder = target.email(target.builder)
    emails = [a.email for a in found.our_accounts(target.mark) if a.email != builder]
    account = found.account(builder)
    if account and account.made_by == target.made_by and not found.of_other_apps(target.mark):
        emails.append(builder)
    return emails


def ask_first(
    target: Target, functions: list[str], emails: list[str] | None, database: str
) -> None:
    """`emails`: None if the service accounts are kept."""
    say(f"This removes from project {target.project}, region {target.region}:")
    say(f"  functions: {' '.join(functions) or 'none'}")
    if emails is not None:
        say(f"  service accounts, with their roles: {' '.join(emails) or 'none'}")
        if database:
            say(f"  the database {database}, and all that is in it")
    print("Go on? (y/N) ", end="", flush=True)
    with interruption.while_typing():
        answered = sys.stdin.readline().strip()
    if answered not in ("y", "Y", "yes"):
        raise Stop("nothing was removed")


async def delete_functions(target: Target, names: list[str]) -> None:
    async def refusal(name: str) -> Refused | None:
        try:
            await delete_function(target, name)
        except Refused as refused:
            return refused
        return None

    # One refusal does not stop the others.
    refusals = [r for r in await side_by_side(*map(refusal, names)) if r]
    for refused in refusals[1:]:
        target.progress.refused(refused)
    if refusals:
        raise refusals[0]


async def delete_function(target: Target, name: str) -> None:
    await target.gcloud.change(
        "gcloud run services delete", name, f"--project={target.project}",
        f"--region={target.region}", "--quiet", done=partial(inventory.is_gone, target, name),
    )  # fmt: skip


async def take_back_roles(
    target: Target, found: Found, emails: list[str]
) -> None:
    """Also takes back what deleted service accounts of these names have left behind."""
    above = await inventory.above(target)
    for email in emails:
        taken: set[tuple[str, str]] = set()
        for binding in above.of_project():
            is_its = is_about(binding.member, email)
            if is_its and (binding.principal, binding.role) not in taken:
                taken.add((binding.principal, binding.role))
                await take_back(target, binding.member, binding.role)
    if emails and found.enabled("secretmanager"):
        await take_back_secrets(target, emails)


def is_about(member: str, email: str) -> bool:
    """Whether it is this service account, or a deleted one of this name."""
    alive = f"serviceAccount:{email}"
    deleted = f"deleted:{alive}?".lower()
    return principal(member) == principal(alive) or member.lower().startswith(deleted)


async def take_back_secrets(target: Target, emails: list[str]) -> None:
    try:
        where = f"--project={target.project}"
        secrets = await target.gcloud.read("gcloud secrets list", where, quiet=True)
    except Refused:
        target.progress.note(
            f"The secrets of project {target.project} cannot be listed. A binding of theirs that"
            " names one of these service accounts stays; it lets nobody in once the account is"
            " deleted"
        )
        return
    for secret in (one["name"].rpartition("/")[2] for one in secrets):
        for binding in await inventory.readers_of(target, secret):
            if any(is_about(binding.member, email) for email in emails):
                await secret_grants.take_back(target, secret, binding.member)


async def delete_accounts(target: Target, emails: Iterable[str]) -> None:
    for email in emails:
        await target.gcloud.change(
            "gcloud iam service-accounts delete", email, f"--project={target.project}", "--quiet",
            done=partial(inventory.account_is_gone, target, email),
        )  # fmt: skip


# ---- at the end


async def end_or_keep(target: ThisMachine, found: Found) -> None:
    for file in target.state.glob(f"{target.prefix}data.db*"):
        file.unlink()
    others = found.of_others(target.mark)
    if others:
        say(f"Kept: the local project, for {' '.join(others)}")
    else:
        await end_local_project(target)


async def end_local_project(target: ThisMachine) -> None:
    with target.progress.step("Ending the local project"):
        await target.manage("down")


async def keep_or_delete_database(options: Options, target: Target, found: Found) -> None:
    if not found.enabled("firestore"):
        if options.delete_data:
            error(f"Cannot see whether there is a database {target.database}: the API is off.")
        return
    try:
        there = await inventory.database(target)
    except Refused:
        error(f"Cannot see whether there is a database {target.database}.")
        if options.delete_data:
            raise Stop(
                f"the database {target.database} may still be there. The role"
                " roles/datastore.owner lets you see and delete it. Then run"
                f" {target.again('destroy --delete-data')}"
            ) from None
        return
    if there is Database.NONE:
        return
    if options.delete_data:
        with target.progress.step("Deleting the database"):
            await delete_database(target)
    else:
        say(f"Kept: the database {target.database}. --delete-data removes it.")


async def delete_database(target: Target) -> None:
    await target.gcloud.change(
        "gcloud firestore databases delete", f"--database={target.database}",
        f"--project={target.project}", "--quiet", "--format=none",
        done=partial(inventory.database_is, target, Database.NONE),
    )  # fmt: skip
