"""gcloud commands about service accounts, their keys, and roles."""

import json
import re
import sys
from argparse import Namespace
from collections.abc import Mapping

from tool.local import accounts, policies, state
from tool.local.accounts import Account, Kind
from tool.local.gcloud.command import Failed, Misused, command
from tool.local.gcloud.policy import (
    BINDING,
    add_member,
    remove_member,
    set_policy,
    shown_policy,
    take_out,
)
from tool.local.records import Json, filled


def account_of(email: str) -> Account:
    found = accounts.service_account(email)
    if not found:
        raise Failed(f"NOT_FOUND: Unknown service account: {email}")
    return found


def policy_of(email: str) -> str:
    return f"account.{account_of(email).email}"


def shown(account: Account) -> dict[str, Json]:
    project = state.project().id
    return filled(
        {
            "description": account.description,
            "displayName": account.display_name,
            "email": account.email,
            "name": f"projects/{project}/serviceAccounts/{account.email}",
            "oauth2ClientId": account.unique_id,
            "projectId": project,
            "uniqueId": account.unique_id,
        }
    )


@command("iam service-accounts create", "NAME", "--display-name", "--description")
def create_account(args: Namespace) -> None:
    if not re.fullmatch(r"[a-z][a-z0-9-]{4,28}[a-z0-9]", args.NAME):
        raise Misused(
            f"argument NAME: Bad value [{args.NAME}]: Service account name must be between 6 and 30"
            " characters (inclusive), must begin with a lowercase letter, and consist of lowercase"
            " alphanumeric characters that can be separated by hyphens."
        )
    project = state.project().id
    email = f"{args.NAME}@{project}.iam.gserviceaccount.com"
    with state.locked("accounts"):
        if accounts.account(email):
            raise Failed(
                f"Resource in projects [{project}] is the subject of a conflict: ALREADY_EXISTS:"
                f" Service account {args.NAME} already exists within project"
            )
        described = args.display_name or "", args.description or ""
        accounts.add(Kind.SERVICE_ACCOUNT, email, *described)
    print(f"Created service account [{args.NAME}].", file=sys.stderr)


@command("iam service-accounts describe", "EMAIL")
def describe_account(args: Namespace) -> object:
    return shown(account_of(args.EMAIL))


@command("iam service-accounts list")
def list_accounts(args: Namespace) -> object:
    found = (accounts.service_account(email) for email in state.names("accounts"))
    return [{"disabled": False, **shown(account)} for account in found if account]


@command("iam service-accounts delete", "EMAIL")
def delete_account(args: Namespace) -> None:
    account = account_of(args.EMAIL)
    accounts.remove(account)
    policies.remove(f"account.{account.email}")
    take_out(account)
    print(f"deleted service account [{args.EMAIL}]", file=sys.stderr)


@command("iam service-accounts get-iam-policy", "EMAIL")
def get_account_policy(args: Namespace) -> object:
    return shown_policy(policy_of(args.EMAIL))


@command("iam service-accounts set-iam-policy", "EMAIL", "FILE")
def set_account_policy(args: Namespace) -> object:
    return set_policy(policy_of(args.EMAIL), args.FILE)


@command("iam service-accounts add-iam-policy-binding", "EMAIL", *BINDING)
def add_account_binding(args: Namespace) -> object:
    return add_member(policy_of(args.EMAIL), args)


@command("iam service-accounts remove-iam-policy-binding", "EMAIL", *BINDING, "--all!")
def remove_account_binding(args: Namespace) -> object:
    return remove_member(policy_of(args.EMAIL), args)


# ---- keys


@command("iam service-accounts keys create", "FILE", "--iam-account")
def create_key(args: Namespace) -> None:
    from tool.local import tokens

    account = account_of(args.iam_account)
    private, certificate = tokens.key_pair(args.iam_account)
    key_id = tokens.key_id(certificate)
    keep_keys(account, {**account.keys, key_id: certificate.decode()})
    project = state.project()
    content = {
        "type": "service_account",
        "project_id": project.id,
        "private_key_id": key_id,
        "private_key": private.decode(),
        "client_email": account.email,
        "client_id": account.unique_id,
        "token_uri": f"http://127.0.0.1:{project.token_port}/token",
        "universe_domain": "googleapis.com",
    }
    tokens.write_private(args.FILE, json.dumps(content, indent=2).encode())
    made = f"created key [{key_id}] of type [json] as [{args.FILE}] for [{args.iam_account}]"
    print(made, file=sys.stderr)


@command("iam service-accounts keys list", "--iam-account", "--managed-by")
def list_keys(args: Namespace) -> object:
    account = account_of(args.iam_account)
    name = f"projects/{state.project().id}/serviceAccounts/{account.email}/keys"
    return [{"keyType": "USER_MANAGED", "name": f"{name}/{key_id}"} for key_id in account.keys]


@command("iam service-accounts keys delete", "KEY", "--iam-account")
def delete_key(args: Namespace) -> None:
    account = account_of(args.iam_account)
    key = args.KEY.rpartition("/")[2]
    if key not in account.keys:
        raise Failed(f"NOT_FOUND: Service account key {key} does not exist.")
    keep_keys(account, {k: content for k, content in account.keys.items() if k != key})
    print(f"deleted key [{key}] for service account [{args.iam_account}]", file=sys.stderr)


def keep_keys(account: Account, keys: Mapping[str, str]) -> None:
    accounts.put(account.but(keys=keys))


# ---- roles


@command("iam roles create", "NAME", "--permissions", "--title", "--stage")
def create_role(args: Namespace) -> None:
    permissions = sorted(args.permissions.split(",")) if args.permissions else []
    state.write(f"roles/{args.NAME}", {"permissions": permissions})
    print(f"Created role [{args.NAME}].", file=sys.stderr)


@command("iam roles describe", "ROLE")
def describe_role(args: Namespace) -> object:
    name = args.ROLE
    if args.project and "/" not in name:  # with --project it is one of the project's own
        name = f"projects/{state.project().id}/roles/{name}"
    role = policies.role(name)
    if not role:
        raise Failed(f"NOT_FOUND: The role named {name} was not found.")
    held = list(role.permissions)
    return filled({"includedPermissions": held, "name": name, "stage": "GA"})
