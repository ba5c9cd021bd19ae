"""functions/NAME/flags and variables: their lines, and what is wrong with them."""

from __future__ import annotations

import os
import pathlib
import re
from collections.abc import Iterable

from tool.deploy.environment import text_of

BY_DEPLOY = "is set by deploy.sh"
IN_MAP = "lets in everyone or nobody; write that into trust-map"
NOT_YOURS = {
    **dict.fromkeys(
        "--source --function --base-image --service-account --build-service-account --region"
        " --project --labels --update-labels --remove-labels --clear-labels"
        " --revision-suffix".split(), BY_DEPLOY,
    ),
    **dict.fromkeys(
        "--allow-unauthenticated --no-allow-unauthenticated --invoker-iam-check"
        " --no-invoker-iam-check".split(), IN_MAP,
    ),
}  # fmt: skip
SECRETS = "--update-secrets --remove-secrets --clear-secrets"
VARIABLES = "--set-env-vars --update-env-vars --env-vars-file --remove-env-vars --clear-env-vars"
RESERVED = re.compile(r"PORT|K_.*|X_GOOGLE_.*|GOOGLE_CLOUD_PROJECT|THREADS|STORE")


def lines_of(file: pathlib.Path) -> tuple[list[str], list[str]]:
    """The lines of flags or variables, stripped and without comments; and why the file cannot be read,
    if it cannot."""
    text = text_of(file)
    if text is not None:
        return lines_in(text), []
    return [], ["it cannot be read as text in UTF-8"] if os.path.lexists(file) else []


def lines_in(text: str) -> list[str]:
    lines = (line.strip() for line in text.split("\n"))
    return [line for line in lines if line and not line.startswith("#")]


def wrong_flags(flags: list[str], where: str) -> Iterable[str]:
    for line in flags:
        name = line.partition("=")[0]
        if not re.match("--.", line):
            yield f"'{line}' is not a flag of gcloud run deploy, such as --memory=512Mi"
        elif name in NOT_YOURS:
            yield f"{name} {NOT_YOURS[name]}"
        elif name in VARIABLES.split():
            yield f"variables stand in {where}/variables"
        elif name in SECRETS.split():
            yield f"write --set-secrets instead of {name}: a function reads exactly what it names"
        elif re.match(r"--[a-z0-9-]+\s", line):
            yield f"write {name.split()[0]}=VALUE, in one word"
        elif name == "--set-secrets" and "$" not in line:
            for pair in listed(line.partition("=")[2]):
                if not re.fullmatch("[^=]+=[^:]+:[^:]+", pair):  # the rest of it is not repeated: it may be a value
                    variable = pair.partition("=")[0]
                    yield f"--set-secrets: {variable} needs a secret and its version, such as {variable}=a-key:latest"


def wrong_variables(variables: list[str], urls: set[str]) -> Iterable[str]:
    lines: dict[str, str] = {}
    for line in variables:
        name, assigned, _ = line.partition("=")
        if lines.setdefault(name, line) is not line:
            yield f"{name} has a line already"
        if RESERVED.fullmatch(name):
            yield f"{name} is set by Cloud Run or by deploy.sh"
        elif not (assigned and re.fullmatch(r"[A-Za-z_]\S*", name)) and line not in urls:
            yield f"'{line}' is not NAME=value, nor X_URL of a function X of trust-map"


def secrets_in(flags: Iterable[str]) -> list[str]:
    """The names of the secrets in --set-secrets flags, each once."""
    values = [f.partition("=")[2] for f in flags if f.startswith("--set-secrets=")]
    pairs = [pair for value in values for pair in listed(value)]
    return list(dict.fromkeys(pair.partition("=")[2].partition(":")[0] for pair in pairs))


def listed(value: str) -> list[str]:
    """A list as gcloud takes it: A,B or, with another separator, ^;^A;B."""
    other = re.match(r"\^(.+?)\^", value)
    separator, rest = (other[1], value[other.end() :]) if other else (",", value)
    return [part for part in rest.split(separator) if part]
