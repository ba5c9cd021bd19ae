"""gcloud commands about service accounts, their keys, and roles."""

import json
import re
import sys

from tool.local import state
from tool.local.gcloud.command import Failed, command
from tool.local.gcloud.policy import BINDING, change_policy, set_policy, shown_policy, take_out


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
