"""gcloud commands about services: list, delete, roll back, and call them as you."""

import os
import sys
from argparse import Namespace

from tool.local import policies, services, state
from tool.local.gcloud.command import Failed, command
from tool.local.gcloud.output import table, timestamp
from tool.local.gcloud.service import as_revision, as_service, conditions, service_of
from tool.local.records import Json
from tool.local.runtime import revisions
from tool.local.services import Service
from tool.local.state import YOU


@command("run services list", "--region?")
def list_services(args: Namespace) -> object:
    found = services.deployed()
    if args.format or args.filter:
        return [as_service(service) for service in found]
    region, rows = state.project().region, []
    for service in found:
        is_ready = conditions(service)[0]["status"] == "True"
        where = service.name, region, service.url
        rows.append(["✔" if is_ready else "X", *where, YOU, timestamp(service.deployed)])
    return table(["", "SERVICE", "REGION", "URL", "LAST DEPLOYED BY", "LAST DEPLOYED AT"], rows)


@command("run services describe", "SERVICE", "--region")
def describe_service(args: Namespace) -> object:
    return as_service(service_of(args.SERVICE))


@command("run services delete", "SERVICE", "--region", "--async!")
def delete_service(args: Namespace) -> None:
    service = service_of(args.SERVICE)
    if not args.quiet and not os.environ.get("CLOUDSDK_CORE_DISABLE_PROMPTS"):
        print(f"Service [{service.name}] will be deleted.\n", file=sys.stderr)
        if not sys.stdin.isatty():
            raise Failed(
                "This prompt could not be answered because you are not in an interactive session."
                " You can re-run the command with the --quiet flag to accept default answers."
            )
        if input("Do you want to continue (Y/n)?  ").lower() not in ("", "y", "yes"):
            raise Failed("Aborted by user.")
    with state.locked(f"service.{service.name}"):
        ports = service.port, service.metadata_port, service.url
        services.put(Service(service.name, *ports))  # it keeps these
        revisions.end(service.name)
    policies.remove(service.name)
    print(f"Deleted service [{service.name}].", file=sys.stderr)


@command("run services update-traffic", "SERVICE", "--region", "--to-latest!", "--to-revisions")
def update_traffic(args: Namespace) -> None:
    """Sends all calls to the latest ready revision, or to an earlier one: a roll-back."""
    with state.locked(f"service.{args.SERVICE}"):
        service = service_of(args.SERVICE)
        pinned = None if args.to_latest else revision_in(args.to_revisions or "", service)
        services.put(service.but(pinned=pinned))
        wanted = pinned or service.ready
        if wanted and not (service.serving and service.serving.revision == wanted):
            try:
                revisions.start_and_serve(wanted)
            except revisions.StartFailed as error:
                raise Failed(f"{wanted} does not start: {error}") from None


def revision_in(flag: str, service: Service) -> str:
    """The one revision that --to-revisions=REVISION=100 names."""
    name, _, percent = flag.partition("=")
    if percent != "100":
        raise Failed("the local target knows --to-latest, and --to-revisions=REVISION=100")
    if name not in (revision.name for revision in services.revisions_of(service.name)):
        raise Failed(f"Revision {name} of Service {service.name} is not found.")
    return name


@command("run revisions list", "--service", "--region?")
def list_revisions(args: Namespace) -> object:
    asked = [service_of(args.service)] if args.service else services.deployed()
    found = [(s, r) for s in asked for r in reversed(services.revisions_of(s.name))]
    if args.format:
        return [as_revision(revision, service) for service, revision in found]
    rows = []
    for service, revision in found:
        is_active = service.serving is not None and service.serving.revision == revision.name
        mark = "✔" if revision.name == service.ready else "X"
        row = [mark, revision.name, "yes" if is_active else "", service.name]
        rows.append([*row, timestamp(revision.deployed), YOU])
    return table(["", "REVISION", "ACTIVE", "SERVICE", "DEPLOYED", "DEPLOYED BY"], rows)


@command("run services proxy", "SERVICE", "--region", "--port")
def proxy_service(args: Namespace) -> None:
    from tool.local.cloud_run import proxy

    url, project = service_of(args.SERVICE).url, state.project()
    place = f"in project [{project.id}] region [{project.region}]"
    print(f"Proxying to Cloud Run service [{args.SERVICE}] {place}", file=sys.stderr, flush=True)
    proxy.serve(url, int(args.port or 8080))


@command("run jobs list", "--region?")
def list_jobs(args: Namespace) -> list[dict[str, Json]]:
    """None: the local project has only functions."""
    return []
