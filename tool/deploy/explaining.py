"""explain URL: collects what is known about the service behind a URL, reads a token, and judges it."""

from __future__ import annotations

import json
import re
import shlex
import sys
import time
from urllib.parse import urlsplit

from tool.deploy import explain, interruption, inventory, processes
from tool.deploy.cloud import INVOKER, Binding, Service
from tool.deploy.explain_known import Grant, Known, Reply, Unread
from tool.deploy.from_json import account_from, service_from
from tool.deploy.gcloud import Answer
from tool.deploy.processes import together
from tool.deploy.progress import Refused, error, say
from tool.deploy.target import Target
from tool.deploy.this_machine import ThisMachine
from tool.deploy.verify import INVOKE

GOOGLE = "https://www.googleapis.com/oauth2/v1/certs"
LONGEST = 100_000  # bytes of a token


async def explained(target: Target, url: str) -> int:
    """Prints the verdict. Returns the exit status: 0 let in, 3 refused or unknown."""
    known = await collected(target, url)
    if sys.stdin.isatty():
        error(
            "Paste a token (the terminal will show it), then press Enter and Ctrl-D. Without a"
            " token, just Ctrl-D"
        )
    with interruption.while_typing():
        sent = sys.stdin.buffer.read(LONGEST).decode("utf-8", "replace")
    verdict = explain.verdict(url, sent, known, time.time())
    say(f"{verdict.answer.value}: {verdict.why}.")
    if verdict.command:
        say(f"this changes it: {shlex.join(verdict.command)}")
    for command in verdict.then:
        say(f"after that it would still be refused, until: {shlex.join(command)}")
    return 0 if verdict.answer is Reply.LET_IN else 3


async def collected(target: Target, url: str) -> Known:
    service = await behind(target, url)
    if service:
        target.region = service.region
    known = Known(
        signer="this local project" if target.local else "Google",
        project=target.project,
        region=target.region,
        ours=target.accounts_end,
        at_platform=is_of_platform(target, url),
        name=service.name if service else "",
        urls=tuple(dict.fromkeys((service.url, *service.urls))) if service else (),
        more_audiences=service.more_audiences if service else (),
        ingress=service.ingress if service else "all",
        open=bool(service and service.invoker_check_is_off),
        grants=(),
        unread=(),
        accounts=None,
        certificates=None,
        you=target.you,
    )
    if not service:
        return known
    async with together() as group:
        accounts = group.create_task(numbers(target))
        published = group.create_task(certificates(target))
        granted = group.create_task(grants(target, service))
    by_service, unread = granted.result()
    return known._replace(
        grants=by_service, unread=unread, accounts=accounts.result(), certificates=published.result()
    )


def host_of(target: Target, url: str) -> str:
    host = urlsplit(url).netloc.lower()
    if target.local:
        return re.sub("^localhost:", "127.0.0.1:", host)
    # TAG---HOST, the URL of a tag, belongs to the same service.
    return host.removesuffix(":443").rpartition("---")[2]


async def behind(target: Target, url: str) -> Service | None:
    """The service that has this URL, in any region."""
    try:
        listed = await target.gcloud.read("gcloud run services list", f"--project={target.project}")
    except Refused as refused:
        raise inventory.stop(
            target, refused, f"the services of project {target.project} cannot be listed"
        ) from None
    host, services = host_of(target, url), list(map(service_from, listed))
    for service in services:
        if any(urlsplit(one).netloc == host for one in (service.url, *service.urls)):
            return service
    return next((service for service in services if is_function_at(service, host, url)), None)


def is_function_at(service: Service, host: str, url: str) -> bool:
    """Whether it is the function with this URL at cloudfunctions.net, where the path names the function.

    A deploy through the Functions API gives it such a URL, which it accepts as an audience.
    """
    first = urlsplit(url).path.split("/")[1:2]
    its_own = (urlsplit(audience) for audience in service.more_audiences)
    return host.endswith(".cloudfunctions.net") and any(
        one.netloc == host and one.path.split("/")[1:] == first for one in its_own
    )


def is_of_platform(target: Target, url: str) -> bool:
    """Whether the URL's host can only be the platform's, even if the function was deleted."""
    host = host_of(target, url)
    if isinstance(target, ThisMachine):
        return f"http://{host}" in (address.url for address in target.addresses.values())
    return host.endswith(".run.app")


async def numbers(target: Target) -> dict[str, str] | None:
    """The addresses of the service accounts by number. None: you may not list them."""
    where = f"--project={target.project}"
    listed = await target.gcloud.look("gcloud iam service-accounts list", where)
    if listed is None:
        return None
    return {account.number: account.email for account in map(account_from, listed)}


async def certificates(target: Target) -> dict[str, str] | None:
    """The certificates that check tokens, PEM by key id. None: they could not be fetched."""
    url = GOOGLE
    if isinstance(target, ThisMachine):
        url = f"http://127.0.0.1:{target.token_port()}/oauth2/v1/certs"
    command = ("curl", "--disable", "--silent", "--fail", "--max-time", "30", "--noproxy", "127.0.0.1", url)
    try:
        done = await processes.run(*command, env=target.gcloud.env)
        return dict(json.loads(done.out)) if done.status == 0 else None
    except (OSError, ValueError):
        return None


async def grants(
    target: Target, service: Service
) -> tuple[tuple[Grant, ...], tuple[Unread, ...]]:
    """Every grant in the policy of the service or above it, and what could not be read."""
    roles = inventory.Roles(target.gcloud)
    async with together() as group:
        reading = group.create_task(inventory.policy_or_none(target, service.name, service.region))
        above = group.create_task(inventory.above_or_hidden(target))
    unread = []
    if reading.result() is None:
        unread.append(Unread(f"service {service.name}", True))
    if above.result().project_hidden:
        unread.append(Unread(f"project {target.project}", False))
    elif above.result().hidden:
        unread.append(Unread(f"something above project {target.project}", False))
    found = [await grant(roles, b, f"service {service.name}") for b in reading.result() or ()]
    found += [await grant(roles, g.binding, str(g.on)) for g in above.result().grants]
    return tuple(found), tuple(unread)


async def grant(roles: inventory.Roles, binding: Binding, where: str) -> Grant:
    is_invoker = binding.role == INVOKER
    holds = Answer.YES if is_invoker else await roles.allow(binding.role, INVOKE)
    condition = binding.condition.title if binding.condition else ""
    return Grant(binding.member, binding.role, condition, where, holds)
