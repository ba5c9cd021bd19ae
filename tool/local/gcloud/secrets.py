"""gcloud commands about secrets: one file each, in a folder that git ignores."""

import datetime
import pathlib
import re
import sys
from argparse import Namespace

from tool.local import policies, state
from tool.local.gcloud.command import Failed, command
from tool.local.gcloud.output import timestamp
from tool.local.gcloud.policy import BINDING, add_member, remove_member, shown_policy
from tool.local.state import DEVELOPMENT_SECRETS, SECRETS, STATE, secret_file

NAME = re.compile("[A-Za-z0-9_-]{1,255}")


def secret(name: str) -> pathlib.Path:
    if not NAME.fullmatch(name):
        raise Failed(f"INVALID_ARGUMENT: {name} is not a secret's name.")
    return secret_file(name)


def existing(name: str) -> str:
    if not secret(name).is_file():
        project = state.project().number
        where = f"To have it here, write its value into {secret(name)}"
        raise Failed(f"NOT_FOUND: Secret [projects/{project}/secrets/{name}] not found. {where}")
    return f"secret.{name}"


@command("secrets create", "NAME", "--data-file", "--replication-policy", "--labels")
def create_secret(args: Namespace) -> None:
    from tool.local import tokens

    if secret(args.NAME).exists():
        raise Failed(f"ALREADY_EXISTS: Secret [{args.NAME}] already exists.")
    if not args.data_file:
        where = f"--data-file=-, or write it into {secret(args.NAME)}"
        raise Failed(f"a secret of the local project has a value: give it with {where}")
    SECRETS.mkdir(mode=0o700, parents=True, exist_ok=True)
    tokens.write_private(SECRETS / args.NAME, content_of(args.data_file))
    print(f"Created version [1] of the secret [{args.NAME}].", file=sys.stderr)


@command("secrets versions add", "NAME", "--data-file")
def add_version(args: Namespace) -> None:
    """Overwrites the value: the file keeps only the newest version."""
    from tool.local import tokens

    existing(args.NAME)
    if not args.data_file:
        raise Failed("argument --data-file: Must be specified.")
    tokens.write_private(secret(args.NAME), content_of(args.data_file))
    number = version_of(args.NAME)["name"].rpartition("/")[2]
    print(f"Created version [{number}] of the secret [{args.NAME}].", file=sys.stderr)


@command("secrets versions list", "NAME", "--limit")
def list_versions(args: Namespace) -> object:
    existing(args.NAME)
    return [version_of(args.NAME)]


def version_of(name: str) -> dict[str, str]:
    """The version's number changes with the value without revealing it: the project's key is mixed in."""
    import hashlib

    mixed = (STATE / "key.json").read_bytes() + secret(name).read_bytes()
    number = int(hashlib.sha256(mixed).hexdigest()[:12], 16)
    shown = described(name)
    return {**shown, "name": f"{shown['name']}/versions/{number}", "state": "ENABLED"}


def content_of(file: str) -> bytes:
    return sys.stdin.buffer.read() if file == "-" else pathlib.Path(file).read_bytes()


@command("secrets list")
def list_secrets(args: Namespace) -> object:
    files = (*SECRETS.glob("*"), *DEVELOPMENT_SECRETS.glob("*"))
    names = {file.name for file in files if file.is_file() and NAME.fullmatch(file.name)}
    return [described(name) for name in sorted(names)]


@command("secrets describe", "NAME")
def describe_secret(args: Namespace) -> object:
    existing(args.NAME)
    return described(args.NAME)


def described(name: str) -> dict[str, str]:
    made = datetime.datetime.fromtimestamp(secret(name).stat().st_mtime, datetime.UTC)
    name = f"projects/{state.project().number}/secrets/{name}"
    return {"createTime": timestamp(made.isoformat()), "name": name}


@command("secrets delete", "NAME")
def delete_secret(args: Namespace) -> None:
    existing(args.NAME)
    secret(args.NAME).unlink()
    policies.remove(f"secret.{args.NAME}")
    print(f"Deleted secret [{args.NAME}].", file=sys.stderr)


@command("secrets get-iam-policy", "NAME")
def get_secret_policy(args: Namespace) -> object:
    return shown_policy(existing(args.NAME))


@command("secrets add-iam-policy-binding", "NAME", *BINDING)
def add_secret_binding(args: Namespace) -> object:
    return add_member(existing(args.NAME), args)


@command("secrets remove-iam-policy-binding", "NAME", *BINDING, "--all!")
def remove_secret_binding(args: Namespace) -> object:
    return remove_member(existing(args.NAME), args)
