"""gcloud commands about who you are, and about the project: auth, config, projects, services."""

import sys
from argparse import Namespace

from tool.local import accounts, policies, roles, state
from tool.local.accounts import Account
from tool.local.gcloud.command import Failed, command, configured
from tool.local.gcloud.policy import BINDING, add_member, remove_member, shown_policy
from tool.local.state import YOU

IMPERSONATION = "--impersonate-service-account"


@command("auth list")
def auth_list(args: Namespace) -> object:
    if not args.format and not args.filter:
        return f"Credentialed Accounts\nACTIVE  ACCOUNT\n*       {YOU}"
    return [{"account": YOU, "status": "ACTIVE"}]


@command("auth print-identity-token", "ACCOUNT?", "--audiences", IMPERSONATION, "--include-email!")
def print_identity_token(args: Namespace) -> object:
    from tool.local import tokens  # cryptography is slow to load, and most commands do not need it

    gcloud = tokens.GCLOUD_CLIENT_ID
    if args.impersonate_service_account:
        account = impersonated(args.impersonate_service_account)
        return tokens.id_token(account, args.audiences or gcloud, email=args.include_email)
    if args.audiences:
        raise Failed("Invalid account type for `--audiences`. Requires valid service account.")
    if args.include_email:
        raise Failed("Invalid account type for `--include-email`. Requires impersonation.")
    return tokens.id_token(accounts.you(), gcloud, azp=gcloud)


@command("auth print-access-token", "ACCOUNT?", IMPERSONATION)
def print_access_token(args: Namespace) -> object:
    from tool.local import tokens

    email = args.impersonate_service_account
    return tokens.access_token(impersonated(email) if email else accounts.you())


def impersonated(email: str) -> Account:
    """The account to act as. Whatever it wants, gcloud first fetches an access token for it."""
    target = accounts.service_account(email)
    if not target or not policies.allowed(roles.ACCESS_TOKEN, accounts.you(), f"account.{email}"):
        raise Failed(
            f"PERMISSION_DENIED: Permission '{roles.ACCESS_TOKEN}' denied on resource (or it may"
            " not exist)."
        )
    return target


# ---- config


def fixed() -> dict[str, str]:
    """The properties that no command changes."""
    project = state.project()
    return {"core/account": YOU, "core/project": project.id, "run/region": project.region}


def properties() -> dict[str, str]:
    return fixed() | (state.read("config") or {})


def full_name(name: str) -> str:
    return name if "/" in name else f"core/{name}"


@command("config get", "PROPERTY")
@command("config get-value", "PROPERTY")
def config_get(args: Namespace) -> object:
    name = full_name(args.PROPERTY)
    found = configured(name) or properties().get(name)
    if found is None:
        print("(unset)", file=sys.stderr)
    return found


@command("config set", "PROPERTY", "VALUE")
def config_set(args: Namespace) -> None:
    name = full_name(args.PROPERTY)
    only = fixed().get(name, args.VALUE)
    if only != args.VALUE:
        raise Failed(f"{name} of the local project is {only}, and cannot be another")
    state.write("config", {**(state.read("config") or {}), name: args.VALUE})
    print(f"Updated property [{name}].", file=sys.stderr)


@command("config unset", "PROPERTY")
def config_unset(args: Namespace) -> None:
    name = full_name(args.PROPERTY)
    kept = {key: value for key, value in (state.read("config") or {}).items() if key != name}
    state.write("config", kept)
    print(f"Unset property [{name}].", file=sys.stderr)


@command("config list")
def config_list(args: Namespace) -> object:
    sections: dict[str, dict[str, str]] = {}
    for name, content in sorted(properties().items()):
        section, _, key = name.partition("/")
        sections.setdefault(section, {})[key] = content
    if args.format:
        return sections
    blocks = ([f"[{name}]", *(f"{k} = {v}" for k, v in s.items())] for name, s in sections.items())
    return "\n".join(line for block in blocks for line in block)


# ---- the project


def this_project(wanted: str) -> dict[str, str]:
    project = state.project()
    if wanted not in (project.id, project.number):
        raise Failed(
            f"[{YOU}] does not have permission to access projects instance [{wanted}] (or it may"
            " not exist)"
        )
    return {
        "lifecycleState": "ACTIVE",
        "name": project.id,
        "projectId": project.id,
        "projectNumber": project.number,
    }


@command("projects describe", "ID")
def describe_project(args: Namespace) -> object:
    return this_project(args.ID)


@command("projects list")
def list_projects(args: Namespace) -> object:
    project = state.project()
    if args.format:
        return [this_project(project.id)]
    return f"PROJECT_ID  NAME  PROJECT_NUMBER\n{project.id}  {project.id}  {project.number}"


@command("projects get-iam-policy", "ID")
def get_project_policy(args: Namespace) -> object:
    this_project(args.ID)
    return shown_policy(policies.PROJECT)


@command("projects add-iam-policy-binding", "ID", *BINDING)
def add_project_binding(args: Namespace) -> object:
    this_project(args.ID)
    return add_member(policies.PROJECT, args)


@command("projects remove-iam-policy-binding", "ID", *BINDING, "--all!")
def remove_project_binding(args: Namespace) -> object:
    this_project(args.ID)
    return remove_member(policies.PROJECT, args)


@command("projects get-ancestors-iam-policy", "ID", "--include-deny!")
def get_ancestors_policy(args: Namespace) -> object:
    this_project(args.ID)
    policy = shown_policy(policies.PROJECT)
    return [{"id": state.project().id, "policy": policy, "type": "project"}]


@command("services list", "--enabled!", "--available!")
def list_apis(args: Namespace) -> object:
    project = state.project()
    parent = f"projects/{project.number}"
    return [
        {"config": {"name": api}, "name": f"{parent}/services/{api}", "parent": parent, "state": "ENABLED"}
        for api in project.apis
    ]


@command("services enable", "APIS+", "--async!")
def enable_apis(args: Namespace) -> None:
    with state.locked("project"):
        project = state.project()
        state.put_project(project.but(apis=sorted({*project.apis, *args.APIS})))
