"""gcloud commands about service accounts, their keys, roles, and secrets."""

import datetime
import json
import pathlib
import re
import sys

from tool.local import state
from tool.local.gcloud.command import Failed, command
from tool.local.gcloud.policy import change_policy, set_policy, shown_policy, take_out
from tool.local.state import SECRETS

BINDING = ("--member", "--role", "--condition")


def account_of(email: str) -> dict:
    found = state.service_account(email)
    if not found:
        raise Failed(f"NOT_FOUND: Unknown service account: {email}")
    return found


def shown(account: dict) -> dict:
    project = state.read("project")["id"]
    names = ("description", "displayName", "email", "uniqueId")
    kept = {name: account[name] for name in names if account.get(name)}
    name = f"projects/{project}/serviceAccounts/{account['email']}"
    return {**kept, "name": name, "oauth2ClientId": account["uniqueId"], "projectId": project}


@command("iam service-accounts create", "NAME", "--display-name", "--description")
def create_account(args):
    if not re.fullmatch(r"[a-z][a-z0-9-]{4,28}[a-z0-9]", args.NAME):
        print(
            f"ERROR: (gcloud.iam.service-accounts.create) argument NAME: Bad value [{args.NAME}]:"
            " Service account name must be between 6 and 30 characters (inclusive), must begin"
            " with a lowercase letter, and consist of lowercase alphanumeric characters that can"
            " be separated by hyphens.",
            file=sys.stderr,
        )
        raise SystemExit(2)
    email = f"{args.NAME}@{state.read('project')['id']}.iam.gserviceaccount.com"
    with state.locked("accounts"):
        if state.account(email):
            raise Failed(
                f"Resource in projects [{state.read('project')['id']}] is the subject of a conflict:"
                f" ALREADY_EXISTS: Service account {args.NAME} already exists within project"
            )
        more = {"displayName": args.display_name or "", "description": args.description or ""}
        state.add_account("serviceAccount", email, **more)
    print(f"Created service account [{args.NAME}].", file=sys.stderr)


@command("iam service-accounts describe", "EMAIL")
def describe_account(args):
    return shown(account_of(args.EMAIL))


@command("iam service-accounts list")
def list_accounts(args):
    found = (state.service_account(email) for email in state.names("accounts"))
    return [shown(account) for account in found if account]


@command("iam service-accounts delete", "EMAIL")
def delete_account(args):
    account = account_of(args.EMAIL)
    state.remove(f"accounts/{args.EMAIL}")
    state.remove(f"ids/{account['uniqueId']}")
    state.remove(f"policies/account.{args.EMAIL}")
    take_out(account)
    print(f"deleted service account [{args.EMAIL}]", file=sys.stderr)


@command("iam service-accounts get-iam-policy", "EMAIL")
def get_account_policy(args):
    return shown_policy(f"account.{account_of(args.EMAIL)['email']}")


@command("iam service-accounts set-iam-policy", "EMAIL", "FILE")
def set_account_policy(args):
    return set_policy(f"account.{account_of(args.EMAIL)['email']}", args.FILE)


@command("iam service-accounts add-iam-policy-binding", "EMAIL", *BINDING)
def add_account_binding(args):
    return change_policy(f"account.{account_of(args.EMAIL)['email']}", args, add=True)


@command("iam service-accounts remove-iam-policy-binding", "EMAIL", *BINDING, "--all!")
def remove_account_binding(args):
    return change_policy(f"account.{account_of(args.EMAIL)['email']}", args, add=False)


# ---- keys


@command("iam service-accounts keys create", "FILE", "--iam-account")
def create_key(args):
    from tool.local import tokens

    account = account_of(args.iam_account)
    private, certificate = tokens.key_pair(args.iam_account)
    key_id = tokens.key_id(certificate)
    keep_keys(account, {**account.get("keys", {}), key_id: certificate.decode()})
    project = state.read("project")
    content = {
        "type": "service_account",
        "project_id": project["id"],
        "private_key_id": key_id,
        "private_key": private.decode(),
        "client_email": args.iam_account,
        "client_id": account["uniqueId"],
        "token_uri": f"http://127.0.0.1:{project['token_port']}/token",
        "universe_domain": "googleapis.com",
    }
    tokens.write_private(args.FILE, json.dumps(content, indent=2).encode())
    made = f"created key [{key_id}] of type [json] as [{args.FILE}] for [{args.iam_account}]"
    print(made, file=sys.stderr)


@command("iam service-accounts keys list", "--iam-account", "--managed-by")
def list_keys(args):
    account = account_of(args.iam_account)
    project = state.read("project")["id"]
    name = f"projects/{project}/serviceAccounts/{account['email']}/keys"
    return [
        {"keyType": "USER_MANAGED", "name": f"{name}/{key_id}"}
        for key_id in account.get("keys", {})
    ]


@command("iam service-accounts keys delete", "KEY", "--iam-account")
def delete_key(args):
    account = account_of(args.iam_account)
    keys, key = account.get("keys", {}), args.KEY.rpartition("/")[2]
    if key not in keys:
        raise Failed(f"NOT_FOUND: Service account key {key} does not exist.")
    keep_keys(account, {key_id: content for key_id, content in keys.items() if key_id != key})
    print(f"deleted key [{key}] for service account [{args.iam_account}]", file=sys.stderr)


def keep_keys(account: dict, keys: dict) -> None:
    state.write(f"accounts/{account['email']}", {**account, "keys": keys})


# ---- roles


@command("iam roles create", "NAME", "--permissions", "--title", "--stage")
def create_role(args):
    permissions = sorted((args.permissions or "").split(","))
    state.write(f"roles/{args.NAME}", {"permissions": permissions})
    print(f"Created role [{args.NAME}].", file=sys.stderr)


@command("iam roles describe", "ROLE")
def describe_role(args):
    name = args.ROLE
    if args.project and "/" not in name:  # with --project it is one of the project's own
        name = f"projects/{state.read('project')['id']}/roles/{name}"
    permissions = state.permissions(name)
    if not permissions:
        raise Failed(f"NOT_FOUND: The role named {name} was not found.")
    return {"includedPermissions": list(permissions), "name": name, "stage": "GA"}


# ---- secrets: a file each, in a folder that git does not see


def secret(name: str) -> pathlib.Path:
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,255}", name):
        raise Failed(f"INVALID_ARGUMENT: {name} is no name of a secret.")
    return SECRETS / name


def existing(name: str) -> str:
    if not secret(name).exists():
        project = state.read("project")["number"]
        where = f"To have it here, write its value into {secret(name)}"
        raise Failed(f"NOT_FOUND: Secret [projects/{project}/secrets/{name}] not found. {where}")
    return f"secret.{name}"


@command("secrets create", "NAME", "--data-file", "--replication-policy", "--labels")
def create_secret(args):
    from tool.local import tokens

    if secret(args.NAME).exists():
        raise Failed(f"ALREADY_EXISTS: Secret [{args.NAME}] already exists.")
    if not args.data_file:
        where = f"--data-file=-, or write it into {secret(args.NAME)}"
        raise Failed(f"a secret of the local project has a value: give it with {where}")
    file = args.data_file
    content = sys.stdin.buffer.read() if file == "-" else pathlib.Path(file).read_bytes()
    SECRETS.mkdir(mode=0o700, parents=True, exist_ok=True)
    tokens.write_private(secret(args.NAME), content)
    print(f"Created version [1] of the secret [{args.NAME}].", file=sys.stderr)


@command("secrets list")
def list_secrets(args):
    return [described(file.name) for file in sorted(SECRETS.glob("*")) if file.is_file()]


@command("secrets describe", "NAME")
def describe_secret(args):
    existing(args.NAME)
    return described(args.NAME)


def described(name: str) -> dict:
    made = datetime.datetime.fromtimestamp(secret(name).stat().st_mtime, datetime.UTC)
    name = f"projects/{state.read('project')['number']}/secrets/{name}"
    return {"createTime": made.isoformat(timespec="seconds"), "name": name}


@command("secrets delete", "NAME")
def delete_secret(args):
    existing(args.NAME)
    secret(args.NAME).unlink()
    state.remove(f"policies/secret.{args.NAME}")
    print(f"Deleted secret [{args.NAME}].", file=sys.stderr)


@command("secrets get-iam-policy", "NAME")
def get_secret_policy(args):
    return shown_policy(existing(args.NAME))


@command("secrets add-iam-policy-binding", "NAME", *BINDING)
def add_secret_binding(args):
    return change_policy(existing(args.NAME), args, add=True)


@command("secrets remove-iam-policy-binding", "NAME", *BINDING, "--all!")
def remove_secret_binding(args):
    return change_policy(existing(args.NAME), args, add=False)
