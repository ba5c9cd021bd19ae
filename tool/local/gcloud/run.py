"""gcloud commands about services: what is deployed, who may call it, calling it as you."""

import json
import os
import sys

from tool.local import state
from tool.local.gcloud.command import Failed, command
from tool.local.gcloud.output import table
from tool.local.gcloud.policy import BINDING, change_policy, set_policy, shown_policy
from tool.local.runtime import processes, revisions
from tool.local.state import YOU


def service_of(name: str) -> dict:
    service = state.read(f"services/{name}")
    if not service or "account" not in service:
        raise Failed(f"Cannot find service [{name}]")
    return service


def deployed() -> list[str]:
    found = {name: state.read(f"services/{name}") for name in state.names("services")}
    return [name for name, service in found.items() if service and "account" in service]


def conditions(name: str, service: dict) -> list[dict]:
    """The first is Ready: whether what was deployed last serves."""
    latest = service["created"] == service.get("ready")
    alive = latest and revisions.is_up(name)
    problem = (
        service.get("problem") if not latest else f"{name} does not run. Run ./deploy.sh --local"
    )
    states = (("Ready", alive), ("ConfigurationsReady", latest), ("RoutesReady", True))
    return [
        {
            "lastTransitionTime": service["deployed"],
            "status": str(bool(good)),
            "type": kind,
            **({} if good else {"message": problem, "reason": "HealthCheckContainerError"}),
        }
        for kind, good in states
    ]


def as_service(name: str, service: dict) -> dict:
    project = state.read("project")
    annotations = {
        "run.googleapis.com/ingress": service["ingress"],
        "run.googleapis.com/invoker-iam-disabled": str(service["open"]),
        "run.googleapis.com/urls": json.dumps([service["url"]]),
        "serving.knative.dev/creator": YOU,
        "serving.knative.dev/lastModifier": YOU,
    }
    made = state.read(f"revisions/{service['created']}") or {}
    template = {
        "metadata": {"labels": service["labels"], "name": service["created"]},
        "spec": {
            "containerConcurrency": made.get("concurrency"),
            "containers": [
                {"env": [{"name": k, "value": v} for k, v in made.get("variables", {}).items()]}
            ],
            "serviceAccountName": service["account"],
            "timeoutSeconds": made.get("timeout"),
        },
    }
    traffic = [{"latestRevision": True, "percent": 100}]
    if service.get("pinned"):
        traffic = [{"revisionName": service["pinned"], "percent": 100}]
    return {
        "apiVersion": "serving.knative.dev/v1",
        "kind": "Service",
        "metadata": {
            "annotations": annotations,
            "creationTimestamp": service["deployed"],
            "generation": service["number"],
            "labels": {**service["labels"], "cloud.googleapis.com/location": project["region"]},
            "name": name,
            "namespace": project["number"],
        },
        "spec": {"template": template, "traffic": traffic},
        "status": {
            "address": {"url": service["url"]},
            "conditions": conditions(name, service),
            "latestCreatedRevisionName": service["created"],
            "latestReadyRevisionName": service.get("ready"),
            "observedGeneration": service["number"],
            "traffic": [{"revisionName": service.get("ready"), **traffic[0]}],
            "url": service["url"],
        },
    }


@command("run services list", "--region?")
def list_services(args):
    found = [as_service(name, service_of(name)) for name in deployed()]
    if args.format or args.filter:
        return found
    region, rows = state.read("project")["region"], []
    for service in found:
        status, name = service["status"], service["metadata"]["name"]
        mark = "✔" if status["conditions"][0]["status"] == "True" else "X"
        when = service["metadata"]["creationTimestamp"]
        rows.append([mark, name, region, status["url"], YOU, when])
    return table(["", "SERVICE", "REGION", "URL", "LAST DEPLOYED BY", "LAST DEPLOYED AT"], rows)


@command("run services describe", "SERVICE", "--region")
def describe_service(args):
    return as_service(args.SERVICE, service_of(args.SERVICE))


@command("run services delete", "SERVICE", "--region", "--async!")
def delete_service(args):
    service = service_of(args.SERVICE)
    if not args.quiet and not os.environ.get("CLOUDSDK_CORE_DISABLE_PROMPTS"):
        print(f"Service [{args.SERVICE}] will be deleted.\n", file=sys.stderr)
        if not sys.stdin.isatty():
            raise Failed(
                "This prompt could not be answered because you are not in an interactive session."
                " You can re-run the command with the --quiet flag to accept default answers."
            )
        if input("Do you want to continue (Y/n)?  ").lower() not in ("", "y", "yes"):
            raise Failed("Aborted by user.")
    with state.locked(f"service.{args.SERVICE}"):
        kept = {key: service[key] for key in ("port", "metadata_port", "url")}
        state.write(f"services/{args.SERVICE}", kept)
        revisions.end(args.SERVICE)
    state.remove(f"policies/{args.SERVICE}")
    print(f"Deleted service [{args.SERVICE}].", file=sys.stderr)


@command("run services update-traffic", "SERVICE", "--region", "--to-latest!", "--to-revisions")
def update_traffic(args):
    """All calls to the latest revision that is ready, or to one from before it: a roll-back."""
    with state.locked(f"service.{args.SERVICE}"):
        service, pinned = service_of(args.SERVICE), None
        if not args.to_latest:
            pinned, _, percent = (args.to_revisions or "").partition("=")
            if percent != "100":
                raise Failed("the local target knows --to-latest, and --to-revisions=REVISION=100")
            if pinned not in revisions.of_service(args.SERVICE):
                raise Failed(f"Revision {pinned} of Service {args.SERVICE} is not found.")
        state.write(f"services/{args.SERVICE}", {**service, "pinned": pinned})
        wanted = pinned or service.get("ready")
        if wanted and wanted != service["serving"]["revision"]:
            processes.wait_or_kill(wanted, revisions.PATIENCE)
            try:
                revisions.serve(args.SERVICE, wanted, revisions.start(wanted))
            except revisions.StartFailed as error:
                raise Failed(f"{wanted} does not start: {error}") from None


@command("run revisions list", "--service", "--region?")
def list_revisions(args):
    found, rows = [], []
    for name in [args.service] if args.service else deployed():
        service = service_of(name)
        for revision in sorted(revisions.of_service(name), reverse=True):
            made = state.read(f"revisions/{revision}")
            active = revision == service.get("serving", {}).get("revision")
            rows.append(["✔" if revision == service.get("ready") else "X", revision])
            rows[-1] += ["yes" if active else "", name, made["deployed"], YOU]
            found.append({"metadata": {"name": revision, "creationTimestamp": made["deployed"]}})
    if args.format:
        return found
    return table(["", "REVISION", "ACTIVE", "SERVICE", "DEPLOYED", "DEPLOYED BY"], rows)


@command("run services proxy", "SERVICE", "--region", "--port")
def proxy_service(args):
    from tool.local.cloud_run import proxy

    url, project = service_of(args.SERVICE)["url"], state.read("project")
    place = f"in project [{project['id']}] region [{project['region']}]"
    print(f"Proxying to Cloud Run service [{args.SERVICE}] {place}", file=sys.stderr, flush=True)
    proxy.serve(url, int(args.port or 8080))


# ---- who may call it


@command("run services get-iam-policy", "SERVICE", "--region")
def get_policy(args):
    service_of(args.SERVICE)
    return shown_policy(args.SERVICE)


@command("run services set-iam-policy", "SERVICE", "FILE", "--region")
def set_service_policy(args):
    service_of(args.SERVICE)
    policy = set_policy(args.SERVICE, args.FILE)
    print(f"Updated IAM policy for service [{args.SERVICE}].", file=sys.stderr)
    return policy


@command("run services add-iam-policy-binding", "SERVICE", "--region", *BINDING)
def add_binding(args):
    service_of(args.SERVICE)
    return change_policy(args.SERVICE, args, add=True)


@command("run services remove-iam-policy-binding", "SERVICE", "--region", *BINDING, "--all!")
def remove_binding(args):
    service_of(args.SERVICE)
    return change_policy(args.SERVICE, args, add=False)
