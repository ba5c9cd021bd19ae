"""gcloud commands about who you are, and about the project: auth, config, projects, services."""

import sys

from tool.local import roles, state
from tool.local.gcloud.command import Failed, command, configured
from tool.local.gcloud.policy import change_policy, shown_policy
from tool.local.state import YOU

IMPERSONATION = "--impersonate-service-account"


@command("auth list")
def auth_list(args):
    if not args.format and not args.filter:
        return f"Credentialed Accounts\nACTIVE  ACCOUNT\n*       {YOU}"
    return [{"account": YOU, "status": "ACTIVE"}]


@command("auth print-identity-token", "ACCOUNT?", "--audiences", IMPERSONATION, "--include-email!")
def print_identity_token(args):
    from tool.local import tokens  # cryptography is slow to load, and most commands do without it

    if not args.impersonate_service_account:
        if args.audiences:
            raise Failed("Invalid account type for `--audiences`. Requires valid service account.")
        if args.include_email:
            raise Failed("Invalid account type for `--include-email`. Requires impersonation.")
        return tokens.id_token(
            state.account(YOU), tokens.GCLOUD_CLIENT_ID, azp=tokens.GCLOUD_CLIENT_ID
        )
    audience = args.audiences or tokens.GCLOUD_CLIENT_ID
    return tokens.id_token(impersonated(args), audience, email=args.include_email)


@command("auth print-access-token", "ACCOUNT?", IMPERSONATION)
def print_access_token(args):
    from tool.local import tokens

    who = impersonated(args) if args.impersonate_service_account else state.account(YOU)
    return tokens.access_token(who)


def impersonated(args) -> dict:
    """The account to act as. gcloud fetches an access token of it first, whatever it wants."""
    email = args.impersonate_service_account
    target = state.service_account(email)
    if not target or not state.allowed(roles.ACCESS_TOKEN, state.account(YOU), f"account.{email}"):
        raise Failed(
            f"PERMISSION_DENIED: Permission '{roles.ACCESS_TOKEN}' denied on resource (or it may"
            " not exist)."
        )
    return target


# ---- config


def properties() -> dict[str, str]:
    project = state.read("project")
    known = {"core/account": YOU, "core/project": project["id"], "run/region": project["region"]}
    return {**known, **(state.read("config") or {})}


def full_name(name: str) -> str:
    return name if "/" in name else f"core/{name}"


@command("config get", "PROPERTY")
@command("config get-value", "PROPERTY")
def config_get(args):
    name = full_name(args.PROPERTY)
    found = configured(name) or properties().get(name)
    if found is None:
        print("(unset)", file=sys.stderr)
    return found


@command("config set", "PROPERTY", "VALUE")
def config_set(args):
    name, project = full_name(args.PROPERTY), state.read("project")
    fixed = {"core/account": YOU, "core/project": project["id"], "run/region": project["region"]}
    if fixed.get(name, args.VALUE) != args.VALUE:
        raise Failed(f"{name} of the local project is {fixed[name]}, and cannot be another")
    state.write("config", {**(state.read("config") or {}), name: args.VALUE})
    print(f"Updated property [{name}].", file=sys.stderr)


@command("config unset", "PROPERTY")
def config_unset(args):
    name = full_name(args.PROPERTY)
    kept = {key: value for key, value in (state.read("config") or {}).items() if key != name}
    state.write("config", kept)
    print(f"Unset property [{name}].", file=sys.stderr)


@command("config list")
def config_list(args):
    sections: dict = {}
    for name, content in sorted(properties().items()):
        section, _, key = name.partition("/")
        sections.setdefault(section, {})[key] = content
    if args.format:
        return sections
    blocks = ([f"[{name}]", *(f"{k} = {v}" for k, v in s.items())] for name, s in sections.items())
    return "\n".join(line for block in blocks for line in block)


# ---- the project


def this_project(wanted: str) -> dict:
    project = state.read("project")
    if wanted not in (project["id"], project["number"]):
        raise Failed(
            f"[{YOU}] does not have permission to access projects instance [{wanted}] (or it may"
            " not exist)"
        )
    number = project["number"]
    return {
        "lifecycleState": "ACTIVE",
        "name": project["id"],
        "projectId": project["id"],
        "projectNumber": number,
    }


@command("projects describe", "ID")
def describe_project(args):
    return this_project(args.ID)


@command("projects list")
def list_projects(args):
    project = this_project(state.read("project")["id"])
    if args.format:
        return [project]
    line = f"{project['projectId']}  {project['name']}  {project['projectNumber']}"
    return f"PROJECT_ID  NAME  PROJECT_NUMBER\n{line}"


@command("projects get-iam-policy", "ID")
def get_project_policy(args):
    this_project(args.ID)
    return shown_policy("_project")


@command("projects add-iam-policy-binding", "ID", "--member", "--role", "--condition")
def add_project_binding(args):
    this_project(args.ID)
    return change_policy("_project", args, add=True)


@command("projects remove-iam-policy-binding", "ID", "--member", "--role", "--condition", "--all!")
def remove_project_binding(args):
    this_project(args.ID)
    return change_policy("_project", args, add=False)


@command("projects get-ancestors-iam-policy", "ID", "--include-deny!")
def get_ancestors_policy(args):
    this_project(args.ID)
    return [
        {"id": state.read("project")["id"], "policy": shown_policy("_project"), "type": "project"}
    ]


@command("services list", "--enabled!", "--available!")
def list_apis(args):
    return [
        {"config": {"name": name}, "state": "ENABLED"} for name in state.read("project")["apis"]
    ]


@command("services enable", "APIS+", "--async!")
def enable_apis(args):
    with state.locked("project"):
        project = state.read("project")
        state.write("project", {**project, "apis": sorted({*project["apis"], *args.APIS})})
