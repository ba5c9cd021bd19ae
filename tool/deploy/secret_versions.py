"""Which versions of its secrets a function has: with :latest it keeps those from when it was started.

A deploy notes them in a label of the service. If there are newer ones, a new revision is due.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from tool.deploy.app import Function
from tool.deploy.cloud import Service
from tool.deploy.function_files import listed
from tool.deploy.processes import side_by_side
from tool.deploy.target import Target

LABEL = "secrets"


def latest(flags: Iterable[str]) -> list[str]:
    """The secrets whose newest version a function gets as a variable; a file is read again each time."""
    values = [flag.partition("=")[2] for flag in flags if flag.startswith("--set-secrets=")]
    pairs = [pair.partition("=") for value in values for pair in listed(value)]
    found = [which.partition(":") for variable, _, which in pairs if not variable.startswith("/")]
    return sorted({name for name, _, version in found if version in ("", "latest")})


async def newest(target: Target, function: Function) -> str:
    """The label of a function that starts now; "" without such secrets, or if they are hidden."""
    names = latest(function.flags)
    numbers = await side_by_side(*(number(target, name) for name in names))
    if not names or not all(numbers):
        return ""
    said = ",".join(f"{name}={n}" for name, n in zip(names, numbers, strict=True))
    return hashlib.sha256(said.encode()).hexdigest()[:12]


async def number(target: Target, secret: str) -> str:
    if secret in target.newest_versions:
        return target.newest_versions[secret]
    versions = await target.gcloud.look(
        "gcloud secrets versions list", secret, f"--project={target.project}", "--limit=1"
    )
    return str(versions[0]["name"]).rpartition("/")[2] if versions else ""


def why_anew(function: Function, service: Service | None, label: str) -> str:
    """Why a function with unchanged files is deployed again; "" if it is not."""
    if not service or not label or service.secret_versions == label:
        return ""
    names = ", ".join(latest(function.flags))
    if not service.secret_versions:
        return f"it is not known which values of {names} it has, so a new revision starts"
    return f"there is a new value of {names}, so a new revision starts"
