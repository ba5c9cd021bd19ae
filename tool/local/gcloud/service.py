"""A service and a revision as gcloud shows them."""

import json

from tool.local import services, state
from tool.local.gcloud.command import Failed
from tool.local.gcloud.output import timestamp
from tool.local.records import Json, filled
from tool.local.services import Revision, Service
from tool.local.state import YOU


def service_of(name: str) -> Service:
    service = services.service(name)
    if not service.is_deployed:
        raise Failed(f"Cannot find service [{name}]")
    return service


def conditions(service: Service) -> list[dict[str, Json]]:
    """The first is Ready: whether the last deploy serves."""
    from tool.local.runtime import revisions  # slow to load, and most commands only look at files

    latest = service.created == service.ready
    alive = latest and revisions.is_up(service)
    problem = service.problem
    if latest:
        problem = f"{service.name} does not run. Run ./deploy.sh --local"
    return [
        filled(
            {
                "lastTransitionTime": timestamp(service.deployed),
                "message": "" if good else problem,
                "reason": "" if good else "HealthCheckContainerError",
                "status": str(good),
                "type": kind,
            }
        )
        for kind, good in (("Ready", alive), ("ConfigurationsReady", latest), ("RoutesReady", True))
    ]


def spec_of(revision: Revision) -> dict[str, Json]:
    env: list[Json] = [{"name": name, "value": v} for name, v in revision.variables.items()]
    for name, which in revision.secrets.items():
        reference = {"key": which.version, "name": which.name}
        env.append({"name": name, "valueFrom": {"secretKeyRef": reference}})
    return {
        "containerConcurrency": revision.concurrency,
        "containers": [filled({"env": env})],
        "serviceAccountName": revision.account,
        "timeoutSeconds": revision.timeout,
    }


def template_of(service: Service) -> dict[str, Json]:
    revision = services.revision(service.created)  # gone if it did not start
    gone = {"containers": [{}], "serviceAccountName": service.account}
    name = service.created if service.is_named else ""
    return {
        "metadata": filled({"labels": service.labels, "name": name}),
        "spec": spec_of(revision) if revision else gone,
    }


def as_service(service: Service) -> dict[str, Json]:
    project = state.project()
    annotations = {
        "run.googleapis.com/ingress": service.ingress,
        "run.googleapis.com/invoker-iam-disabled": ""
        if service.open is None
        else str(service.open),
        "run.googleapis.com/urls": json.dumps([service.url]),
        "serving.knative.dev/creator": YOU,
        "serving.knative.dev/lastModifier": YOU,
    }
    traffic: dict[str, Json] = {"latestRevision": True, "percent": 100}
    if service.pinned:
        traffic = {"percent": 100, "revisionName": service.pinned}
    return {
        "apiVersion": "serving.knative.dev/v1",
        "kind": "Service",
        "metadata": {
            "annotations": filled(annotations),
            "creationTimestamp": timestamp(service.deployed),
            "generation": service.number,
            "labels": {**service.labels, "cloud.googleapis.com/location": project.region},
            "name": service.name,
            "namespace": project.number,
        },
        "spec": {"template": template_of(service), "traffic": [traffic]},
        "status": filled(
            {
                "address": {"url": service.url},
                "conditions": conditions(service),
                "latestCreatedRevisionName": service.created,
                "latestReadyRevisionName": service.ready,
                "observedGeneration": service.number,
                "traffic": [{"revisionName": service.ready or service.created, **traffic}],
                "url": service.url,
            }
        ),
    }


def as_revision(revision: Revision, service: Service) -> dict[str, Json]:
    """A revision that is kept has started once; it is active while it gets the calls."""
    project, serving = state.project(), service.serving
    active = serving is not None and serving.revision == revision.name
    return {
        "apiVersion": "serving.knative.dev/v1",
        "kind": "Revision",
        "metadata": {
            "creationTimestamp": timestamp(revision.deployed),
            "labels": {
                "cloud.googleapis.com/location": project.region,
                "serving.knative.dev/service": revision.service,
            },
            "name": revision.name,
            "namespace": project.number,
        },
        "spec": spec_of(revision),
        "status": {
            "conditions": [
                {"status": "True", "type": "Ready"},
                {"status": str(active), "type": "Active"},
            ]
        },
    }
