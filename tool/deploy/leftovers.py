"""What a service keeps until a flag ends it: gcloud run deploy changes only what a flag names.

So a line that is taken out of functions/NAME/flags would keep its effect. What Cloud Run sets by itself
is not listed here.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

RUN = "run.googleapis.com"


class Kept(NamedTuple):
    """A setting that stays: where it is in a service, what asks for it, and what ends it."""

    what: str
    annotation: str
    asked_by: tuple[str, ...]  # flags
    ended_by: str = ""  # a flag; "": there is none
    value: str = ""  # only this one is meant; "": any


OF_REVISION = (
    Kept("a VPC connector", f"{RUN}/vpc-access-connector", ("--vpc-connector",), "--clear-vpc-connector"),
    Kept("a VPC network", f"{RUN}/network-interfaces", ("--network", "--subnet", "--network-tags"), "--clear-network"),
    Kept("CPU outside of requests", f"{RUN}/cpu-throttling", ("--no-cpu-throttling",), "--cpu-throttling", "false"),
    Kept("no CPU boost", f"{RUN}/startup-cpu-boost", ("--no-cpu-boost",), "--cpu-boost", "false"),
    Kept("session affinity", f"{RUN}/sessionAffinity", ("--session-affinity",), "--no-session-affinity", "true"),
    Kept("Cloud SQL instances", f"{RUN}/cloudsql-instances", ("--add-cloudsql-instances", "--set-cloudsql-instances"), "--clear-cloudsql-instances"),
    Kept("an encryption key", f"{RUN}/encryption-key", ("--key",), "--clear-key"),
    Kept("an execution environment", f"{RUN}/execution-environment", ("--execution-environment",)),
    Kept("egress by a VPC", f"{RUN}/vpc-access-egress", ("--vpc-egress",)),
)  # fmt: skip
OF_SERVICE = (
    Kept("minimum instances of the service", f"{RUN}/minScale", ("--min", "--service-min-instances"), "--min=default"),
    Kept("custom audiences", f"{RUN}/custom-audiences", ("--add-custom-audiences", "--set-custom-audiences"), "--clear-custom-audiences"),
    Kept("binary authorization", f"{RUN}/binary-authorization", ("--binary-authorization",), "--clear-binary-authorization"),
    Kept("no default URL", f"{RUN}/default-url-disabled", ("--no-default-url",), "--default-url", "true"),
    Kept("a number of instances set by hand", f"{RUN}/manualInstanceCount", ("--scaling",), "--scaling=auto"),
)  # fmt: skip
VOLUMES = Kept("volumes", "", ("--add-volume", "--set-secrets"), "--clear-volumes")
MIN_INSTANCES = Kept("minimum instances", "autoscaling.knative.dev/minScale", ("--min-instances",), "--min-instances=0")


def kept_by(service: dict[str, Any]) -> tuple[Kept, ...]:
    """Which of these a service has, as gcloud shows it."""
    template = service["spec"]["template"]
    of_revision = template.get("metadata", {}).get("annotations", {})
    of_service = service["metadata"].get("annotations", {})
    found = [kept for kept in (*OF_REVISION, MIN_INSTANCES) if has(of_revision, kept)]
    found += [kept for kept in OF_SERVICE if has(of_service, kept)]
    if template.get("spec", {}).get("volumes"):
        found.append(VOLUMES)
    return tuple(found)


def has(annotations: dict[str, str], kept: Kept) -> bool:
    value = str(annotations.get(kept.annotation, ""))
    if kept is MIN_INSTANCES and value == "0":
        return False
    return bool(value) and (not kept.value or value.lower() == kept.value)


def not_asked_for(kept: Iterable[Kept], flags: Iterable[str]) -> list[Kept]:
    """What no flag asks for."""
    names = {flag.partition("=")[0] for flag in flags}
    return [one for one in kept if names.isdisjoint(one.asked_by)]
