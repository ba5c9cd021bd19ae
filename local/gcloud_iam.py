"""gcloud commands about who is who, and who may do what: auth, projects, accounts, policies."""

import base64
import hashlib
import json
import os
import sys
import time

from local import project as state
from local.gcloud import Failed, command
from local.project import YOU


@command("auth list", "--filter")
def auth_list(args):
    return {"account": YOU, "status": "ACTIVE"}


@command("config get", "PROPERTY")
@command("config get-value", "PROPERTY")
def config_get(args):
    project = state.read("project")
    known = {"account": YOU, "project": project["id"], "run/region": project["region"]}
    return known.get(args.PROPERTY, "")


@command(
    "auth print-identity-token", "--audiences", "--impersonate-service-account", "--include-email!"
)
def print_identity_token(args):
    from local import tokens  # cryptography is slow to load, and most commands do without it

    you = state.read(f"accounts/{YOU}")
    if not args.impersonate_service_account:
        if args.audiences:
            raise Failed("Invalid account type for `--audiences`. Requires valid service account.")
        if args.include_email:
            raise Failed("Invalid account type for `--include-email`. Requires impersonation.")
        return tokens.id_token(you, tokens.GCLOUD_CLIENT_ID, azp=tokens.GCLOUD_CLIENT_ID)
    target = state.read(f"accounts/{args.impersonate_service_account}")
    if not target or not state.may_mint(you, target):
        raise Failed(
            "PERMISSION_DENIED: Permission 'iam.serviceAccounts.getAccessToken' denied on"
            " resource (or it may not exist)."
        )
    audience = args.audiences or tokens.GCLOUD_CLIENT_ID
    return tokens.id_token(target, audience, email=args.include_email)


# ---- the project and its service accounts


@command("projects describe", "ID")
def describe_project(args):
    project = state.read("project")
    if args.ID != project["id"]:
        raise Failed(f"[{YOU}] does not have permission to access projects instance [{args.ID}]")
    return {"projectId": project["id"], "projectNumber": project["number"]}


@command("projects get-iam-policy", "ID", "--flatten")
def get_project_policy(args):
    return shown_policy("_project", args.flatten)


@command("projects add-iam-policy-binding", "ID", "--member", "--role", "--condition")
def add_project_binding(args):
    return change_policy("_project", args, add=True)


@command("projects remove-iam-policy-binding", "ID", "--member", "--role", "--condition", "--all!")
def remove_project_binding(args):
    return change_policy("_project", args, add=False)


@command("projects get-ancestors-iam-policy", "ID", "--flatten")
def get_ancestors_policy(args):
    project = state.read("project")["id"]
    bindings = shown_policy("_project", "bindings[].members")
    return [
        {"id": project, "type": "project", "policy": {"bindings": b["bindings"]}} for b in bindings
    ]


@command("services list", "--enabled!")
def list_apis(args):
    return [{"config": {"name": name}} for name in state.read("project").get("apis", [])]


@command("services enable", "APIS+")
def enable_apis(args):
    project = state.read("project")
    state.write("project", {**project, "apis": sorted({*project.get("apis", []), *args.APIS})})


def account_of(email: str) -> dict:
    account = state.read(f"accounts/{email}")
    if not account or account["kind"] != "serviceAccount":
        raise Failed(f"NOT_FOUND: Unknown service account: {email}")
    return account


@command("iam service-accounts create", "NAME", "--display-name", "--description")
def create_account(args):
    email = f"{args.NAME}@{state.read('project')['id']}.iam.gserviceaccount.com"
    if state.read(f"accounts/{email}"):
        raise Failed(f"ALREADY_EXISTS: Service account {args.NAME} already exists")
    more = {"displayName": args.display_name or "", "description": args.description or ""}
    state.add_account("serviceAccount", email, **more)
    print(f"Created service account [{args.NAME}].", file=sys.stderr)


@command("iam service-accounts describe", "EMAIL")
def describe_account(args):
    return account_of(args.EMAIL)


@command("iam service-accounts list")
def list_accounts(args):
    accounts = [state.read(f"accounts/{email}") for email in state.names("accounts")]
    return [a for a in accounts if a["kind"] == "serviceAccount"]


@command("iam service-accounts delete", "EMAIL")
def delete_account(args):
    account = account_of(args.EMAIL)
    state.remove(f"accounts/{args.EMAIL}")
    # What is left of it in the policies can never be used again, nor by an account of its name.
    dead = f"deleted:{state.principal(account)}?uid={account['uniqueId']}"
    for name in state.names("policies"):
        policy = state.read(f"policies/{name}")
        for binding in policy["bindings"]:
            members = binding["members"]
            binding["members"] = [dead if m == state.principal(account) else m for m in members]
        state.write(f"policies/{name}", policy)


@command("iam service-accounts keys create", "FILE", "--iam-account")
def create_key(args):
    from local import tokens

    account = account_of(args.iam_account)
    private, certificate = tokens.key_pair(args.iam_account)
    key_id = tokens.key_id(certificate)
    keys = {**account.get("keys", {}), key_id: certificate.decode()}
    state.write(f"accounts/{args.iam_account}", {**account, "keys": keys})
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
    with open(os.open(args.FILE, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump(content, file, indent=2)
    made = f"created key [{key_id}] of type [json] as [{args.FILE}] for [{args.iam_account}]"
    print(made, file=sys.stderr)


# ---- policies


def shown_policy(name: str, flatten: str | None):
    policy = state.read(f"policies/{name}") or {}
    policy = {"bindings": policy.get("bindings", []), "version": 1}
    content = json.dumps(policy, sort_keys=True).encode()
    etag = base64.b64encode(hashlib.sha256(content).digest()[:8]).decode()
    if flatten != "bindings[].members":
        kept = {key: value for key, value in policy.items() if value}
        return {**kept, "etag": etag}
    return [
        {"bindings": {**binding, "members": member}}
        for binding in policy["bindings"]
        for member in binding["members"]
    ]


def put_policy(name: str, policy: dict) -> None:
    """Takes effect at once; or after the seconds in propagation.json, as in the cloud."""
    before = state.read(f"policies/{name}") or {}
    delay = state.read("propagation") or 0
    until = {"before": before.get("bindings", []), "from": time.time() + delay} if delay else {}
    state.write(f"policies/{name}", {**policy, **until})


def change_policy(name: str, args, add: bool):
    kind, _, who = args.member.partition(":")
    if kind == "serviceAccount" and not state.read(f"accounts/{who}"):
        raise Failed(f"INVALID_ARGUMENT: Service account {who} does not exist.")
    policy = state.read(f"policies/{name}") or {"bindings": [], "version": 1}
    binding = next((b for b in policy["bindings"] if b["role"] == args.role), None)
    if add and not binding:
        policy["bindings"].append({"role": args.role, "members": [args.member]})
    elif add and args.member not in binding["members"]:
        binding["members"].append(args.member)
    elif not add and (not binding or args.member not in binding["members"]):
        raise Failed("Policy binding with the specified principal and role not found!")
    elif not add:
        binding["members"].remove(args.member)
        policy["bindings"] = [b for b in policy["bindings"] if b["members"]]
    put_policy(name, policy)
    return shown_policy(name, None)
