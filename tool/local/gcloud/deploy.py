"""gcloud run deploy and run services update: build a revision, start it, and let it serve."""

import datetime
import os
import pathlib
import random
import re
import shutil
import string
import sys
from argparse import Namespace

from tool.local import policies, services, state
from tool.local.gcloud.command import Failed, command
from tool.local.gcloud.flags import CHANGING, IDLE, SILENT, Flags, flags_in, say_what_has_no_effect
from tool.local.gcloud.iam import account_of
from tool.local.gcloud.service import service_of
from tool.local.policies import Binding
from tool.local.runtime import build, processes, revisions
from tool.local.services import Revision, Service
from tool.local.state import STATE

INVOKER = "roles/run.invoker"


@command("run deploy", "SERVICE", "--source", "--function", *CHANGING, *SILENT, *IDLE)
def deploy(args: Namespace) -> None:
    """Uploads, builds, starts. The old revision serves until the new one listens."""
    if not args.source or not args.function:
        raise Failed("the local target deploys functions: --source and --function are needed")
    source = pathlib.Path(args.source)
    if not source.is_dir():
        raise Failed(f"Could not find source [{args.source}]")
    if not (args.base_image or "python").startswith("python"):
        raise Failed(f"the local target runs Python, not {args.base_image}")
    if not re.fullmatch(r"[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?", args.SERVICE):
        raise Failed(f"Invalid service name [{args.SERVICE}]")
    service = services.service(args.SERVICE)
    if not service.port:
        raise Failed(f"no port is set aside for {args.SERVICE}. Run ./deploy.sh --local")
    say_what_has_no_effect(args)
    flags = flags_in(args)
    with state.locked(f"service.{service.name}"):
        service = services.service(service.name)
        roll_out(flags, service, source, first_revision(service, args.function, source))
    open_or_close(flags, service.name)
    if not args.quiet:
        print(f"Service [{service.name}] has been deployed.\nURL: {service.url}", file=sys.stderr)


def first_revision(service: Service, entry: str, source: pathlib.Path) -> Revision:
    """What a deploy starts from if no flag says otherwise."""
    of_app = pathlib.Path(os.environ.get("LOCAL_APP") or source, "functions", entry)
    origin = of_app if of_app.is_dir() else source.absolute()
    return Revision("", service.name, entry, service.account, origin=str(origin))


@command("run services update", "SERVICE", *CHANGING, *SILENT, *IDLE)
def update(args: Namespace) -> None:
    """Flags about the service take effect at once; flags about instances start a new revision."""
    service_of(args.SERVICE)
    say_what_has_no_effect(args)
    flags = flags_in(args)
    with state.locked(f"service.{args.SERVICE}"):
        service = service_of(args.SERVICE)
        if not flags.make_a_revision:
            services.put(flags.service_from(service))
            return
        latest = services.revision(service.created) or services.revision(service.ready)
        if not latest:
            raise Failed(f"{args.SERVICE} has no revision that works: deploy it")
        roll_out(flags, service, revisions.folder(latest.name), latest)


def open_or_close(flags: Flags, name: str) -> None:
    """Puts allUsers into the policy or takes it out, if one of the two flags is given."""
    if not (flags.allow_unauthenticated or flags.no_allow_unauthenticated):
        return
    with state.locked("policies"):
        bindings = [without_all_users(binding) for binding in policies.bindings_of(name)]
        if flags.allow_unauthenticated:
            bindings.append(Binding(INVOKER, ("allUsers",)))
        policies.change(name, bindings)


def without_all_users(binding: Binding) -> Binding:
    if binding.role != INVOKER:
        return binding
    return binding.but(members=tuple(m for m in binding.members if m != "allUsers"))


# ---- the new revision


def roll_out(flags: Flags, before: Service, source: pathlib.Path, template: Revision) -> None:
    """Makes a revision that differs from the template by what the flags say, and lets it serve."""
    number, letters = before.number + 1, "".join(random.choices(string.ascii_lowercase, k=3))
    name = f"{before.name}-{flags.revision_suffix or f'{number:05}-{letters}'}"
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    revision = flags.revision_from(template).but(name=name, deployed=now)
    if not revision.account:
        raise Failed("the local project has no default service account: give --service-account")
    account_of(revision.account)
    if services.revision(revision.name):
        raise Failed(f"ALREADY_EXISTS: Revision named '{revision.name}' already exists.")
    service = flags.service_from(before).but(
        account=revision.account,
        created=name,
        is_named=bool(flags.revision_suffix),
        number=number,
        deployed=now,
    )
    revision = revision.but(environment=built(service, source))
    services.put_revision(revision)
    port = started(service, revision)
    services.put(service.but(ready=revision.name, problem=None))
    if service.pinned:  # after a roll-back, a new revision gets no calls
        processes.stop(revision.name)
    else:
        revisions.serve(revision, port, revision.timeout)
    revisions.clear(services.service(service.name))


def built(service: Service, source: pathlib.Path) -> str:
    """Uploads the source of the new revision, and builds its environment."""
    place = revisions.folder(service.created)
    build.upload(source, place)
    try:
        return build.build(place)
    except build.BuildFailed as error:
        shutil.rmtree(place)
        log = STATE / "logs" / f"{service.name}.build.log"
        log.parent.mkdir(exist_ok=True)
        log.write_text(f"{error.said}\n", "utf-8")
        raise Failed(f"Build failed: {service.name}: {error}\n  Its log: {log}") from None


def started(service: Service, revision: Revision) -> int:
    """Starts the new revision, and returns its port."""
    try:
        return revisions.start(revision)
    except revisions.StartFailed as error:
        problem = f"{service.name} failed to start and listen on the port: {error}"
        services.put(service.but(problem=problem))
        revisions.forget(revision.name)
        log = revisions.start_log(service.name)
        raise Failed(f"Container Healthcheck failed: {problem}\n  Its log: {log}") from None
