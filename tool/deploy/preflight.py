"""What a deploy checks before it changes anything."""

from __future__ import annotations

import asyncio
import difflib
import re

from tool.deploy import inventory, prerequisites
from tool.deploy.app import App
from tool.deploy.cloud import Found
from tool.deploy.progress import Stop, error
from tool.deploy.target import Target

GCLOUD_NEEDED = 528


async def preflight(app: App, target: Target, missing: list[str]) -> Found:
    """What the project contains. Raises Stop if something is in the way or missing."""
    found = await inventory.look(target)
    project = target.project
    if not target.local and not found.ours(target.mark, target.region):
        missing = missing + await first_time(target, found)
    missing = missing + await prerequisites.missing(app, target, found)
    if missing:
        await target.end_if_new()
        what = "\n".join(f"  {one}" for one in missing)
        raise Stop(f"nothing was changed, because this is missing or wrong:\n{what}")
    for name in app.names:
        service = found.service(name, target.region)
        if service and service.made_by == target.made_by and service.app not in ("", target.app_name):
            raise Stop(
                f"project {project} has a function {name} of the app {service.app}. Take another"
                " PREFIX, or another name for the function"
            )
        if service and not target.mark.is_on_service(service):
            raise Stop(
                f"project {project} has a Cloud Run service {name} that this script did not make."
                " Delete it, or take another project, region or PREFIX"
            )
    for name in (*app.names, target.builder):
        account = found.account(target.email(name))
        if account and account.made_by != target.made_by:
            raise Stop(
                f"project {project} has a service account {account.email} that this script did"
                " not make. Delete it, or take another project or PREFIX"
            )
    for one in found.ours_elsewhere(target.mark, target.region):
        error(
            f"{one.name} also runs in {one.region}, with the same service account. This removes it"
            f" there: {target.in_region(one.region).again(f'destroy {one.name}')}"
        )
    for name in left_the_map(app, target, found):
        again = target.again(f"destroy {name}")
        error(f"{name} is still deployed, but no longer in trust-map. This removes it: {again}")
    return found


async def first_time(target: Target, found: Found) -> list[str]:
    """What is missing of the things that only a first deploy checks, because each call of gcloud takes
    a second."""
    version, billing, unknown = await asyncio.gather(
        target.gcloud.look("gcloud version"),
        target.gcloud.look("gcloud billing projects describe", target.project),
        unknown_region(target, found),
    )
    known = (version or {}).get("Google Cloud SDK", "")
    number = re.match(r"\d+", known)
    if not number or int(number[0]) < GCLOUD_NEEDED:
        raise Stop(
            f"gcloud {number[0] if number else '?'} is too old, {GCLOUD_NEEDED} is needed. Run"
            " gcloud components update"
        )
    # If you may not see the billing account, that does not stop you here.
    missing = []
    if billing is not None and not billing.get("billingEnabled"):
        missing.append(
            f"project {target.project} has no billing account. See"
            f" https://console.cloud.google.com/billing/linkedaccount?project={target.project}"
        )
    return [*missing, unknown] if unknown else missing


async def unknown_region(target: Target, found: Found) -> str:
    """The error about a region that Cloud Run does not have; "" if it has it, or its API is not enabled yet."""
    if not found.enabled("run"):
        return ""
    listed = await target.gcloud.look("gcloud run regions list", f"--project={target.project}")
    there = [region["locationId"] for region in listed or ()]
    if not there or target.region in there:
        return ""
    near = difflib.get_close_matches(target.region, there, 1)
    question = f"; did you mean {near[0]}?" if near else ""
    return f"Cloud Run has no region {target.region}{question}"


def left_the_map(app: App, target: Target, found: Found) -> list[str]:
    """Our deployed functions that no longer have a line."""
    ours = found.ours(target.mark, target.region)
    return [name for name in ours if not app.function(name)]
