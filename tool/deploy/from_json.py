"""gcloud's JSON as the records of cloud.py."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

from tool.deploy.cloud import (
    LOCATION,
    RUN,
    Account,
    Binding,
    Condition,
    Grant,
    Job,
    Level,
    Policy,
    Resource,
    Service,
    Tag,
    Traffic,
)
from tool.deploy.leftovers import kept_by


def policy_from(shown: dict[str, Any]) -> Policy:
    return tuple(
        Binding(member, binding["role"], condition_from(binding.get("condition")))
        for binding in shown.get("bindings", ())
        for member in binding.get("members", ())
    )


def condition_from(shown: dict[str, str] | None) -> Condition | None:
    return Condition(shown.get("title", ""), shown.get("expression", "")) if shown else None


def service_from(shown: dict[str, Any]) -> Service:
    metadata, status = shown["metadata"], shown.get("status", {})
    labels, notes = metadata.get("labels", {}), metadata.get("annotations", {})
    template = shown["spec"]["template"]
    ready = [c["status"] for c in status.get("conditions", ()) if c["type"] == "Ready"]
    return Service(
        name=metadata["name"],
        region=labels.get(LOCATION, ""),
        made_by=labels.get("made-by", ""),
        app=labels.get("app", ""),
        revision=template.get("metadata", {}).get("name", ""),
        created=status.get("latestCreatedRevisionName") or "",
        ready=status.get("latestReadyRevisionName") or "",
        is_ready=ready == ["True"],
        traffic=traffic_from(status.get("traffic", ())),
        tags=tuple(
            Tag(target["tag"], target.get("revisionName", ""))
            for target in status.get("traffic", ()) if target.get("tag")
        ),
        account=template.get("spec", {}).get("serviceAccountName", ""),
        secrets=secrets_from(template.get("spec", {})),
        secret_versions=labels.get("secrets", ""),
        kept=kept_by(shown),
        invoker_check_is_off=notes.get(f"{RUN}/invoker-iam-disabled", "").lower() == "true",
        ingress=notes.get(f"{RUN}/ingress") or "all",
        project_number=str(metadata.get("namespace", "")),
        url=status.get("url") or "",
        urls=listed(notes.get(f"{RUN}/urls")),
        more_audiences=listed(notes.get(f"{RUN}/custom-audiences")),
    )


def secrets_from(spec: dict[str, Any]) -> frozenset[str]:
    """The secrets that a revision reads, as variables or as files."""
    variables = [variable for c in spec.get("containers", ()) for variable in c.get("env", ())]
    read = [v["valueFrom"]["secretKeyRef"]["name"] for v in variables if "valueFrom" in v]
    files = [volume["secret"]["secretName"] for volume in spec.get("volumes", ()) if "secret" in volume]
    return frozenset(read + files)


def job_from(shown: dict[str, Any]) -> Job:
    metadata = shown["metadata"]
    task = shown.get("spec", {}).get("template", {}).get("spec", {}).get("template", {})
    account = task.get("spec", {}).get("serviceAccountName", "")
    return Job(metadata["name"], metadata.get("labels", {}).get(LOCATION, ""), account)


def traffic_from(shown: Iterable[dict[str, Any]]) -> tuple[Traffic, ...]:
    """Where calls go. A target without a share is a tag, at a URL of its own."""
    return tuple(
        Traffic(bool(target.get("latestRevision")), target["percent"])
        for target in shown if target.get("percent")
    )  # fmt: skip


def listed(annotation: str | None) -> tuple[str, ...]:
    """An annotation that holds a list in JSON."""
    return tuple(json.loads(annotation)) if annotation else ()


def account_from(shown: dict[str, Any]) -> Account:
    made = re.fullmatch(r"(\S+)(?: (\d+))?(?: app=(\S+))?", shown.get("description") or "")
    return Account(
        email=shown["email"],
        number=str(shown.get("uniqueId", "")),
        made_by=made[1] if made else "",
        made_at=float(made[2] or 0) if made else 0.0,
        disabled=bool(shown.get("disabled")),
        app=made[3] or "" if made else "",
    )


def grants_from(shown: Iterable[dict[str, Any]]) -> tuple[Grant, ...]:
    """The grants that get-ancestors-iam-policy prints."""
    return tuple(
        Grant(binding, Resource(Level(one["type"]), one["id"]))
        for one in shown
        for binding in policy_from(one.get("policy", {}))
    )
