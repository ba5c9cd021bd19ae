"""A service and a revision as gcloud shows them."""

import json

from tool.local import services, state
from tool.local.gcloud.command import Failed
from tool.local.records import Json
from tool.local.services import Revision, Service
from tool.local.state import YOU


def service_of(name: str) -> Service:
    service = services.service(name)
    if not service.is_deployed:
        raise Failed(f"Cannot find service [{name}]")
    return service


def conditions(service: Service) -> list[dict[str, str]]:
    """The first is Ready: whether what was deployed last serves."""
    from tool.local.runtime import revisions  # slow to load, and most commands only look at files

    latest = service.created == service.ready
    alive = latest and revisions.is_up(service)
    problem = service.problem
    if latest:
        problem = f"{service.name} does not run. Run ./deploy.sh --local"
    failed = {"message": problem or "", "reason": "HealthCheckContainerError"}
    return [
        {
            "lastTransitionTime": service.deployed,
            "status": str(good),
            "type": kind,
            **({} if good else failed),
        }
        for kind, good in (("Ready", alive), ("ConfigurationsReady", latest), ("RoutesReady", True))
    ]


def template_spec(service: Service) -> dict[str, Json]:
    revision = services.revision(service.created)
    variables = revision.variables if revision else {}
    return {
        "containerConcurrency": revision and revision.concurrency,
        "containers": [{"env": [{"name": k, "value": v} for k, v in variables.items()]}],
        "serviceAccountName": service.account,
        "timeoutSeconds": revision and revision.timeout,
    }


def as_service(service: Service) -> dict[str, Json]:
    project, labels = state.project(), dict(service.labels)
    annotations = {
        "run.googleapis.com/ingress": service.ingress,
        "run.googleapis.com/invoker-iam-disabled": str(bool(service.open)),
        "run.googleapis.com/urls": json.dumps([service.url]),
        "serving.knative.dev/creator": YOU,
        "serving.knative.dev/lastModifier": YOU,
    }
    template = {
        "metadata": {"labels": labels, "name": service.created},
        "spec": template_spec(service),
    }
    traffic: dict[str, Json] = {"latestRevision": True, "percent": 100}
    if service.pinned:
        traffic = {"revisionName": service.pinned, "percent": 100}
    return {
        "apiVersion": "serving.knative.dev/v1",
        "kind": "Service",
        "metadata": {
            "annotations": annotations,
            "creationTimestamp": service.deployed,
            "generation": service.number,
            "labels": {**labels, "cloud.googleapis.com/location": project.region},
            "name": service.name,
            "namespace": project.number,
        },
        "spec": {"template": template, "traffic": [traffic]},
        "status": {
            "address": {"url": service.url},
            "conditions": conditions(service),
            "latestCreatedRevisionName": service.created,
            "latestReadyRevisionName": service.ready or None,
            "observedGeneration": service.number,
            "traffic": [{"revisionName": service.ready or None, **traffic}],
            "url": service.url,
        },
    }


def as_revision(revision: Revision) -> dict[str, Json]:
    return {"metadata": {"name": revision.name, "creationTimestamp": revision.deployed}}
